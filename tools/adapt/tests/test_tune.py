"""Tuning: what is trained is the codec that is stored, and training helps."""

import dataclasses

import numpy as np
import pytest
import torch

from cga_adapt import bits, transform, tune
from cga_adapt.cli import ChannelSource
from cga_adapt.codec import Codec
from cga_adapt.statistics import gather
from cga_adapt.tune import Tunable

LAYERS = [1, 1]


@pytest.fixture(scope="module")
def made(tiny):
    """(model, groups, sequences): a transform as the command makes it, before tuning."""
    model = tiny("qwen2-mixed")[1]
    sequences = [np.random.default_rng(i).integers(0, 200, 384).astype(np.int32) for i in range(3)]
    gathered = gather(model, sequences, LAYERS, 0, {})
    return model, [transform.rounded(transform.decompose(gathered, g), 128) for g in range(2)], sequences


def some_channels(made):
    model, groups, sequences = made
    return groups[1], next(iter(ChannelSource(model, LAYERS, sequences)))[1]


@pytest.mark.parametrize("rate", transform.RATES)
def test_before_the_first_step_it_is_the_codec(made, rate):
    group, x = some_channels(made)
    codec = Codec(group, rate)
    assert torch.allclose(Tunable(group)(x, rate), codec.decode(codec.encode(x)), atol=1e-5)


def test_what_is_rounded_is_what_was_trained(made):
    group, x = some_channels(made)
    tunable = Tunable(group)
    untrained = tunable(x, 2.0).detach()
    with torch.no_grad():
        for name in ("component", "channel", "scale", "mean"):
            getattr(tunable, name).add_(0.05 * torch.randn_like(getattr(tunable, name)))
    rounded = tunable.rounded()
    codec = Codec(rounded, 2.0)
    trained, stored = tunable(x, 2.0).detach(), codec.decode(codec.encode(x))
    error = lambda a, b: float((a - b).square().mean())
    assert error(trained, stored) < 0.1 * min(error(trained, x), error(trained, untrained))
    assert torch.equal(rounded.variance, group.variance) and rounded.n_wide == group.n_wide


def test_a_gradient_passes_with_the_slope_of_the_best_line():
    y = torch.randn(200_000, requires_grad=True)
    group = dataclasses.make_dataclass("G", ["codebooks"])({2: transform.codebooks.gaussian(2)})
    out = tune.quantise(y, 2, group)
    out.sum().backward()
    best = float((out.detach() * y.detach()).sum() / y.detach().square().sum())
    assert float(y.grad[0]) == pytest.approx(1 - bits.DISTORTION[2]) == pytest.approx(best, rel=0.01)


def test_it_undoes_harm_that_a_gain_can_undo(made):
    model, groups, sequences = made
    weak = [dataclasses.replace(g, basis_wide=g.basis_wide * 0.9, basis_scale=g.basis_scale * 0.9) for g in groups]
    sizes = tune.STEPS_OF | {"component": 1e-2, "channel": 1e-2}
    tuned = tune.tune(model, weak, LAYERS, sequences, 24, text_weight=0.0, steps_of=sizes)
    kl = lambda option: tune.judge(model, option, LAYERS, sequences, 1.5)[0]
    assert kl(tuned) < 0.7 * kl(weak)


def test_what_is_worse_on_kept_out_text_is_not_kept(made, monkeypatch):
    model, groups, sequences = made
    harmed = [dataclasses.replace(g, scale=g.scale * 1.5) for g in groups]
    monkeypatch.setattr(tune, "tune", lambda *_: harmed)
    assert tune.improve(model, groups, LAYERS, sequences, sequences[:1], 1, 0)[0] is groups
    monkeypatch.setattr(tune, "tune", lambda *_: groups)
    assert tune.improve(model, harmed, LAYERS, sequences, sequences[:1], 1, 0)[0] is groups
