"""`--stage need`: finds how much each query needs to read of the archive, for a checkpoint's finished index, and adds it to the
sidecar.

Queries differ in how much of their attention goes to the archive, and to how many places. Were true masses known, an anchor's
queries would best read the units above one threshold of mass, which gives some of them many units and others few. How many is
predicted: linearly from the anchor's input, by ridge regression on training text, so that the mean is the budget."""

import argparse
import dataclasses
import time

import torch

from . import checkpoint, index_quality, index_tuning, sidecar, tokens
from .codec import Codec
from .index import Anchor
from .index_stage import RATE
from .model import Model
from .progress import progress, say
from .sidecar import UNIT
from .stream import Stream

SEQUENCES = 24
RIDGE = 0.02  # of the inputs' variance
SEED = 3


@dataclasses.dataclass
class Fit:
    """Of one anchor."""
    need: torch.Tensor       # [1, dim], f16
    need_bias: torch.Tensor  # [1], f32
    explained: float         # of the variance of how many units a query has, on the text it was fitted to
    spread: float            # its standard deviation, in parts of the mean

    def onto(self, anchor: Anchor) -> Anchor:
        return dataclasses.replace(anchor, need=self.need, need_bias=self.need_bias)


def masses(model: Model, anchors: list[Anchor], ids: torch.Tensor, positions: torch.Tensor, window: int) -> list[tuple]:
    """For each anchor the inputs of the queries at `positions`, f32 [t, dim], and the attention mass of each unit, f16 [t, units]:
    a mean over the heads and layers that the anchor serves."""
    clean = index_tuning.observe(model, ids, positions, window)
    share = lambda a: clean.mass[a.layer:a.layer + a.n_layers, 0].mean(0) / model.config.n_heads
    return [(clean.inputs[a.layer][positions].float().cpu(), share(a).half().cpu()) for a in anchors]


def fit(inputs: torch.Tensor, mass: torch.Tensor, units: int) -> Fit:
    """inputs: [t, dim]; mass: [t, any], of units that can be chosen. units: that a query has on the mean."""
    mass = mass.float()
    flat = mass.flatten()
    threshold = flat.topk(min(len(flat), units * len(mass))).values[-1].clamp(min=1e-7)
    count = (mass >= threshold).sum(1).double()
    target = count / count.mean()
    x, y = inputs.double() - inputs.double().mean(0), target - 1
    scale = x.std(0) + 1e-6
    z = x / scale
    solved = torch.linalg.solve(z.T @ z + RIDGE * len(z) * torch.eye(z.shape[1], dtype=z.dtype), z.T @ y) / scale
    need = solved.half()
    bias = 1 - inputs.double().mean(0) @ need.double()  # so that the mean is 1 with what is stored
    left = (inputs.double() @ need.double() + bias - target).square().mean() / target.var().clamp(min=1e-12)
    return Fit(need[None], bias.float()[None], float(1 - left), float(target.std()))


def draw(n: int, budget: int, window: int, queries: int, seed: int) -> torch.Tensor:
    """Positions of a sequence whose queries have more to choose from than the budget."""
    first = min(n - 1, window + (sidecar.SINKS + budget) // sidecar.PAGE * sidecar.PAGE + sidecar.PAGE)
    generator = torch.Generator().manual_seed(seed)
    return (first + torch.randperm(n - first, generator=generator)[:queries]).sort().values


def fits(model: Model, anchors: list[Anchor], stream: Stream, budget: int, window: int, queries: int, seed: int) -> list[Fit]:
    seen = [[] for _ in anchors]
    for i in progress(range(SEQUENCES), "need", SEQUENCES):
        ids = torch.as_tensor(stream.sequence(seed + SEED, i), dtype=torch.long).to(model.device)
        positions = draw(len(ids), budget, window, queries, (seed + SEED) * 1_000_003 + i).to(model.device)
        for own, new in zip(seen, masses(model, anchors, ids, positions, window)):
            own.append(new)
    return [fit(torch.cat([h for h, _ in own]), torch.cat([m for _, m in own]), budget // UNIT) for own in seen]


@torch.no_grad()
def need(options: argparse.Namespace, files) -> None:
    start = time.monotonic()
    since = lambda: f"{time.monotonic() - start:.0f} s"
    source = checkpoint.load(options.model)
    card = checkpoint.read_sidecar(options.output, source)
    if not card.anchors:
        raise ValueError(f"{options.output}: has no index; --stage index makes one")
    about = card.metadata["index_training"]
    window = options.window if options.window is not None else about["window"]
    budgets = options.budgets or list(about["budgets"])
    if options.seq_len <= window + min(budgets) + 2 * sidecar.PAGE:
        raise ValueError(f"sequences of {options.seq_len} tokens (--seq-len) leave nothing unread at a budget of {min(budgets)}")
    tokenizer = tokens.load(source)
    stream = Stream(tokenizer, files(options.text), options.seq_len)
    say(f"{stream}, {since()}")
    model = Model(source, options.device, torch.bfloat16 if options.device == "cuda" else torch.float32)
    anchors = [a.to(model.device) for a in card.anchors]
    found = fits(model, anchors, stream, min(budgets), window, options.queries or about["queries"], options.seed)
    for a, f in zip(card.anchors, found):
        say(f"layer {a.layer}: how many units differs by {100 * f.spread:.0f} %, of which {100 * f.explained:.0f} % are explained")
    card.anchors = [f.onto(a) for a, f in zip(card.anchors, found)]
    card.metadata["need"] = {"budget": min(budgets), "window": window, "sequence": options.seq_len, "texts": stream.record(),
                             "explained": [round(f.explained, 3) for f in found], "spread": [round(f.spread, 3) for f in found]}
    card.write(options.output)
    texts = [tokens.Text(t.name, t.ids[:options.eval_tokens]) for t in tokens.read_evaluation(tokenizer, files(options.eval))]
    if texts:
        coders = [Codec(g.to(model.device), RATE) for g in card.groups]
        for name, own in (("as much for each", anchors), ("by need", [a.to(model.device) for a in card.anchors])):
            rows = index_quality.evaluate(model, own, texts, budgets, window, coders, card.metadata["group_layers"])
            print(f"{name}:\n{index_quality.table(rows)}")
    say(f"{options.output}: {options.output.stat().st_size:,} bytes, {since()}")
