"""The look at an index in training: what it calls perfect, random and converged."""

import pytest
import torch
from conftest import VECTORS  # noqa: F401  (the path of the package)
from test_index import DESIGN, WINDOW, sequence

from cga_adapt import index, index_check, index_quality, index_stage, index_training, lora_stage
from cga_adapt.index_training import Training
from cga_adapt.progress import is_look


def test_a_trained_index_is_found_out_and_so_is_a_dead_one(tiny):
    _, model = tiny("qwen2-mixed")
    training = Training(model, DESIGN)
    texts = [sequence(0), sequence(1)]
    untrained = index_check.check(training, texts, 64)
    index_training.run(model, training, sequence, DESIGN.steps)
    trained = index_check.check(training, texts, 64)
    assert all(c < r <= o < 1 for r, o, c in zip(trained.recall, trained.oracle, trained.chance))
    assert min(trained.found) > max(untrained.found) and trained.kl < untrained.kl
    assert min(trained.heads) >= 1
    with torch.no_grad():
        for scorer in training.scorers:
            scorer.query.zero_()   # every score is 0
    dead = index_check.check(training, texts, 64)
    assert dead.oracle == trained.oracle and max(dead.found) < 0.3 and dead.heads == [0, 0]
    trained.recall = trained.oracle
    index_check.insist(trained)
    with pytest.raises(ValueError, match="end-to-end stage is not started"):
        index_check.insist(dead)
    assert index_check.check(training, texts, 384) is None   # nothing to choose


def test_its_recall_is_that_of_the_finished_index(tiny):
    """Where the model's own queries choose, at the first anchor, check() and index_quality agree."""
    _, model = tiny("qwen2-mixed")
    training, ids = Training(model, DESIGN), sequence(2)
    got = index_check.check(training, [ids], 64)
    clean = index_quality.observe(model, ids, WINDOW)
    positions = index_training.draw_positions(len(ids), DESIGN, 0)
    selector = index_quality.Selector(model, clean, index_quality.FLOAT, DESIGN.anchors(), 64, WINDOW, training.anchors())
    selector.watch(0, clean.inputs[0])
    mass = clean.mass[0].float()[positions]
    assert got.recall[0] == pytest.approx(float((mass * selector.chosen[positions]).sum() / mass.sum()), rel=0.02)
    allowed = index.eligible(positions, mass.shape[1], WINDOW)
    drawn = [float((mass * index.top_units(torch.rand_like(mass), allowed, 64)).sum() / mass.sum()) for _ in range(40)]
    assert got.chance[0] == pytest.approx(sum(drawn) / 40, rel=0.05)


def test_looks_are_spread_over_the_steps():
    count = lambda steps, parts: sum(is_look(s, steps, parts) for s in range(steps))
    assert count(95, index_stage.CHECKS) == 9 and count(5, 10) == 4
    assert count(800, lora_stage.LOOKS) == 3 == count(95, 4)
