"""The index: its arithmetic against plain loops, its targets, its training, and the stage as a user runs it."""

import math
import pathlib

import numpy as np
import pytest
import torch
from conftest import VECTORS

from cga_adapt import checkpoint, cli, index, index_quality, index_stage, index_training, targets
from cga_adapt.index import Anchor
from cga_adapt.index_training import Design, Training
from cga_adapt.model import capture
from cga_adapt.sidecar import Sidecar
from cga_adapt.stream import Stream

MODEL = VECTORS / "tiny" / "qwen2-mixed.gguf"
WINDOW = 64


def anchor(dim=24, heads=3, width=8, reads=2) -> Anchor:
    return Anchor(0, reads, torch.randn(heads, width, dim).half(), torch.randn(reads, width, dim).half(),
                  torch.randn(heads, dim).half(), torch.randn(heads))


def angles(n, pairs):
    a = torch.arange(n)[:, None] * 10.0 ** -torch.arange(pairs).float()
    return a.cos(), a.sin()


def test_scores_are_the_plain_formula():
    a, n = anchor(), 40
    inputs, (cos, sin) = [torch.randn(n, 24) for _ in range(2)], angles(n, 12)
    q, w = index.queries(a, inputs[0], cos, sin)
    got = index.unit_scores(index.token_scores(q, w, index.keys(a, inputs, cos, sin)))

    def turned(x, at):  # channels 4, 5 of 8 go with 6, 7, by the slowest two of twelve frequencies
        x = x.double().tolist()
        for i in range(2):
            c, s = float(cos[at, 10 + i]), float(sin[at, 10 + i])
            x[4 + i], x[6 + i] = x[4 + i] * c - x[6 + i] * s, x[6 + i] * c + x[4 + i] * s
        return x

    key = [turned(sum(a.key[i].double() @ inputs[i][s].double() for i in range(2)), s) for s in range(n)]
    for t in (0, 17, 39):
        for u in range(3):
            best = -math.inf
            for s in range(16 * u, min(n, 16 * u + 16)):
                total = 0.0
                for j in range(3):
                    query = turned(a.query[j].double() @ inputs[0][t].double(), t)
                    weight = float(a.weight[j].double() @ inputs[0][t].double()) + float(a.bias[j])
                    total += weight * max(0.0, sum(x * y for x, y in zip(query, key[s])))
                best = max(best, total / math.sqrt(8))
            assert got[t, u] == pytest.approx(best, rel=1e-4, abs=1e-4)


def test_coded_scores_are_near_and_their_products_are_integers():
    q, w, k = torch.randn(5, 3, 32), torch.rand(5, 3), torch.randn(50, 32)
    exact, coded = index.token_scores(q, w, k), index.coded_scores(q, w, k)
    assert 0 < (coded - exact).norm() / exact.norm() < 0.02
    codes, scale = index.quantise(torch.tensor([[0.0, 0.0], [1.0, -2.0], [0.5, 127.0]]))
    assert codes.tolist() == [[0, 0], [64, -127], [0, 127]] and scale.tolist() == [1.0, np.float32(2 / 127), 1.0]


def test_what_may_be_chosen():
    allowed = index.eligible(torch.tensor([0, 127, 128, 191, 192, 256]), 16, WINDOW)
    assert [row.nonzero().flatten().tolist() for row in allowed] == [
        [], [], [1, 2, 3], [1, 2, 3], list(range(1, 8)), list(range(1, 12))]


def test_the_best_units_win_and_ties_go_to_the_lower_position():
    scores = torch.tensor([[9.0, 1.0, 3.0, 1.0, 3.0, 8.0, 1.0]])
    allowed = torch.tensor([[False, True, True, True, True, False, True]])
    chosen = lambda budget: index.top_units(scores, allowed, budget)[0].nonzero().flatten().tolist()
    assert chosen(48) == [1, 2, 4] and chosen(63) == [1, 2, 4] and chosen(16) == [2]
    assert chosen(1024) == [1, 2, 3, 4, 6]  # fewer than the budget: all


def test_mass_is_the_probability_of_each_unit():
    q, k = torch.randn(2, 4, 8), torch.randn(200, 2, 8)
    positions = torch.tensor([150, 199])
    mass = targets.unit_mass(q, k, positions, WINDOW)
    for row, at in enumerate(positions.tolist()):
        by_head = torch.zeros(4, 13)
        for head in range(4):
            p = (k[:at + 1, head // 2] @ q[row, head] / math.sqrt(8)).softmax(0)
            for s in range(16, (at - WINDOW) // 64 * 64):
                by_head[head, s // 16] += p[s]
        assert torch.allclose(mass[0, row], by_head.sum(0), atol=1e-5)
        assert torch.allclose(mass[1, row], by_head.square().sum(0), atol=1e-5)


def test_effect_is_how_far_a_unit_moves_each_heads_output():
    q, k, v = torch.randn(2, 4, 8), torch.randn(200, 2, 8), torch.randn(200, 2, 8)
    positions = torch.tensor([150, 199])
    effect = targets.unit_effect(q, k, v, positions, WINDOW)
    expected, lengths = torch.zeros(2, 4, 13), []
    for row, at in enumerate(positions.tolist()):
        for head in range(4):
            p = (k[:at + 1, head // 2] @ q[row, head] / math.sqrt(8)).softmax(0)
            out = p @ v[:at + 1, head // 2]
            lengths.append(out.norm())
            for unit in range(1, (at - WINDOW) // 64 * 4):
                own = slice(16 * unit, 16 * unit + 16)
                expected[row, head, unit] = (p[own, None] * (v[own, head // 2] - out)).sum(0).norm()
    expected /= torch.stack(lengths).mean()
    assert torch.allclose(effect[0], expected.sum(1), atol=1e-5)
    assert torch.allclose(effect[1], expected.square().sum(1), atol=1e-5)


def test_the_smooth_miss_counts_what_a_cut_misses():
    share = torch.tensor([[0.0, 0.4, 0.3, 0.2, 0.1]])
    allowed = torch.tensor([[False, True, True, True, True]])
    scores = torch.tensor([[0.0, 40.0, 30.0, -20.0, -40.0]], requires_grad=True)
    assert float(index_training.missed(scores, share, allowed, 32).detach()) == pytest.approx(0.3, abs=1e-3)
    near = torch.tensor([[0.0, 0.2, 0.1, 0.0, -0.1]], requires_grad=True)
    index_training.missed(near, share, allowed, 32).sum().backward()
    assert near.grad[0, 1] < 0 < near.grad[0, 4]   # raise the heavy, lower the light,
    assert abs(float(near.grad.sum())) < 1e-6      # and not all together


DESIGN = Design((1, 1), heads=4, width=16, steps=160, queries=96, window=WINDOW, budgets=(64,), rate=5e-3)


def sequence(step: int, n=384) -> np.ndarray:
    return np.random.default_rng(step % 5).integers(0, 200, n)


def test_training_lowers_the_loss_and_the_index_finds_mass(tiny):
    _, model = tiny("qwen2-mixed")
    training = Training(model, DESIGN)
    untrained = [a for a in training.anchors()]
    index_training.run(model, training, sequence, DESIGN.steps)
    losses = training.losses()
    assert losses.shape == (160, 2) and losses[-10:].mean() < 0.85 * losses[:5].mean()  # it begins with all units alike
    clean = index_quality.observe(model, sequence(0), WINDOW)

    def recall(kind, anchors):
        selector = index_quality.Selector(model, clean, kind, DESIGN.anchors(), 64, WINDOW, anchors)
        index_quality.selected(model, clean, selector, WINDOW)
        return selector.recall
    trained = training.anchors()
    assert recall(index_quality.INDEX, untrained) < recall(index_quality.INDEX, trained)
    assert recall(index_quality.INDEX, trained) <= recall(index_quality.ORACLE, None) < 1


def test_resumed_is_as_uninterrupted(tiny, tmp_path):
    _, model = tiny("qwen2-mixed")
    whole, first, second = (Training(model, DESIGN) for _ in range(3))
    index_training.run(model, whole, sequence, 40)
    index_training.run(model, first, sequence, 33)
    first.save(tmp_path / "state", "run")
    second.resume(tmp_path / "state", "run")
    index_training.run(model, second, sequence, 40)
    assert torch.equal(whole.losses(), second.losses())
    assert all(torch.equal(a.query, b.query) for a, b in zip(whole.anchors(), second.anchors()))
    with pytest.raises(ValueError, match="other texts or settings"):
        second.resume(tmp_path / "state", "another run")


def test_training_goes_on_from_an_index_that_is_there(tiny):
    _, model = tiny("qwen2-mixed")
    first = Training(model, DESIGN)
    index_training.run(model, first, sequence, DESIGN.steps)
    anew, on = Training(model, DESIGN), Training(model, DESIGN, first.anchors())
    for training in (anew, on):
        index_training.run(model, training, sequence, 1)
    assert on.losses()[0].mean() < 0.85 * anew.losses()[0].mean()
    begun, trained = on.anchors()[0], first.anchors()[0]
    assert torch.allclose(begun.query.float(), trained.query.float(), atol=1e-2) and len(begun.key) == len(trained.key)


def test_an_index_of_another_shape_is_no_beginning(made):
    folder, _ = made
    card = Sidecar.read(folder / "tiny.cga")
    groups, source = tuple(a.n_layers for a in card.anchors), checkpoint.load(MODEL)
    assert index_stage.begin_with(folder / "tiny.cga", Design(groups, heads=4, width=16), source)
    for other, said in ((Design(groups, heads=8, width=16), "--index-heads"), (Design(groups, heads=4, width=32), "--index-width"),
                        (Design((sum(groups),), heads=4, width=16), "anchors serve")):
        with pytest.raises(ValueError, match=said):
            index_stage.begin_with(folder / "tiny.cga", other, source)


def test_choosing_everything_is_full_attention(tiny):
    _, model = tiny("llama-float")
    ids = sequence(1, 300)
    clean = index_quality.observe(model, ids, WINDOW)
    full, _, _ = capture(model, clean.ids)
    groups = [(0, model.config.n_layers)]
    run = lambda budget: index_quality.selected(
        model, clean, index_quality.Selector(model, clean, index_quality.ORACLE, groups, budget, WINDOW), WINDOW)
    assert torch.allclose(run(4096), full, atol=1e-4)
    assert not torch.allclose(run(32), full, atol=1e-4)


def test_a_stream_repeats_and_keeps_its_ends_to_itself(tmp_path):
    class Letters:
        def encode_batch_fast(self, pieces, add_special_tokens):
            return [type("E", (), {"ids": [ord(c) for c in p]}) for p in pieces]
    (tmp_path / "a.txt").write_text("a" * 3000 + "b" * 100)
    (tmp_path / "short.txt").write_text("c" * 200)
    stream = Stream(Letters(), [str(tmp_path / "a.txt"), str(tmp_path / "short.txt")], 100)
    assert stream.record() == [{"text": "a.txt", "tokens": 3000}]  # the other is too short
    assert all(set(stream.sequence(0, i)) == {ord("a")} for i in range(50))
    assert set(stream.kept_out()[0].ids) == {ord("b")}
    stream.names, stream.ranges = [f"{i}" for i in range(9)], stream.ranges * 9
    assert [t.name for t in stream.some_kept_out(4)] == ["0", "2", "4", "6"] and len(stream.some_kept_out(20)) == 9
    stream.names, stream.ranges = stream.names[:1], stream.ranges[:1]
    stream.ids = np.arange(3300)
    assert (stream.sequence(1, 7) == stream.sequence(1, 7)).all() and (stream.sequence(1, 7) != stream.sequence(2, 7)).any()


def test_groups_subdivide_layer_groups():
    assert index_stage.default_groups([10, 10, 10]) == [2, 3, 5, 5, 5, 5, 5]
    assert index_stage.default_groups([7, 7]) == [3, 4, 3, 4] and index_stage.default_groups([1, 1]) == [1, 1]
    index_stage.check(Design((2, 3, 5), window=128), [5, 5])
    for wrong in (Design((4, 6)), Design((5, 4)), Design((5, 5), width=30), Design((5, 5), window=100)):
        with pytest.raises(ValueError):
            index_stage.check(wrong, [5, 5])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    sources = sorted(pathlib.Path(cli.__file__).parent.glob("*.py"))
    (folder / "text.txt").write_text("".join(p.read_text() for p in sources[::2])[:20000])
    (folder / "kept.txt").write_text("".join(p.read_text() for p in sources[1::2])[:2000])
    common = [str(MODEL), "-o", str(folder / "tiny.cga"), "--text", str(folder / "text.txt"), "--device", "cpu"]
    assert cli.main([*common, "--tokens", "2048", "--seq-len", "256", "--group-layers", "1"]) == 0
    before = Sidecar.read(folder / "tiny.cga")
    assert cli.main([*common, "--stage", "index", "--seq-len", "320", "--steps", "12", "--queries", "64", "--budgets", "64",
                     "--window", "64", "--index-heads", "4", "--index-width", "16", "--eval", str(folder / "kept.txt"),
                     "--eval-tokens", "400"]) == 0
    return folder, before


def test_the_stage_adds_an_index_to_a_sidecar(made):
    folder, before = made
    card = Sidecar.read(folder / "tiny.cga")
    m = card.metadata
    assert m["format_version"] == 1 and m["select_layers"] == [1, 1] and (m["index_heads"], m["index_width"]) == (4, 16)
    assert m["index_training"]["texts"][0]["text"] == "text.txt" and len(m["index_training"]["kl"]) == 2
    assert [(r["kv_bits"], r["select"], r["budget"]) for r in m["index_quality"]] == [
        (bits, *way) for bits in (16, 1.5) for way in (("all", 0), ("oracle", 64), ("index", 64))]
    assert [a.layer for a in card.anchors] == [0, 1] and card.anchors[1].key.shape == (1, 16, m["dim"])
    assert card.anchors[0].query.dtype == torch.float16 and card.anchors[0].bias.dtype == torch.float32
    for old, new in zip(before.groups, card.groups):
        assert torch.equal(old.basis, new.basis) and torch.equal(old.scale, new.scale)
    assert before.metadata["quality"] == m["quality"] and not list(folder.glob("*.tmp"))
    assert (folder / "tiny.index.png").read_bytes()[:4] == b"\x89PNG"
    card.write(folder / "again.cga")
    assert (folder / "again.cga").read_bytes() == (folder / "tiny.cga").read_bytes()


def test_a_sidecar_of_another_checkpoint_is_refused(made, capsys):
    folder, _ = made
    other = VECTORS / "tiny" / "llama-float.gguf"
    assert cli.main([str(other), "-o", str(folder / "tiny.cga"), "--text", str(folder / "text.txt"), "--stage", "index"]) == 1
    assert "another checkpoint" in capsys.readouterr().err
