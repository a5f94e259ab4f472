"""How layers are cut into groups when nobody says."""

import dataclasses

import numpy as np
import pytest
import torch

from cga_adapt import cli, grouping
from cga_adapt.checkpoint import Config

SMOLLM2 = Config("llama", n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64, dim=576, eps=1e-5, rope_theta=1e5)
LLAMA3_8B = Config("llama", n_layers=32, n_heads=32, n_kv_heads=8, head_dim=128, dim=4096, eps=1e-5, rope_theta=5e5)


def test_candidates_are_even_cuts_with_sensible_numbers_of_channels():
    assert grouping.candidates(SMOLLM2) == [[15, 15], [10, 10, 10], [7, 8, 7, 8], [6, 6, 6, 6, 6]]
    assert grouping.candidates(LLAMA3_8B)[0] == [4] * 8
    tiny = dataclasses.replace(SMOLLM2, n_layers=3, n_kv_heads=1)
    assert grouping.candidates(tiny) == [[3]]  # too small to be cut: whole


def test_groups_must_have_whole_blocks_of_channels():
    odd = dataclasses.replace(SMOLLM2, n_layers=3, n_kv_heads=1, head_dim=16)
    with pytest.raises(ValueError, match="--group-layers"):
        grouping.candidates(odd)


def test_the_smallest_of_the_good_ones_is_chosen(monkeypatch):
    measured = {15: (1.00, 300), 10: (1.02, 200), 8: (1.06, 100), 6: (1.5, 80)}
    monkeypatch.setattr(grouping, "measure", lambda model, sequences, cut, *_: measured[max(cut)])
    model = type("Any", (), {"config": SMOLLM2})
    pick = lambda within: grouping.choose(model, [np.zeros(4)] * 3, lambda cut: None, 1, within, 0)[0]
    assert max(pick(0.0)) == 15 and max(pick(0.03)) == 10 and max(pick(0.1)) == 8


def test_a_candidate_is_measured_on_the_model(tiny, monkeypatch):
    model = tiny("qwen2-mixed")[1]
    monkeypatch.setattr(grouping, "CHANNELS", (128, 256))
    texts = [torch.randint(0, 250, (200,)).numpy().astype(np.int32) for _ in range(4)]
    chosen, lines = grouping.choose(model, texts[:3], lambda cut: cli.ChannelSource(model, cut, texts[3:]), 10**9, 0.0, 0)
    assert sorted(map(len, grouping.candidates(model.config))) == [1, 2]
    assert sum(chosen) == model.config.n_layers and len(lines) == 2 and sum("chosen" in line for line in lines) == 1
    errors = [float(line.split("error ")[1].split()[0]) for line in lines]
    assert min(errors) == 1.0
