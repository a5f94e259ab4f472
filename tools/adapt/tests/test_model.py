"""The forward pass against transformers, and keys and values as the codec sees them."""

import struct

import numpy as np
import pytest
import torch
from conftest import TINY, VECTORS

from cga_adapt import checkpoint
from cga_adapt.model import Channels, Model, capture, rotate


def reference(name: str) -> tuple[list[int], np.ndarray]:
    """tests/vectors/make_logits.py's file: ids and transformers' logits [t, n_vocab] of a tiny model."""
    raw = (VECTORS / "logits" / f"{name}.logits").read_bytes()
    n_vocab, top, n_texts, n = struct.unpack_from("<4i", raw, 8)
    assert (raw[:4], top, n_texts) == (b"CGAL", 0, 1)
    ids = list(struct.unpack_from(f"<{n}i", raw, 24))
    return ids, np.frombuffer(raw, "<f4", n * n_vocab, 24 + 4 * n).reshape(n, n_vocab)


@pytest.mark.parametrize("name", TINY)
def test_logits_of_gguf_are_those_of_transformers(tiny, name):
    ids, expected = reference(name)
    model = tiny(name)[1]
    logits = model.logits(model.hidden(torch.tensor(ids))).numpy()
    assert np.abs(logits - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("family, extra", [
    ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}),
    ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}})])
def test_folder_agrees_with_transformers(tmp_path, family, extra):
    transformers = pytest.importorskip("transformers")
    config, cls = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
                   "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)}[family]
    theirs = cls(config(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
                        num_key_value_heads=2, max_position_embeddings=128, **extra)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(3.0)
    theirs.save_pretrained(tmp_path)
    ours = Model(checkpoint.load(tmp_path), "cpu", torch.float32)
    ids = torch.randint(0, 97, (100,))
    with torch.no_grad():
        expected = theirs(ids[None], use_cache=True)
    hidden, keys, values = capture(ours, ids)
    assert torch.allclose(ours.logits(hidden), expected.logits[0], atol=2e-4, rtol=1e-3)
    for layer, (k, v) in enumerate(zip(keys, values)):
        cached = expected.past_key_values.layers[layer]
        assert torch.allclose(k.transpose(0, 1), cached.keys[0], atol=1e-4)
        assert torch.allclose(v.transpose(0, 1), cached.values[0], atol=1e-4)


def test_channels_come_back_and_keys_are_in_the_pages_frame(tiny):
    model = tiny("llama-legacy")[1]
    c, n = model.config, 150
    plain = torch.randn(c.n_layers, n, c.n_kv_heads, c.head_dim)
    keys = [rotate(k, *model.angles(torch.arange(n))) for k in plain]
    values = list(torch.randn_like(plain))
    channels = Channels(model, [1, 1], n)
    groups = channels.split(keys, values)
    assert [tuple(g.shape) for g in groups] == [(n, 2 * c.kv_channels)] * 2
    local = rotate(plain[1], *model.angles(torch.arange(n) % 64)).flatten(1)
    assert torch.allclose(groups[1][:, :c.kv_channels], local, atol=1e-4)
    back_keys, back_values = channels.join(groups, torch.float32)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(keys + values, back_keys + back_values))


def test_other_architectures_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt_neox"}')
    with pytest.raises(ValueError, match="gpt_neox"):
        checkpoint.load(tmp_path)
