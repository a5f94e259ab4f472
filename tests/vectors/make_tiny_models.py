"""Writes tests/vectors/tiny/*.gguf: random models small enough to check in, which between them use both
families, all eleven weight types, and every optional part of the architecture (tied and own heads, biases,
grouped heads, frequency factors, linear RoPE scaling, heads whose sizes do not add up to the model's).

The weights mean nothing, but their scales are chosen so that a mistake shows: attention scores have a
standard deviation near 1.4 (no head attends evenly), logits above 2 (no distribution is flat), and no branch
drowns the residual stream. Not more: rounding activations to int8 alone, done in transformers, costs the most
sensitive of them a KL divergence near 1e-3. Same script, same bytes.

    python make_tiny_models.py        # needs requirements.txt
"""
import math
import pathlib
from dataclasses import dataclass, field

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, TokenType, quants
from tokenizers.pre_tokenizers import ByteLevel

HERE = pathlib.Path(__file__).parent


@dataclass
class Model:
    """One file. `types` gives each tensor role its weight types, a layer at a time, repeating."""
    name: str
    family: str
    pre_tokenizer: str
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_dim: int
    rope_base: float
    eps: float
    types: dict[str, list[Type]]
    biases: bool = False
    linear_scaling: float | None = None
    frequency_factors: bool = False
    seed: int = field(default=0)


MODELS = [
    # Plain floats, tied head, the shortest heads; the reference every other difference is measured against.
    Model("llama-float", "llama", "smollm", dim=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16,
          ffn_dim=96, rope_base=10000.0, eps=1e-5, seed=1,
          types={"token_embd": [Type.BF16], "attn_q": [Type.F32, Type.BF16], "attn_k": [Type.F16, Type.F32],
                 "attn_v": [Type.BF16, Type.F16], "attn_output": [Type.F16, Type.F32],
                 "ffn_gate": [Type.BF16, Type.F16], "ffn_up": [Type.F16, Type.BF16],
                 "ffn_down": [Type.F32, Type.F16]}),
    # The 32-value types, own head, one scale for all frequencies.
    Model("llama-legacy", "llama", "gpt2", dim=128, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32,
          ffn_dim=160, rope_base=10000.0, eps=1e-6, seed=2, linear_scaling=4.0,
          types={"token_embd": [Type.Q5_1], "output": [Type.Q8_0], "attn_q": [Type.Q4_0, Type.Q4_1],
                 "attn_k": [Type.Q5_0, Type.Q4_0], "attn_v": [Type.Q8_0, Type.Q5_1],
                 "attn_output": [Type.Q5_1, Type.Q5_0], "ffn_gate": [Type.Q4_0, Type.Q5_0],
                 "ffn_up": [Type.Q4_1, Type.Q4_0], "ffn_down": [Type.Q5_0, Type.Q4_1]}),
    # The 256-value types, tied head, Llama 3's frequency factors; heads together narrower than the model.
    Model("llama-k", "llama", "llama-bpe", dim=256, n_layers=2, n_heads=4, n_kv_heads=1, head_dim=32,
          ffn_dim=256, rope_base=500000.0, eps=1e-5, seed=3, frequency_factors=True,
          types={"token_embd": [Type.Q4_K], "attn_q": [Type.Q5_K, Type.Q4_K], "attn_k": [Type.Q6_K, Type.Q5_K],
                 "attn_v": [Type.Q4_K, Type.Q6_K], "attn_output": [Type.Q5_1, Type.Q4_0],
                 "ffn_gate": [Type.Q4_K, Type.Q5_K], "ffn_up": [Type.Q5_K, Type.Q4_K],
                 "ffn_down": [Type.Q6_K, Type.Q4_K]}),
    # The mixture of the Qwen2.5 checkpoints: biases, own head, a wide base.
    Model("qwen2-mixed", "qwen2", "qwen2", dim=256, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=64,
          ffn_dim=96, rope_base=1000000.0, eps=1e-6, seed=4, biases=True,
          types={"token_embd": [Type.Q5_0], "output": [Type.Q8_0], "attn_q": [Type.Q4_K, Type.Q5_0],
                 "attn_k": [Type.Q5_0, Type.Q4_K], "attn_v": [Type.Q6_K, Type.Q8_0],
                 "attn_output": [Type.Q5_0, Type.Q8_0], "ffn_gate": [Type.Q5_0, Type.Q4_K],
                 "ffn_up": [Type.Q4_K, Type.Q5_0], "ffn_down": [Type.Q4_0, Type.Q8_0]}),
]

# ---- weights ---------------------------------------------------------------------------------------------


def random_k_blocks(rng: np.random.Generator, kind: Type, n_blocks: int, std: float) -> np.ndarray:
    """Valid blocks of a K type, uint8 [n_blocks, block_bytes], whose values have mean near 0 and the given std.

    The codes are uniform; the 6-bit (Q6_K: 8-bit) scales vary fourfold, and the mins of Q4_K and Q5_K wander
    around the value that would centre their group, so that every bit of every field matters.
    """
    def halves(value):
        return (value * rng.uniform(0.9, 1.1, (n_blocks, 1))).astype(np.float16).view(np.uint8)

    if kind == Type.Q6_K:  # w = d * scale * (q - 32): ql[128], qh[64], scales[16], d
        scales = (rng.integers(24, 97, (n_blocks, 16)) * rng.choice([-1, 1], (n_blocks, 16))).astype(np.int8)
        codes = rng.integers(0, 256, (n_blocks, 192), dtype=np.uint8)
        return np.concatenate([codes, scales.view(np.uint8), halves(std / (64 * 18.5))], axis=1)

    n_codes = {Type.Q4_K: 16, Type.Q5_K: 32}[kind]  # w = d * scale * q - dmin * min: d, dmin, 12 bytes, codes
    centre, spread = (n_codes - 1) / 2, math.sqrt((n_codes**2 - 1) / 12)
    scale = rng.integers(16, 64, (n_blocks, 8))
    low = np.clip(scale + rng.integers(-3, 4, (n_blocks, 8)), 0, 63)
    packed = np.concatenate([scale[:, :4] | (scale[:, 4:] >> 4) << 6, low[:, :4] | (low[:, 4:] >> 4) << 6,
                             (scale[:, 4:] & 15) | (low[:, 4:] & 15) << 4], axis=1).astype(np.uint8)
    d = std / (42 * spread)
    codes = rng.integers(0, 256, (n_blocks, 128 if kind == Type.Q4_K else 160), dtype=np.uint8)
    return np.concatenate([halves(d), halves(d * centre), packed, codes], axis=1)


def random_matrix(rng: np.random.Generator, kind: Type, rows: int, cols: int, gain: float) -> np.ndarray:
    """A matrix that takes inputs of unit variance to outputs of standard deviation `gain`, as file bytes."""
    std = gain / math.sqrt(cols)
    if kind in (Type.Q4_K, Type.Q5_K, Type.Q6_K):
        assert cols % 256 == 0
        return random_k_blocks(rng, kind, rows * cols // 256, std).reshape(rows, -1)
    return quants.quantize(rng.normal(0, std, (rows, cols)).astype(np.float32), kind)


def frequency_factors(model: Model) -> np.ndarray:
    """Llama 3's rope_scaling (factor 8, low 1, high 4) as the divisors GGUF keeps, for a trained context of 64:
    short enough that the test's sequences reach all three regimes."""
    factor, low, high, context = 8.0, 1.0, 4.0, 64.0
    wavelength = 2 * math.pi * model.rope_base ** (np.arange(0, model.head_dim, 2) / model.head_dim)
    smooth = np.clip((context / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


LOGIT_GAIN = 2.1


def add_weights(writer: GGUFWriter, model: Model, n_vocab: int) -> None:
    rng = np.random.default_rng(model.seed)
    q_dim, kv_dim = model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim

    def matrix(role, layer, rows, cols, gain):
        kinds = model.types[role]
        kind = kinds[(layer or 0) % len(kinds)]
        name = f"{role}.weight" if layer is None else f"blk.{layer}.{role}.weight"
        writer.add_tensor(name, random_matrix(rng, kind, rows, cols, gain), raw_dtype=kind)

    def vector(name, size, mean, std):
        writer.add_tensor(name, rng.normal(mean, std, size).astype(np.float32))

    # A tied embedding is also the head: its gain is the logits', and the norms make up for its small rows.
    matrix("token_embd", None, n_vocab, model.dim, LOGIT_GAIN)
    if "output" in model.types:
        matrix("output", None, n_vocab, model.dim, LOGIT_GAIN)
    vector("output_norm.weight", model.dim, 1.0, 0.2)
    if model.frequency_factors:
        writer.add_tensor("rope_freqs.weight", frequency_factors(model))
    # What a branch adds is as large as the embedding; larger under a tied head, where a token whose own
    # embedding survives to the end predicts itself with certainty.
    branch = LOGIT_GAIN / math.sqrt(model.dim) if "output" in model.types else 0.75
    for layer in range(model.n_layers):
        vector(f"blk.{layer}.attn_norm.weight", model.dim, 1.0, 0.2)
        for role, rows, gain in (("attn_q", q_dim, 1.2), ("attn_k", kv_dim, 1.2), ("attn_v", kv_dim, 1.0)):
            matrix(role, layer, rows, model.dim, gain)
            if model.biases:
                vector(f"blk.{layer}.{role}.bias", rows, 0.0, 0.5)
        matrix("attn_output", layer, model.dim, q_dim, 1.5 * branch)
        vector(f"blk.{layer}.ffn_norm.weight", model.dim, 1.0, 0.2)
        matrix("ffn_gate", layer, model.ffn_dim, model.dim, 1.2)
        matrix("ffn_up", layer, model.ffn_dim, model.dim, 1.2)
        matrix("ffn_down", layer, model.dim, model.ffn_dim, branch)


# ---- vocabulary ------------------------------------------------------------------------------------------


def add_vocabulary(writer: GGUFWriter, pre_tokenizer: str) -> int:
    """A byte-level vocabulary: 256 bytes, two dozen merges, four special tokens. @return its size"""
    alphabet = sorted(ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n"), ("Ġ", "the"), ("o", "n"), ("r", "e"),
              ("Ġ", "a"), ("in", "g"), ("e", "d"), ("an", "d"), ("Ġ", "and"), ("o", "r"), ("Ġ", "t"), ("e", "n"),
              ("Ġ", "in"), ("Ġ", "w"), ("Ġ", "s"), ("o", "f"), ("Ġ", "of"), ("i", "t"), ("i", "s"), ("Ġ", "Ġ")]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unused|>"]
    tokens = special + alphabet + [left + right for left, right in merges]
    assert len(tokens) == len(set(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * len(special) + [TokenType.NORMAL] * (len(tokens) - len(special)))
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    return len(tokens)


# ---- files -----------------------------------------------------------------------------------------------


def write(model: Model) -> None:
    path = HERE / "tiny" / f"{model.name}.gguf"
    path.parent.mkdir(exist_ok=True)
    writer = GGUFWriter(path, model.family)
    writer.add_name(model.name)
    writer.add_block_count(model.n_layers)
    writer.add_context_length(256)
    writer.add_embedding_length(model.dim)
    writer.add_feed_forward_length(model.ffn_dim)
    writer.add_head_count(model.n_heads)
    writer.add_head_count_kv(model.n_kv_heads)
    if model.n_heads * model.head_dim != model.dim:
        writer.add_key_length(model.head_dim)
        writer.add_value_length(model.head_dim)
    writer.add_rope_dimension_count(model.head_dim)
    writer.add_rope_freq_base(model.rope_base)
    if model.linear_scaling:
        writer.add_string(f"{model.family}.rope.scaling.type", "linear")
        writer.add_float32(f"{model.family}.rope.scaling.factor", model.linear_scaling)
    writer.add_layer_norm_rms_eps(model.eps)
    n_vocab = add_vocabulary(writer, model.pre_tokenizer)
    writer.add_vocab_size(n_vocab)
    add_weights(writer, model, n_vocab)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{path.relative_to(HERE)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    for each in MODELS:
        write(each)
