"""What a sidecar costs: KL divergence from the uncompressed model, perplexity and top-1 agreement by rate.

Every token older than the sinks and the window is read from its code, the others exactly, as decoding would; the
keys and values that are coded are the uncompressed model's, as after a prompt (prefill never reads codes). 16 bits
in the table is the same attention over exact keys and values: the floor that arithmetic alone sets.
"""

import dataclasses
import math

import numpy as np
import torch

from .codec import Codec
from .model import Channels, Model, capture
from .progress import progress
from .sidecar import PAGE, SINKS, Group
from .tokens import Text

RATES = (1.0, 1.5, 2.0)
EXACT = 16.0
WINDOW = 128
QUERIES = 256    # a block of attention
HEAD_ROWS = 1024


@dataclasses.dataclass
class Score:
    text: str
    tokens: int
    kv_bits: float
    kl: float
    ppl_change: float    # relative
    ppl_interval: float  # half the 95 % interval of ppl_change, paired by token
    top1: float
    ppl: float           # of the uncompressed model

    def entry(self) -> dict:
        """As the sidecar's quality table has it."""
        names = ("text", "tokens", "kv_bits", "kl", "ppl_change", "top1")
        rounded = lambda v: float(f"{v:.5g}") if isinstance(v, float) else v
        return {name: rounded(getattr(self, name)) for name in names}


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, coded_k: torch.Tensor, coded_v: torch.Tensor,
           window: int = WINDOW, queries: int = QUERIES) -> torch.Tensor:
    """q: [t, n_heads, d]; k, v, coded_k, coded_v: [t, n_kv_heads, d]. Query i reads exactly the sinks and what is at or
    after 64·⌊max(0, i - window) / 64⌋."""
    t, n_heads, d = q.shape
    n_kv = k.shape[1]
    share = n_heads // n_kv
    out = torch.empty_like(q)
    by_head = lambda x: x.transpose(0, 1)  # [n_kv, t, d]
    k, v, coded_k, coded_v = map(by_head, (k, v, coded_k, coded_v))
    positions = torch.arange(t, device=q.device)
    for a in range(0, t, queries):
        b = min(t, a + queries)
        rows = (q[a:b] / math.sqrt(d)).unflatten(1, (n_kv, share)).permute(1, 2, 0, 3).reshape(n_kv, -1, d)
        i, j = positions[a:b, None], positions[None, :b]
        exact = (j >= (i - window).clamp(min=0) // PAGE * PAGE) | (j < SINKS)
        scores = lambda keys: torch.bmm(rows, keys[:, :b].transpose(1, 2)).float().unflatten(1, (share, b - a))
        s = torch.where(exact, scores(k), scores(coded_k)).masked_fill(j > i, -torch.inf)
        p = s.softmax(-1)
        mix = lambda part, values: torch.bmm(part.to(q.dtype).flatten(1, 2), values[:, :b])
        o = mix(p * exact, v) + mix(p * ~exact, coded_v)
        out[a:b] = o.unflatten(1, (share, b - a)).permute(2, 0, 1, 3).flatten(1, 2)
    return out


def compare(model: Model, full: torch.Tensor, other: torch.Tensor, ids: torch.Tensor, first: int) -> np.ndarray:
    """[4, positions]: KL, negative log-likelihood of the next token under both, top-1 agreement; f64."""
    return compare_rows(model, full[first:-1], other[first:-1], ids[first + 1:])


def compare_rows(model: Model, full: torch.Tensor, other: torch.Tensor, following: torch.Tensor) -> np.ndarray:
    """As compare(), of rows [t, dim] at any positions, with the token that follows each."""
    columns = []
    for a in range(0, len(following), HEAD_ROWS):
        p, q = (model.logits(h[a:a + HEAD_ROWS]).log_softmax(-1) for h in (full, other))
        own = following[a:a + HEAD_ROWS, None]
        columns.append(torch.stack([(p.exp() * (p - q)).sum(-1), -p.gather(1, own)[:, 0], -q.gather(1, own)[:, 0],
                                    (p.argmax(-1) == q.argmax(-1)).float()]))
    return torch.cat(columns, 1).double().cpu().numpy()


def score(text: Text, rate: float, rows: np.ndarray) -> Score:
    kl, before, after, same = rows
    delta = after - before
    change = math.expm1(delta.mean())
    interval = 1.96 * float(delta.std()) / math.sqrt(len(delta)) * (1 + change)
    return Score(text.name, len(text.ids), rate, float(kl.mean()), change, interval, float(same.mean()),
                 math.exp(before.mean()))


@torch.no_grad()
def evaluate(model: Model, groups: list[Group], group_layers: list[int], texts: list[Text], rates=RATES) -> list[Score]:
    """A Score for each text and rate, 16 bits first. Texts longer than 2,048 tokens are scored from position 1,024."""
    coders = {rate: [Codec(g, rate) for g in groups] for rate in rates}
    scores = []
    for text, rate in progress(((t, r) for t in texts for r in (EXACT, *rates)), "quality", len(texts) * (1 + len(rates))):
        ids = torch.from_numpy(text.ids.astype(np.int64)).to(model.device)
        first = 1024 if len(ids) > 2048 else len(ids) // 8
        full, keys, values = capture(model, ids)  # again for each rate: a pass is cheap beside keeping it
        if rate != EXACT:
            channels = Channels(model, group_layers, len(ids))
            decoded = [c.decode(c.encode(x)) for c, x in zip(coders[rate], channels.split(keys, values))]
            keys, values = channels.join(decoded, model.dtype)
            reading = lambda l, q, k, v: attend(q, k, v, keys[l], values[l])
        else:
            reading = lambda l, q, k, v: attend(q, k, v, k, v)
        scores.append(score(text, rate, compare(model, full, model.hidden(ids, reading), ids, first)))
    return scores


def table(scores: list[Score]) -> str:
    lines = ["text                 tokens    ppl  bits       KL  perplexity           top-1"]
    for s in scores:
        lines.append(f"{s.text[:20]:20} {s.tokens:6} {s.ppl:6.2f} {s.kv_bits:5.3g} {s.kl:8.5f}  "
                     f"{100 * s.ppl_change:+.3f} ± {100 * s.ppl_interval:.3f} %  {100 * s.top1:6.2f} %")
    for rate in sorted({s.kv_bits for s in scores}, reverse=True):
        of = [s for s in scores if s.kv_bits == rate]
        mean = lambda name: float(np.mean([getattr(s, name) for s in of]))
        lines.append(f"{'mean':20} {'':6} {'':6} {rate:5.3g} {mean('kl'):8.5f}  {100 * mean('ppl_change'):+.3f} %"
                     f"{'':10}  {100 * mean('top1'):6.2f} %")
    return "\n".join(lines)
