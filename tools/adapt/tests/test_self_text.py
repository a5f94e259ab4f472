"""Text the model writes itself: the cached step is the forward pass, and the same seed writes the same."""

import numpy as np
import torch

from cga_adapt import self_text


def test_a_step_with_the_cache_gives_what_the_whole_sequence_gives(tiny):
    model = tiny("qwen2-mixed")[1]
    ids = torch.randint(0, 250, (3, 40))
    cache = self_text.Cache(model, 3, 40)
    with torch.no_grad():
        steps = torch.stack([cache.step(ids[:, t], t) for t in range(40)], 1)
        for row, hidden in zip(ids, steps):
            assert torch.allclose(hidden, model.hidden(row), atol=1e-3, rtol=1e-3)


def test_the_same_seed_writes_the_same_and_another_does_not(tiny, monkeypatch):
    monkeypatch.setattr(self_text, "BATCH", 4)
    model = tiny("llama-float")[1]
    first, again, other = (self_text.write(model, 1, 60, 20, seed) for seed in (5, 5, 6))
    assert [len(s) for s in first] == [20, 20, 20] and all(s[0] == 1 for s in first)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
