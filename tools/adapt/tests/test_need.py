"""How much each query reads of the archive: the fit, the formula, and the stage."""

import pathlib

import pytest
import torch
from conftest import VECTORS

from cga_adapt import cli, index, need_stage
from cga_adapt.index import Anchor
from cga_adapt.sidecar import Sidecar

MODEL = VECTORS / "tiny" / "qwen2-mixed.gguf"


def with_need(need: torch.Tensor, bias: float) -> Anchor:
    return Anchor(0, 1, torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), torch.zeros(1, 3), torch.zeros(1), need.half()[None],
                  torch.tensor([bias]))


def test_a_query_wants_its_share_of_the_budget_within_bounds():
    own = with_need(torch.tensor([1.0, 0.0, 0.0]), 1.0)
    h = torch.tensor([[0.0, 5, 5], [0.5, 0, 0], [-0.5, 0, 0], [9, 0, 0], [-9, 0, 0], [0.03125, 0, 0]])
    assert index.wanted(own, h, 1024).tolist() == [64, 96, 32, 192, 16, 66]
    assert index.wanted(own, h, 100).tolist() == [6, 9, 3, 18, 2, 6]  # 6 units; a quarter is rounded up
    assert index.wanted(Anchor(0, 1, *(torch.zeros(1),) * 4), h, 1024) is None


def test_as_many_units_as_each_wants_are_chosen():
    scores = torch.tensor([[1.0, 3, 2, 3, 0], [1, 3, 2, 3, 0], [1, 3, 2, 3, 0]])
    allowed = torch.tensor([[True] * 5, [True] * 5, [False, False, True, True, False]])
    chosen = index.top_units(scores, allowed, 999, torch.tensor([1, 3, 3]))
    assert [row.nonzero().flatten().tolist() for row in chosen] == [[1], [1, 2, 3], [2, 3]]
    for count in (1, 2, 4):
        fixed = index.top_units(scores, allowed, 16 * count)
        assert torch.equal(fixed, index.top_units(scores, allowed, 999, torch.full((3,), count)))


def test_what_a_linear_function_gives_is_found():
    """Rows put more or less of their mass into more or fewer units, as their input says."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4000, 12, generator=generator)
    inputs[:, 3] = 0  # a channel that says nothing, and must not be divided by
    count = (20 + 6 * inputs[:, 0] - 3 * inputs[:, 7]).round().clamp(1, 60)
    mass = (torch.arange(64) < count[:, None]) * 0.01
    fitted = need_stage.fit(inputs, mass.half(), int(count.mean()))
    assert fitted.explained > 0.97 and fitted.spread == pytest.approx(float(count.std() / count.mean()), rel=0.02)
    own = fitted.onto(with_need(torch.zeros(12), 0.0))
    share = inputs @ own.need.float()[0] + own.need_bias
    assert share.mean() == pytest.approx(1, abs=1e-3)
    assert (share * count.mean() - count).abs().mean() < 0.5


def test_masses_that_are_all_alike_ask_for_nothing():
    fitted = need_stage.fit(torch.randn(300, 5), torch.full((300, 8), 0.1), 8)
    assert (fitted.need.float().abs() < 1e-3).all() and float(fitted.need_bias) == pytest.approx(1, abs=1e-3)


def test_positions_have_more_to_choose_from_than_the_budget():
    for budget, window in ((64, 64), (1024, 128)):
        positions = need_stage.draw(4096, budget, window, 500, 7)
        count = index.eligible(positions, 256, window).sum(1)
        assert len(positions) == 500 and (count > budget // 16).all() and (positions < 4096).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("need")
    sources = sorted(pathlib.Path(cli.__file__).parent.glob("*.py"))
    (folder / "text.txt").write_text("".join(p.read_text() for p in sources[::2])[:20000])
    (folder / "kept.txt").write_text("".join(p.read_text() for p in sources[1::2])[:2000])

    def command(*more):
        return cli.main([str(MODEL), "-o", str(folder / "tiny.cga"), "--text", str(folder / "text.txt"), "--device", "cpu", *more])
    assert command("--tokens", "2048", "--seq-len", "256", "--group-layers", "1") == 0
    return folder, command


INDEX = ("--stage", "index", "--seq-len", "320", "--steps", "4", "--queries", "64", "--budgets", "64", "32", "--window", "64",
         "--index-heads", "4", "--index-width", "16")


def test_the_stage_adds_it_to_an_index_and_another_index_drops_it(made, capsys):
    folder, command = made
    assert command("--stage", "need") == 1
    assert "--stage index" in capsys.readouterr().err
    assert command(*INDEX) == 0
    before = Sidecar.read(folder / "tiny.cga")
    assert command("--stage", "need", "--seq-len", "320", "--eval", str(folder / "kept.txt"), "--eval-tokens", "400") == 0
    card = Sidecar.read(folder / "tiny.cga")
    out = capsys.readouterr()
    assert "as much for each:" in out.out and "by need:" in out.out and "are explained" in out.err
    for old, new in zip(before.anchors, card.anchors):
        assert torch.equal(old.query, new.query) and old.need is None
        assert new.need.shape == (1, card.metadata["dim"]) and new.need.dtype == torch.float16
    assert card.metadata["need"]["budget"] == 32 and len(card.metadata["need"]["explained"]) == 2
    card.write(folder / "again.cga")
    assert (folder / "again.cga").read_bytes() == (folder / "tiny.cga").read_bytes()
    assert command("--stage", "need", "--seq-len", "192") == 1  # nothing is left unread
    assert command(*INDEX) == 0
    card = Sidecar.read(folder / "tiny.cga")
    assert all(a.need is None for a in card.anchors) and "need" not in card.metadata
