"""The sidecar in memory and on disk: docs/sidecar.md is the format."""

import dataclasses
import hashlib
import json
import os

import numpy as np
import torch

from . import __version__, adapter, index, safetensors_file
from .layout import PAGE, SINKS, UNIT

ROWS = 128  # channels that share a scale of the int8 basis
CODEBOOK_WIDTHS = (1, 2, 4)


@dataclasses.dataclass
class Group:
    """The transform of one layer group. n channels, m components, the first w of them in 16 bits."""
    mean: torch.Tensor         # [n], f32
    scale: torch.Tensor        # [n], f32: the sensitivity, > 0
    variance: torch.Tensor     # [m], f32: > 0, not increasing
    basis_wide: torch.Tensor   # [w, n], f16
    basis: torch.Tensor        # [m - w, n], i8
    basis_scale: torch.Tensor  # [m - w, n / 128], f16
    codebooks: dict[int, torch.Tensor]  # width → [2 ** width], f32, increasing

    @property
    def n_channels(self) -> int:
        return len(self.mean)

    @property
    def n_components(self) -> int:
        return len(self.variance)

    @property
    def n_wide(self) -> int:
        return len(self.basis_wide)

    def basis_matrix(self) -> torch.Tensor:
        """U transposed as it is stored, rounded: [m, n], f32."""
        narrow = self.basis.float().unflatten(1, (-1, ROWS)) * self.basis_scale.float()[:, :, None]
        return torch.cat([self.basis_wide.float(), narrow.flatten(1)])

    def to(self, device: torch.device | str) -> "Group":
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        books = {b: c.to(device) for b, c in fields.pop("codebooks").items()}
        return Group(**{k: v.to(device) for k, v in fields.items()}, codebooks=books)

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        fields = ("mean", "scale", "variance", "basis_wide", "basis", "basis_scale")
        out = {f"{prefix}.{f}": getattr(self, f).cpu().numpy() for f in fields}
        return out | {f"{prefix}.codebook{b}": c.cpu().numpy() for b, c in self.codebooks.items()}

    @staticmethod
    def from_tensors(tensors: dict[str, np.ndarray], prefix: str) -> "Group":
        get = lambda name: torch.from_numpy(np.array(tensors[f"{prefix}.{name}"]))
        fields = ("mean", "scale", "variance", "basis_wide", "basis", "basis_scale")
        return Group(**{f: get(f) for f in fields}, codebooks={b: get(f"codebook{b}") for b in CODEBOOK_WIDTHS})


@dataclasses.dataclass
class Sidecar:
    metadata: dict
    groups: list[Group]
    anchors: list["index.Anchor"] = dataclasses.field(default_factory=list)  # none where no index was trained
    adapters: list["adapter.Adapter"] = dataclasses.field(default_factory=list)  # a layer each, or none

    def write(self, path: str | os.PathLike) -> None:
        tensors = {}
        for g, group in enumerate(self.groups):
            tensors |= group.tensors(f"group.{g}")
        for anchor in self.anchors:
            tensors |= anchor.tensors()
        for layer, own in enumerate(self.adapters):
            tensors |= own.tensors(layer)
        text = {k: v if isinstance(v, str) else json.dumps(v, separators=(",", ":")) for k, v in self.metadata.items()}
        safetensors_file.write(path, tensors, text)

    @staticmethod
    def read(path: str | os.PathLike) -> "Sidecar":
        tensors, text = safetensors_file.read(path)
        words = ("format", "architecture", "fingerprint", "tool")
        metadata = {k: v if k in words else json.loads(v) for k, v in text.items()}
        if metadata.get("format") != "cga-sidecar" or metadata.get("format_version") != 1:
            raise ValueError(f"{path}: not a sidecar of format version 1")
        sizes = metadata.get("select_layers", [])
        return Sidecar(metadata, [Group.from_tensors(tensors, f"group.{g}") for g in range(len(metadata["group_layers"]))],
                       [index.Anchor.from_tensors(tensors, sum(sizes[:i]), n) for i, n in enumerate(sizes)],
                       read_adapters(path, tensors, metadata))


def read_adapters(path: str | os.PathLike, tensors: dict[str, np.ndarray], metadata: dict) -> list["adapter.Adapter"]:
    if "lora" not in metadata:
        return []
    shape = metadata["lora"]["rank"], metadata["dim"], metadata["n_heads"] * metadata["head_dim"]
    try:
        return [adapter.Adapter.from_tensors(tensors, layer, *shape) for layer in range(metadata["n_layers"])]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def fingerprint(architecture: str, shape: tuple[int, int, int, int, int], vectors: list[np.ndarray]) -> str:
    """shape: n_layers, n_heads, n_kv_heads, head_dim, dim. vectors: the norms and biases in the format's order."""
    digest = hashlib.sha256(" ".join([architecture, *map(str, shape)]).encode() + b"\n")
    for vector in vectors:
        digest.update(np.ascontiguousarray(vector, "<f4").tobytes())
    return digest.hexdigest()


def tool() -> str:
    return f"cga_adapt {__version__}"


def round_narrow(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 rows [k, n] and f16 scales [k, n / 128]. Of a few scales at and below the largest value's, each block
    takes the one with the smallest squared error: clipping a peak can pay for finer steps everywhere else."""
    blocks = rows.float().unflatten(1, (-1, ROWS))  # [k, n / 128, 128]
    peak = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-7) / 127
    best_error = torch.full_like(peak, torch.inf)
    best_code, best_scale = torch.zeros_like(blocks), torch.zeros_like(peak)
    for factor in np.linspace(1.0, 0.85, 7):
        scale = (peak * factor).half().float().clamp(min=2.0 ** -24)
        code = torch.round(blocks / scale).clamp(-127, 127)
        error = (code * scale - blocks).square().sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_code, best_scale = torch.where(better, code, best_code), torch.where(better, scale, best_scale)
    return best_code.flatten(1).to(torch.int8), best_scale[..., 0].half()
