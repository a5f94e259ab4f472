"""Statistics: the sums themselves, the gradients, stopping and going on."""

import numpy as np
import pytest
import torch

from cga_adapt import statistics
from cga_adapt.model import Channels, capture, dense
from cga_adapt.sidecar import SINKS

IDENTITY = {"fingerprint": "f", "tokens": "t"}


def sequences(n, length=96):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 284, length).astype(np.int32) for _ in range(n)]


def test_moments_are_those_of_all_channels_at_once(tiny):
    model = tiny("qwen2-mixed")[1]
    seqs = sequences(3)
    gathered = statistics.gather(model, seqs, [1, 1], 0, IDENTITY)
    rows = []
    for ids in seqs:
        _, keys, values = capture(model, torch.from_numpy(ids).long())
        rows.append(Channels(model, [1, 1], len(ids)).split(keys, values)[1][SINKS:])
    x = torch.cat(rows).double().numpy()
    mean, covariance, fisher = gathered.covariance(1)
    assert gathered.n_tokens == len(x)
    assert np.allclose(mean, x.mean(0), atol=1e-6)
    assert np.allclose(covariance, np.cov(x.T, bias=True), atol=1e-6 * float(covariance.diagonal().max()))
    assert (fisher > 0).all()


def test_gradients_are_those_of_the_sampled_likelihood(tiny):
    model = tiny("llama-float")[1]
    ids = torch.from_numpy(sequences(1, 40)[0]).long()
    _, _, key_gradients, value_gradients = statistics.sample_gradients(model, ids, torch.Generator().manual_seed(5))
    logits = model.logits(model.hidden(ids).detach())
    labels = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(5))

    def log_likelihood(layer, which, index, change):
        def attend(l, q, k, v):
            if l == layer:
                (k if which == "k" else v)[index] += change
            return dense(l, q, k, v)
        with torch.no_grad():
            return float(model.logits(model.hidden(ids, attend)).double().log_softmax(-1).gather(1, labels).sum())

    for layer, which, index in ((0, "v", (20, 1, 3)), (1, "v", (7, 0, 9)), (0, "k", (17, 0, 2)), (1, "k", (25, 1, 5))):
        step = 2e-2
        slope = (log_likelihood(layer, which, index, step) - log_likelihood(layer, which, index, -step)) / (2 * step)
        gradient = (key_gradients if which == "k" else value_gradients)[layer]
        assert -float(gradient[index]) == pytest.approx(slope, rel=0.03, abs=0.02 * float(gradient.abs().max()))


def test_outliers_are_clipped():
    moments = statistics.Moments.zeros(4, torch.device("cpu"))
    gradient = torch.ones(9, 4)
    gradient[4] *= 1e4
    moments.add(torch.zeros(9, 4), gradient)
    assert moments.fisher.tolist() == pytest.approx([8 + 100.0] * 4)


def test_an_interrupted_run_ends_with_the_same_numbers(tiny, tmp_path, monkeypatch):
    model, seqs, path = tiny("llama-legacy")[1], sequences(4), tmp_path / "stats"
    whole = statistics.gather(model, seqs, [2], 7, IDENTITY)
    calls, real = [], statistics.sample_gradients

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)
    monkeypatch.setattr(statistics, "sample_gradients", stops)
    monkeypatch.setattr(statistics, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        statistics.gather(model, seqs, [2], 7, IDENTITY, path)
    resumed = statistics.gather(model, seqs, [2], 7, IDENTITY, path)
    assert len(calls) == 3 + 2  # two were kept, one was lost
    assert resumed.n_tokens == whole.n_tokens
    assert torch.equal(resumed.groups[0].second, whole.groups[0].second)
    assert torch.equal(resumed.groups[0].fisher, whole.groups[0].fisher)
    with pytest.raises(ValueError, match="tokens"):
        statistics.gather(model, seqs, [2], 7, IDENTITY | {"tokens": "other"}, path)
