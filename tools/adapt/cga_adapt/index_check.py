"""How good the choice of an index in training is. Losses do not say: the first stage's has no zero to compare with, and the
second's is that of gates which are softer than the engine's. So now and then the index chooses on kept-out text as
an engine would, and is set beside a perfect and a random choice."""

import dataclasses

import numpy as np
import torch

from . import index, index_training, index_tuning
from .index_training import Training
from .sidecar import UNIT

TEXTS = 4         # kept-out sequences that are looked at
CONVERGED = 0.5   # of the way from a random to a perfect choice


@dataclasses.dataclass
class Check:
    """Of queries that have more to choose from than the budget. Lists: an anchor each."""
    budget: int
    kl: float              # from the model that reads everything, at these queries
    recall: list[float]    # of the attention mass
    oracle: list[float]    # recall of the perfect choice
    chance: list[float]    # of a random one
    heads: list[int]       # that see anything, on the last of the texts

    @property
    def found(self) -> list[float]:
        """0 as a random choice, 1 as a perfect one."""
        return [(r - c) / max(o - c, 1e-6) for r, o, c in zip(self.recall, self.oracle, self.chance)]

    def __str__(self) -> str:
        share = lambda values: f"{100 * np.mean(values):.1f} %"
        return (f"budget {self.budget}: recall {share(self.recall)} (perfect {share(self.oracle)}, random {share(self.chance)}), "
                f"KL {self.kl:.4f}, from random to perfect by anchor {' '.join(f'{f:.2f}' for f in self.found)}, "
                f"open heads {' '.join(map(str, self.heads))}")


@torch.no_grad()
def check(training: Training, sequences: list[np.ndarray], budget: int) -> Check | None:
    """None where no query has more to choose from than the budget."""
    d, model, scorers = training.design, training.model, list(training.scorers)
    kl, rows, sums = 0.0, 0, torch.zeros(4, len(scorers))
    for step, ids in enumerate(sequences):
        ids = torch.as_tensor(ids, dtype=torch.long).to(model.device)
        positions = index_training.draw_positions(len(ids), d, step)
        count = index.eligible(positions, -(-len(ids) // UNIT), d.window).sum(-1)
        positions = positions[count > budget // UNIT].to(model.device)
        if not len(positions):
            continue
        clean = index_tuning.observe(model, ids, positions, d.window)
        hidden, scores = index_tuning.choosing(model, scorers, clean, ids, positions, d.window, budget, None)
        kl, rows = kl + float(index_tuning.divergence(model, clean.hidden, hidden).sum()), rows + len(positions)
        allowed = index.eligible(positions, scores[0].shape[1], d.window)
        still = tuple(a / model.config.rope_magnitude for a in model.angles(torch.arange(len(ids), device=ids.device)))
        heads = [scorer.open_heads(clean.inputs, positions, *still) for scorer in scorers]
        share = (budget // UNIT) / allowed.sum(-1)
        for i, (scorer, score) in enumerate(zip(scorers, scores)):
            mass = clean.mass[scorer.layer:scorer.layer + scorer.n_layers, 0].sum(0)
            taken = lambda by: float((mass * index.top_units(by, allowed, budget)).sum())
            sums[:, i] += torch.tensor([taken(score), taken(mass), float((mass.sum(-1) * share).sum()), float(mass.sum())])
    return Check(budget, kl / rows, *(sums[:3] / sums[3].clamp(min=1e-9)).tolist(), heads) if rows else None


def insist(checked: Check | None) -> None:
    """A stage that starts from a choice hardly better than a random one ends with one."""
    if checked and np.mean(checked.found) < CONVERGED:
        raise ValueError(f"attention mass has not taught the index to choose ({checked}), so the end-to-end stage is not "
                         "started and nothing is written; more --steps or a smaller --rate may, with another --state")
