"""Bits, codebooks, and the codec: the same codes as the checked-in vectors, and what any codec must keep."""

import numpy as np
import pytest
import torch
from conftest import VECTORS

from cga_adapt import bits, codebooks, safetensors_file
from cga_adapt.codec import Codec
from cga_adapt.sidecar import Sidecar, round_narrow


def best_by_search(means: list[float], budget: int) -> float:
    """Smallest distortion of whole blocks within the budget, by trying everything."""
    best = {0: 0.0}
    for v in means:
        best = {used: min((d + v * bits.DISTORTION[w] for u, d in best.items() for w in bits.WIDTHS
                           if u + w == used), default=np.inf) for used in range(budget + 1)}
    return min(best.values())


def test_allocation_keeps_the_budget_and_is_as_good_as_search_allows():
    rng = np.random.default_rng(1)
    for trial in range(20):
        means = np.sort(np.exp(rng.normal(size=6) * 3))[::-1]
        rate = float(rng.choice([0.5, 1.0, 1.5, 2.0]))
        widths = bits.allocate(np.repeat(means, 64), 512, rate)
        assert widths.sum() <= rate * 512
        greedy = sum(v * bits.DISTORTION[int(w)] for v, w in zip(means, widths[::64]))
        whole = int(rate * 512) // 64
        exact = best_by_search(list(means), whole)
        assert greedy <= exact + means[0] * bits.DISTORTION[4] + means.sum() * 0.1
        assert (np.diff(widths.reshape(-1, 64), axis=1) == 0).all()


def test_allocation_by_hand():
    level = lambda v, n, r, w=None: bits.allocate(np.repeat(np.array(v, float), 64), n, r, w)[::64].tolist()
    assert level([1, 1, 1], 128, 1.0) == [1, 1, 0]           # ties to the lower block, a block of 64 costs 64
    assert level([1, 1], 128, 0.999) == [1, 0]               # 127 bits hold one block
    assert level([1e6, 1e-6], 128, 8.0, 0) == [4, 4]         # no wide rows: nothing beyond 4 bits
    assert level([1e6, 1e-6], 128, 4.0, 64) == [8, 0]
    assert level([1, 0.9], 128, 1.5) == [2, 1]


def test_gaussian_levels_have_the_distortion_that_the_format_states():
    x = torch.randn(1 << 20, generator=torch.Generator().manual_seed(1))
    for width in (1, 2, 4):
        levels = codebooks.gaussian(width)
        error = (levels[codebooks.nearest(x, levels)] - x).square().mean()
        assert error == pytest.approx(bits.DISTORTION[width], rel=0.01)
    error = (codebooks.UNIFORM_8[codebooks.nearest(x, codebooks.UNIFORM_8)] - x).square().mean()
    assert error == pytest.approx(bits.DISTORTION[8], rel=0.02)


def test_ties_go_to_the_lower_level():
    levels = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    assert codebooks.nearest(torch.tensor([-9.0, -2.0, 0.0, 0.001, 2.0, 9.0]), levels).tolist() == [0, 0, 1, 2, 2, 3]


def test_training_lowers_the_error_and_keeps_levels_in_order():
    x = torch.distributions.Laplace(0.0, 0.7).sample((50_000,))
    weights = torch.rand(50_000)
    error = lambda levels: float(((levels[codebooks.nearest(x, levels)] - x).square() * weights).mean())
    for width in (1, 2, 4):
        start = codebooks.gaussian(width)
        trained = codebooks.train(start, x, weights)
        assert error(trained) < 0.99 * error(start)
        assert (trained.diff() > 0).all()


@pytest.mark.parametrize("name", ["three-layers", "qwen2-mixed"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_vectors_are_what_the_codec_makes(name, precision):
    sidecar = Sidecar.read(VECTORS / "codec" / f"{name}.cga")
    expected = safetensors_file.read(VECTORS / "codec" / f"{name}.safetensors")[0]
    for g, group in enumerate(sidecar.groups):
        x = torch.from_numpy(np.array(expected[f"group.{g}.x"]))
        for label, rate in (("r1", 1.0), ("r15", 1.5), ("r2", 2.0)):
            codec = Codec(group, rate, precision)
            codes = codec.encode(x)
            stored = torch.from_numpy(np.array(expected[f"group.{g}.codes_{label}"]))
            assert (codec.bits.numpy() == expected[f"group.{g}.bits_{label}"]).all()
            assert (codes == stored).float().mean() >= 0.999
            assert (codes.int() - stored.int()).abs().max() <= 1
            decoded = expected[f"group.{g}.decoded_{label}"]
            error = np.linalg.norm(codec.decode(stored).numpy() - decoded) / np.linalg.norm(decoded)
            assert error < 1e-5


def test_more_bits_lower_the_error_and_the_second_pass_stops_the_leak():
    group = Sidecar.read(VECTORS / "codec" / "three-layers.cga").groups[0]
    x = torch.from_numpy(np.array(safetensors_file.read(VECTORS / "codec" / "three-layers.safetensors")[0]["group.0.x"]))
    x = x[[0, 1, 2, *range(4, len(x))]]  # not the one beyond every level
    error = lambda codec: float(((codec.decode(codec.encode(x)) - x) * group.scale).square().sum())
    errors = [error(Codec(group, rate)) for rate in (0.5, 1.0, 1.5, 2.0)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10
    codec = Codec(group, 2.0)
    z = (x - group.mean) * group.scale
    exact = torch.linalg.lstsq(codec.basis.T, z.T).solution.T   # what the stored rows would need
    one_pass = z @ codec.basis.T
    two_pass = codec.components(x)[1]
    w = group.n_wide
    leak = lambda y: float((y[:, w:] - exact[:, w:]).square().sum())
    assert leak(two_pass) < leak(one_pass)


def test_rounding_of_the_basis():
    rows = torch.nn.functional.normalize(torch.randn(32, 256), dim=1)
    codes, scales = round_narrow(rows)
    assert codes.abs().max() <= 127 and scales.shape == (32, 2) and scales.dtype == torch.float16
    plain = rows.unflatten(1, (-1, 128)).abs().amax(-1, keepdim=True) / 127
    naive = (torch.round(rows.unflatten(1, (-1, 128)) / plain) * plain).flatten(1)
    error = lambda r: float((r - rows).square().sum())
    assert error((codes.float().unflatten(1, (-1, 128)) * scales.float()[..., None]).flatten(1)) < error(naive)
