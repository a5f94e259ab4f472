"""The simulated decode path: which tokens are read from codes."""

import math

import pytest
import torch

from cga_adapt import quality
from cga_adapt.model import dense


def by_loops(q, k, v, coded_k, coded_v, window):
    out = torch.zeros_like(q)
    share = q.shape[1] // k.shape[1]
    for i in range(len(q)):
        start = 64 * (max(0, i - window) // 64)
        for h in range(q.shape[1]):
            exact = [j < 16 or j >= start for j in range(i + 1)]
            keys = torch.stack([(k if e else coded_k)[j, h // share] for j, e in enumerate(exact)])
            values = torch.stack([(v if e else coded_v)[j, h // share] for j, e in enumerate(exact)])
            out[i, h] = (keys @ q[i, h] / math.sqrt(q.shape[2])).softmax(0) @ values
    return out


def test_sinks_and_window_are_exact_and_the_rest_is_coded():
    t, d = 330, 8
    q, k, v, ck, cv = torch.randn(t, 4, d), *(torch.randn(t, 2, d) for _ in range(4))
    assert torch.allclose(quality.attend(q, k, v, ck, cv, 128), by_loops(q, k, v, ck, cv, 128), atol=1e-5)


def test_without_coding_it_is_full_attention():
    q, k, v = torch.randn(300, 4, 16), torch.randn(300, 2, 16), torch.randn(300, 2, 16)
    assert torch.allclose(quality.attend(q, k, v, k, v), dense(0, q, k, v), atol=1e-5)


def test_scores(tiny):
    model = tiny("llama-float")[1]
    ids = torch.randint(0, 284, (100,))
    full = model.hidden(ids)
    same = quality.compare(model, full, full, ids, 10)
    assert same.shape == (4, 89) and abs(same[0]).max() < 1e-6 and same[3].mean() == 1
    other = quality.compare(model, full, full + 0.1 * torch.randn_like(full), ids, 10)
    p = model.logits(full[10]).softmax(-1)
    assert other[0].mean() > 0
    assert other[1][0] == pytest.approx(-math.log(float(p[ids[11]])), rel=1e-4)
