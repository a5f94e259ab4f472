"""The index end to end: its queries' pass is the model's own where nothing is closed, and training lowers the divergence."""

import numpy as np
import torch
from conftest import VECTORS  # noqa: F401  (the path of the package)

from cga_adapt import index_training, index_tuning
from cga_adapt.index_training import Design, Training
from cga_adapt.index_tuning import Settings, Tuning

WINDOW = 64
DESIGN = Design((1, 1), heads=4, width=16, steps=1, window=WINDOW)


def sequence(step: int, n=384) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(step % 3).integers(0, 200, n))


def test_gates_are_open_above_the_edge_and_gradients_move_units_against_each_other():
    scores = torch.tensor([[0.0, 3.0, 1.0, -1.0, -3.0], [0.0, 1.0, 2.0, 0.0, 0.0]], requires_grad=True)
    allowed = torch.tensor([[False, True, True, True, True], [False, True, True, False, False]])
    log = index_tuning.gates(scores, allowed, 32, 0.1)
    assert torch.allclose(log.exp()[0].round(), torch.tensor([1.0, 1, 1, 0, 0]))  # unit 0 is exact: no gate
    assert (log[1] == 0).all()                                                    # fewer than the budget: all
    log.exp()[0].sum().backward()
    assert abs(float(scores.grad[0].sum())) < 1e-5


def test_gates_are_as_hard_for_scores_that_are_nearly_alike():
    allowed = torch.ones(1, 40, dtype=torch.bool)
    scores = torch.randn(1, 40)
    near = index_tuning.gates(scores, allowed, 160, 0.1)
    assert torch.allclose(near, index_tuning.gates(5 + 1e-2 * scores, allowed, 160, 0.1), atol=0.1)
    assert float(near.exp().sum()) < 12
    assert torch.equal(index_tuning.gates(torch.zeros(1, 40), allowed, 160, 0.1), index_tuning.shut(scores * 0, allowed, 160))
    few = torch.tensor([[3.0, 2.0] + [0.0] * 38])   # two heads open somewhere: the other eight choices are ties
    assert index_tuning.gates(few, allowed, 160, 0.1).exp()[0].round().tolist() == [1.0] * 10 + [0.0] * 30


def test_with_open_gates_the_queries_say_what_the_model_says(tiny):
    _, model = tiny("qwen2-mixed")
    ids, positions = sequence(0), torch.tensor([200, 250, 383])
    training = Training(model, DESIGN)
    clean = index_tuning.observe(model, ids, positions, WINDOW)
    with torch.no_grad():
        for budget, near in ((384, True), (32, False)):
            hidden, _ = index_tuning.choosing(model, list(training.scorers), clean, ids, positions, WINDOW, budget, 0.01)
            assert torch.allclose(hidden, clean.hidden, atol=1e-4) == near


def test_end_to_end_lowers_divergence_and_resumes(tiny, tmp_path):
    _, model = tiny("qwen2-mixed")

    def fresh() -> Tuning:
        return Tuning(Training(model, DESIGN), Settings(60, queries=64, rate=5e-3, budgets=(64,), softness=(0.2, 0.2)))
    whole = fresh()
    index_tuning.run(whole, sequence, 60)
    losses = whole.losses()
    assert losses[-9:].mean() < 0.85 * losses[:9].mean()
    first = fresh()
    index_tuning.run(first, sequence, 20)
    first.save(tmp_path / "state", "x")
    second = fresh()
    second.resume(tmp_path / "state", "x")
    index_tuning.run(second, sequence, 24)
    assert torch.allclose(second.losses(), losses[:24], rtol=1e-4)
    for a, b in zip(whole.training.scorers.parameters(), Training(model, DESIGN).scorers.parameters()):
        assert not torch.equal(a, b)   # every matrix of every anchor learned
