"""Checkpoints: a GGUF file or a Hugging Face folder → hyperparameters, dequantised weights, fingerprint.

Weights are named by role as GGUF does (`blk.0.attn_q.weight`), with the rows of q and k in half-split order: channel i
rotates with i + head_dim / 2. GGUF's llama files interleave them; everything else here never sees that.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator

import numpy as np
import torch

from . import safetensors_file, sidecar

FAMILIES = ("llama", "qwen2")
LAYER_ROLES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP_ROLES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@dataclasses.dataclass(frozen=True)
class Config:
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dim: int
    eps: float
    rope_theta: float
    rope_divisors: tuple[float, ...] = ()  # [head_dim / 2] or none: what the frequencies are divided by
    rope_magnitude: float = 1.0

    @property
    def kv_channels(self) -> int:
        """Of the keys, or the values, of one layer."""
        return self.n_kv_heads * self.head_dim

    def frequencies(self) -> torch.Tensor:
        """[head_dim / 2], f32."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim
        divisors = torch.tensor(self.rope_divisors or [1.0], dtype=torch.float64)
        return (self.rope_theta ** -exponents / divisors).float()


class Checkpoint:
    """What the two sources have in common. A source gives `config` and `arrays`."""
    config: Config
    path: pathlib.Path

    def array(self, name: str) -> np.ndarray | None:
        """f32, in the file's own row order, by GGUF's name."""
        raise NotImplementedError

    def names(self) -> Iterator[str]:
        for l in range(self.config.n_layers):
            for role in LAYER_ROLES:
                yield f"blk.{l}.{role}.weight"
            for role in ("attn_q", "attn_k", "attn_v"):
                yield f"blk.{l}.{role}.bias"
        yield from (f"{role}.weight" for role in TOP_ROLES)

    def weights(self, device: torch.device | str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        out = {}
        for name in self.names():
            array = self.array(name)
            if array is not None:
                out[name] = torch.from_numpy(self.half_split(name, array)).to(device, dtype)
        out.setdefault("output.weight", out["token_embd.weight"])  # a tied head
        return out

    def half_split(self, name: str, array: np.ndarray) -> np.ndarray:
        return np.array(array)

    def fingerprint(self) -> str:
        c = self.config
        names = [f"blk.{l}.{role}.weight" for l in range(c.n_layers) for role in ("attn_norm", "ffn_norm")]
        names += ["output_norm.weight"]
        names += [f"blk.{l}.{role}.bias" for l in range(c.n_layers) for role in ("attn_q", "attn_k", "attn_v")]
        vectors = [array for name in names if (array := self.array(name)) is not None]
        return sidecar.fingerprint(c.architecture, (c.n_layers, c.n_heads, c.n_kv_heads, c.head_dim, c.dim), vectors)


class GgufCheckpoint(Checkpoint):
    def __init__(self, path: pathlib.Path):
        from gguf import GGUFReader
        self.path = path
        self.reader = GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        family = self.field("general.architecture")
        if family not in FAMILIES:
            raise ValueError(f"{path}: architecture '{family}' is not one of {', '.join(FAMILIES)}")
        get = lambda key, default=None: self.field(f"{family}.{key}", default)
        n_heads, dim = get("attention.head_count"), get("embedding_length")
        head_dim = get("attention.key_length", dim // n_heads)
        scaling, divisors = get("rope.scaling.type", "none"), np.ones(head_dim // 2)
        if scaling not in ("none", "linear"):
            raise ValueError(f"{path}: rope.scaling.type is '{scaling}'; none and linear are supported")
        divisors *= get("rope.scaling.factor") if scaling == "linear" else get("rope.scale_linear", 1.0)
        if "rope_freqs.weight" in self.tensors:
            divisors *= self.array("rope_freqs.weight")
        self.config = Config(family, get("block_count"), n_heads, get("attention.head_count_kv", n_heads), head_dim,
                             dim, get("attention.layer_norm_rms_epsilon"), get("rope.freq_base", 10000.0),
                             tuple(divisors.tolist()))

    def field(self, key: str, default=None):
        found = self.reader.fields.get(key)
        return found.contents() if found else default

    def array(self, name: str) -> np.ndarray | None:
        from gguf import quants
        tensor = self.tensors.get(name)
        return None if tensor is None else np.asarray(quants.dequantize(tensor.data, tensor.tensor_type), np.float32)

    def half_split(self, name: str, array: np.ndarray) -> np.ndarray:
        if self.config.architecture != "llama" or not any(f".attn_{r}." in name for r in "qk"):
            return np.array(array)
        pairs = array.reshape(-1, self.config.head_dim // 2, 2, *array.shape[1:])  # [head, pair, member, …]
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)


class HuggingFaceCheckpoint(Checkpoint):
    def __init__(self, path: pathlib.Path):
        self.path = path
        raw = json.loads((path / "config.json").read_text())
        family = raw["model_type"]
        if family not in FAMILIES:
            raise ValueError(f"{path}: model_type '{family}' is not one of {', '.join(FAMILIES)}")
        n_heads, dim = raw["num_attention_heads"], raw["hidden_size"]
        head_dim = raw.get("head_dim") or dim // n_heads
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        theta = rope.get("rope_theta") or raw.get("rope_theta") or 10000.0
        self.config = Config(family, raw["num_hidden_layers"], n_heads, raw.get("num_key_value_heads") or n_heads,
                             head_dim, dim, raw["rms_norm_eps"], float(theta),
                             rope_divisors(path, rope, float(theta), head_dim))
        self.tensors = {}
        for file in sorted(path.glob("*.safetensors")):
            self.tensors |= safetensors_file.read(file)[0]
        if not self.tensors:
            raise ValueError(f"{path}: no *.safetensors in this folder")

    def array(self, name: str) -> np.ndarray | None:
        layer, role, kind = (name.split(".")[1:] if name.startswith("blk.") else (None, *name.split(".")))
        own = f"model.layers.{layer}.{LAYER_ROLES[role]}.{kind}" if layer else f"{TOP_ROLES[role]}.{kind}"
        tensor = self.tensors.get(own)
        return None if tensor is None else np.asarray(tensor, np.float32)


def rope_divisors(path: pathlib.Path, rope: dict, theta: float, head_dim: int) -> tuple[float, ...]:
    """[head_dim / 2]: Hugging Face's scaling rules, as divisors of the frequencies."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    ones = np.ones(head_dim // 2)
    if kind == "default":
        return tuple(ones)
    if kind == "linear":
        return tuple(ones * rope["factor"])
    if kind != "llama3":
        raise ValueError(f"{path}: rope type '{kind}' is not one of default, linear, llama3")
    turns = rope["original_max_position_embeddings"] / (2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim))
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 0: slow, fully divided; 1: fast, left alone
    return tuple(1.0 / ((1 - smooth) / rope["factor"] + smooth))


def load(path: str | pathlib.Path) -> Checkpoint:
    path = pathlib.Path(path).expanduser()
    return HuggingFaceCheckpoint(path) if path.is_dir() else GgufCheckpoint(path)


def read_sidecar(path: pathlib.Path, source: Checkpoint) -> sidecar.Sidecar:
    """The sidecar of a checkpoint."""
    card = sidecar.Sidecar.read(path)
    if source.fingerprint() != card.metadata["fingerprint"]:
        raise ValueError(f"{path}: made for another checkpoint than {source.path}")
    return card
