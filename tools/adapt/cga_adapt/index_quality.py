"""What selecting costs: every query reads the sinks, the window and the units that the index, or an oracle, chooses.

As after a prompt: what is archived (coded keys and values, index keys) is the uncompressed model's, while queries, and
what is read exactly, are those of the model that selects. The oracle ranks by the attention mass of the uncompressed
model's layers in the group."""

import dataclasses
import math

import numpy as np
import torch

from . import index, targets
from .codec import Codec
from .index import Anchor
from .model import Channels, Model, dense
from .quality import QUERIES, compare, score
from .sidecar import SINKS, UNIT
from .tokens import Text

ALL, ORACLE, INDEX, FLOAT = "all", "oracle", "index", "index-f32"


@dataclasses.dataclass
class Clean:
    """One pass of the uncompressed model over a text."""
    ids: torch.Tensor
    hidden: torch.Tensor          # [n, dim]
    inputs: list[torch.Tensor]    # attention inputs, a layer each
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    mass: torch.Tensor            # f16 [n_layers, n, units]: attention mass, summed over heads


@torch.no_grad()
def observe(model: Model, ids: np.ndarray, window: int, block: int = 1024) -> Clean:
    ids = torch.from_numpy(ids.astype(np.int64)).to(model.device)
    positions = torch.arange(len(ids), device=model.device)
    inputs, keys, values, masses = [], [], [], []

    def attend(layer, q, k, v):
        keys.append(k)
        values.append(v)
        masses.append(torch.cat([targets.unit_mass(q[a:a + block], k, positions[a:a + block], window)[0]
                                 for a in range(0, len(q), block)]).half())
        return dense(layer, q, k, v)
    hidden = model.hidden(ids, attend, lambda layer, h: inputs.append(h))
    return Clean(ids, hidden, inputs, keys, values, torch.stack(masses))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, coded_k: torch.Tensor, coded_v: torch.Tensor,
           chosen: torch.Tensor | None, window: int, block: int = QUERIES) -> torch.Tensor:
    """quality.attend, where query i reads only the archived units of chosen[i] (bool [t, units]; all, where None)."""
    t, n_heads, d = q.shape
    n_kv = k.shape[1]
    out = torch.empty_like(q)
    k, v, coded_k, coded_v = (x.transpose(0, 1) for x in (k, v, coded_k, coded_v))
    positions = torch.arange(t, device=q.device)
    for a in range(0, t, block):
        b = min(t, a + block)
        rows = (q[a:b] / math.sqrt(d)).unflatten(1, (n_kv, -1)).permute(1, 2, 0, 3).reshape(n_kv, -1, d)
        i, j = positions[a:b, None], positions[None, :b]
        exact = (j >= index.sealed_end(i, window)) | (j < SINKS)
        seen = j <= i
        if chosen is not None:
            seen = seen & (exact | chosen[a:b].repeat_interleave(UNIT, 1)[:, :b])
        scores = lambda keys: torch.bmm(rows, keys[:, :b].transpose(1, 2)).float().unflatten(1, (-1, b - a))
        s = scores(k) if k is coded_k else torch.where(exact, scores(k), scores(coded_k))
        p = s.masked_fill(~seen, -torch.inf).softmax(-1)
        mix = lambda part, values: torch.bmm(part.to(q.dtype).flatten(1, 2), values[:, :b])
        o = mix(p, v) if k is coded_k else mix(p * exact, v) + mix(p * ~exact, coded_v)
        out[a:b] = o.unflatten(1, (-1, b - a)).permute(2, 0, 1, 3).flatten(1, 2)
    return out


class Selector:
    """Chooses units for every layer of a pass. `groups`: (first layer, layers) of each selection group."""

    def __init__(self, model: Model, clean: Clean, kind: str, groups: list[tuple[int, int]], budget: int, window: int,
                 anchors: list[Anchor] | None = None, only: int | None = None, mass: torch.Tensor | None = None):
        self.clean, self.kind, self.budget, self.only = clean, kind, budget, only
        self.groups, self.anchors = dict(groups), {a.layer: a for a in anchors or []}
        self.mass = clean.mass if mass is None else mass
        self.positions = torch.arange(len(clean.ids), device=model.device)
        self.cos, self.sin = (a / model.config.rope_magnitude for a in model.angles(self.positions))
        self.allowed = index.eligible(self.positions, self.mass.shape[-1], window)
        self.chosen, self.found, self.whole = None, 0.0, 0.0

    def watch(self, layer: int, h: torch.Tensor) -> None:
        """Sets what the layers from here on read, where this one is an anchor."""
        if self.kind == ALL or layer not in self.groups:
            return
        n = self.groups[layer]
        own = self.mass[layer:layer + n].float().sum(0)
        if self.only is not None and layer != self.only:
            self.chosen = None
            return
        scores = own if self.kind == ORACLE else self.scores(self.anchors[layer], h)
        counts = None if self.kind == ORACLE else index.wanted(self.anchors[layer], h, self.budget)
        self.chosen = index.top_units(scores, self.allowed, self.budget, counts)
        rows = slice(1024 if len(h) > 2048 else len(h) // 8, None)
        self.found += float((own * self.chosen)[rows].sum())
        self.whole += float(own[rows].sum())

    def scores(self, anchor: Anchor, h: torch.Tensor, block: int = 512) -> torch.Tensor:
        inputs = self.clean.inputs[anchor.layer:anchor.layer + anchor.n_layers]
        k = index.keys(anchor, inputs, self.cos, self.sin)
        q, w = index.queries(anchor, h, self.cos, self.sin)
        rule = index.token_scores if self.kind == FLOAT else index.coded_scores
        return torch.cat([index.unit_scores(rule(q[a:a + block], w[a:a + block], k)) for a in range(0, len(h), block)])

    @property
    def recall(self) -> float:
        """Of the archive's attention mass."""
        return self.found / self.whole if self.whole else 1.0


@torch.no_grad()
def selected(model: Model, clean: Clean, selector: Selector, window: int, coded: tuple | None = None,
             block: int = QUERIES) -> torch.Tensor:
    """Last hidden states of the model that reads only what is selected; coded: keys and values of the archive."""
    def reading(layer, q, k, v):
        archive = (coded[0][layer], coded[1][layer]) if coded else (clean.keys[layer], clean.values[layer])
        return attend(q, k, v, *archive, selector.chosen, window, block)
    return model.hidden(clean.ids, reading, selector.watch)


def code(model: Model, clean: Clean, coders: list[Codec], group_layers: list[int]) -> tuple[list, list]:
    channels = Channels(model, group_layers, len(clean.ids))
    decoded = [c.decode(c.encode(x)) for c, x in zip(coders, channels.split(clean.keys, clean.values))]
    return channels.join(decoded, model.dtype)


def evaluate(model: Model, anchors: list[Anchor], texts: list[Text], budgets: list[int], window: int,
             coders: list[Codec] | None = None, group_layers: list[int] | None = None, say=lambda line: None) -> list[dict]:
    """Rows of the sidecar's index_quality, for all texts, budgets and ways of choosing, with and without coding."""
    groups = [(a.layer, a.n_layers) for a in anchors]
    rows = []
    for text in texts:
        clean = observe(model, text.ids, window)
        coded = code(model, clean, coders, group_layers) if coders else None
        first = 1024 if len(clean.ids) > 2048 else len(clean.ids) // 8
        ways = [(ALL, 0)] + [(kind, b) for b in budgets for kind in (ORACLE, INDEX)]
        for bits, archive in [(16.0, None)] + ([(1.5, coded)] if coded else []):
            for kind, budget in ways:
                selector = Selector(model, clean, kind, groups, budget, window, anchors)
                hidden = selected(model, clean, selector, window, archive)
                s = score(text, bits, compare(model, clean.hidden, hidden, clean.ids, first))
                rows.append({"text": text.name, "tokens": len(clean.ids), "select": kind, "budget": budget,
                             "recall": round(selector.recall, 4), "kv_bits": bits, "kl": s.kl, "ppl_change": s.ppl_change,
                             "ppl_interval": s.ppl_interval, "top1": s.top1})
                say(line(rows[-1]))
    return rows


def line(r: dict) -> str:
    return (f"{r['text'][:16]:16} {r['kv_bits']:5.3g} {r['select']:9} {r['budget']:5} {100 * r['recall']:6.2f} %  {r['kl']:8.5f}  "
            f"{100 * r['ppl_change']:+.3f} ± {100 * r['ppl_interval']:.3f} %  {100 * r['top1']:6.2f} %")


def table(rows: list[dict]) -> str:
    """Means over texts."""
    lines = ["text              bits select   budget  recall        KL  perplexity           top-1"]
    for key in dict.fromkeys((r["kv_bits"], r["select"], r["budget"]) for r in rows):
        of = [r for r in rows if (r["kv_bits"], r["select"], r["budget"]) == key]
        mean = {k: float(np.mean([r[k] for r in of])) for k in ("recall", "kl", "ppl_change", "top1")}
        interval = math.sqrt(sum(r["ppl_interval"] ** 2 for r in of)) / len(of)
        lines.append(line(of[0] | mean | {"text": "mean", "ppl_interval": interval}))
    return "\n".join(lines)
