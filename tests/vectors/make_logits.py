"""Writes tests/vectors/logits/*.logits: what Hugging Face transformers computes in fp32 from the weights of a
GGUF file, dequantised. These files decide whether the engine is right.

    python make_logits.py tiny                # all of tests/vectors/tiny
    python make_logits.py MODEL.gguf …        # checkpoints

A tiny model's file holds all logits of one random sequence. A checkpoint's holds, for each position of some
short texts, the log-probabilities of the most likely tokens and of all others together: merging outcomes can
only lower a KL divergence, and what the tail hides is bounded by its mass.

Format: little-endian 32-bit words, integers (i) and floats (f), one after another.

    "CGAL" i version=1, i n_vocab, i top (0: full logits), i n_texts; then for each text
    i n_tokens, i ids[n_tokens], and for each position, in order,
        top = 0:  f logits[n_vocab]
        top > 0:  i ids[top], f log_probs[top], f log_prob of all others together
"""
import pathlib
import struct
import sys

import numpy as np
import torch
from gguf import GGUFReader, quants
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

HERE = pathlib.Path(__file__).parent
TOP = 32
TINY_TOKENS = 72  # more than a page of the KV cache, and not a multiple of anything

TEXTS = [
    # English prose, past one page of the KV cache.
    "The lighthouse keeper had counted ships for thirty-one years, and in all that time he had never once been "
    "wrong about the weather. So when he told the fishermen of the village to stay at home that Tuesday, in "
    "spite of the clear sky and the flat, silver sea, every one of them tied up his boat and went back to bed. "
    "The storm came at noon.",
    # Code.
    "#include <vector>\n\n// Returns the prefix sums of `values`.\nstd::vector<int> prefix_sums(const "
    "std::vector<int>& values) {\n  std::vector<int> sums(values.size() + 1, 0);\n  for (size_t i = 0; i < "
    "values.size(); ++i) {\n    sums[i + 1] = sums[i] + values[i];\n  }\n  return sums;\n}\n",
    # Other languages, emoji, numbers.
    "Der Zug nach Köln fährt um 14:35 Uhr ab. 今天天气很好，我们去公园散步吧。 Сколько стоит этот билет? "
    "مرحبا بالعالم 🚂🌍 3.14159265",
    # A conversation.
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nWhat is the capital of "
    "France, and which river runs through it?<|im_end|>\n<|im_start|>assistant\nThe capital of France is "
    "Paris, and the Seine runs through it.<|im_end|>\n",
]

# ---- the model, as transformers builds it ---------------------------------------------------------------


def unpermute(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undoes the conversion of llama's q and k to GGUF, which moves row (half, i) of a head to row 2i + half so
    that RoPE's pairs are neighbours."""
    rows, cols = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def load(path: pathlib.Path) -> tuple[torch.nn.Module, GGUFReader]:
    reader = GGUFReader(path)
    family = reader.fields["general.architecture"].contents()

    def value(key, default=None):
        found = reader.fields.get(f"{family}.{key}")
        return found.contents() if found else default

    tensors = {t.name: t for t in reader.tensors}
    n_heads, n_kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    rope = {"rope_type": "default", "rope_theta": value("rope.freq_base", 10000.0)}
    if value("rope.scaling.type") == "linear":
        rope |= {"rope_type": "linear", "factor": value("rope.scaling.factor")}
    config_type, model_type = {"llama": (LlamaConfig, LlamaForCausalLM),
                               "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[family]
    config = config_type(
        vocab_size=int(tensors["token_embd.weight"].shape[1]),
        hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"), num_attention_heads=n_heads, num_key_value_heads=n_kv_heads,
        head_dim=value("attention.key_length", value("embedding_length") // n_heads),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"), rope_parameters=rope,
        max_position_embeddings=value("context_length"), tie_word_embeddings="output.weight" not in tensors,
        use_sliding_window=False, attn_implementation="eager", dtype="float32")
    with torch.device("meta"):
        model = model_type(config)
    model.load_state_dict(state(tensors, family, n_heads, n_kv_heads), strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers are not in the state
    if "rope_freqs.weight" in tensors:
        model.model.rotary_emb.inv_freq /= torch.from_numpy(tensors["rope_freqs.weight"].data.copy())
    unset = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not unset, unset
    return model.eval(), reader


NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def state(tensors: dict, family: str, n_heads: int, n_kv_heads: int) -> dict[str, torch.Tensor]:
    """The file's tensors, dequantised and under transformers' names. Every tensor must have a place."""
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}
    result = {}
    for name, tensor in tensors.items():
        if name == "rope_freqs.weight":
            continue
        data = quants.dequantize(tensor.data, tensor.tensor_type)
        if name in top:
            result[top[name]] = torch.from_numpy(np.array(data))
            continue
        _, layer, role, kind = name.split(".")
        if family == "llama" and role in ("attn_q", "attn_k"):
            assert kind == "weight"
            data = unpermute(data, n_heads if role == "attn_q" else n_kv_heads)
        result[f"model.layers.{layer}.{NAMES[role]}.{kind}"] = torch.from_numpy(np.array(data))
    return result


def tokenizer(reader: GGUFReader) -> Tokenizer:
    """The file's vocabulary with GPT-2's splitting: close enough to give the ids a text would have."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    result = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.add_special_tokens([AddedToken(t, special=True) for t, kind in zip(tokens, kinds) if kind == 3])
    return result


# ---- the reference ---------------------------------------------------------------------------------------


@torch.no_grad()
def logits_of(model: torch.nn.Module, ids: list[int]) -> np.ndarray:
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()  # [n_tokens, n_vocab]


def full_rows(logits: np.ndarray) -> bytes:
    return logits.astype("<f4").tobytes()


def top_rows(logits: np.ndarray) -> bytes:
    out = bytearray()
    for row in logits.astype(np.float64):
        log_probs = row - row.max()
        log_probs -= np.log(np.exp(log_probs).sum())
        order = np.argsort(-log_probs, kind="stable")
        rest = np.log(np.exp(log_probs[order[TOP:]]).sum())
        out += order[:TOP].astype("<i4").tobytes() + log_probs[order[:TOP]].astype("<f4").tobytes()
        out += struct.pack("<f", rest)
    return bytes(out)


def report(name: str, logits: np.ndarray, ids: list[int]) -> None:
    log_probs = torch.log_softmax(torch.from_numpy(logits.astype(np.float64)), dim=-1).numpy()
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=1).mean()
    tail = 1 - np.sort(np.exp(log_probs), axis=1)[:, -TOP:].sum(axis=1).mean()
    likelihood = -log_probs[np.arange(len(ids) - 1), ids[1:]].mean()
    print(f"{name}: {len(ids)} tokens, logits' std {logits.std(axis=1).mean():.2f}, entropy {entropy:.2f}, "
          f"outside the top {TOP} {tail:.3f}, cross-entropy of the text {likelihood:.2f}")


def make(path: pathlib.Path, tiny: bool) -> None:
    model, reader = load(path)
    n_vocab = model.config.vocab_size
    if tiny:
        texts = [np.random.default_rng(72).integers(0, n_vocab, TINY_TOKENS).tolist()]
    else:
        encoder = tokenizer(reader)
        texts = [encoder.encode(text).ids for text in TEXTS]
    out = bytearray(b"CGAL" + struct.pack("<4i", 1, n_vocab, 0 if tiny else TOP, len(texts)))
    for ids in texts:
        logits = logits_of(model, ids)
        out += struct.pack(f"<{len(ids) + 1}i", len(ids), *ids)
        out += full_rows(logits) if tiny else top_rows(logits)
        report(path.stem, logits, ids)
    (HERE / "logits").mkdir(exist_ok=True)
    (HERE / "logits" / f"{path.stem}.logits").write_bytes(out)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument == "tiny":
            for file in sorted((HERE / "tiny").glob("*.gguf")):
                make(file, tiny=True)
        else:
            make(pathlib.Path(argument), tiny=False)
