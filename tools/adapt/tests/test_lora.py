"""Adapters: what they add and to whom, that training lowers the divergence, and the stage as a user runs it."""

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from conftest import VECTORS

from cga_adapt import cli, index, index_tuning, lora_stage, lora_training, replayed, safetensors_file
from cga_adapt.adapter import Adapter, Rows, leaves_unread
from cga_adapt.index_training import Design, Training
from cga_adapt.lora_training import Settings, Tuning
from cga_adapt.model import Model
from cga_adapt.sidecar import Sidecar
from cga_adapt.tokens import Text

MODEL = VECTORS / "tiny" / "qwen2-mixed.gguf"
WINDOW = 64
SETTINGS = Settings(WINDOW, (64, 32), steps=40, queries=64, rank=4, rate=5e-3)


def sequence(step: int, n=384) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, n)


def anchors(model):
    return Training(model, Design((1, 1), heads=4, width=16, steps=1, window=WINDOW)).anchors()


def noise(model, rank=4) -> list[Adapter]:
    c = model.config
    shapes = Adapter.shapes(rank, c.dim, c.n_heads * c.head_dim)
    return [Adapter(*(0.3 * torch.randn(shapes[f]) for f in Adapter.FIELDS)) for _ in range(c.n_layers)]


def passed(model, adapters, positions, budget, n=384) -> torch.Tensor:
    ids = torch.from_numpy(sequence(0, n))
    clean = index_tuning.observe(model, ids, positions, WINDOW, None)
    with torch.no_grad():
        return lora_training.adapted(model, anchors(model), adapters, clean, ids, positions, WINDOW, budget)


def test_what_is_added_is_the_plain_formula(tiny):
    _, model = tiny("qwen2-mixed")
    own, l = noise(model), 1
    c, w = model.config, lambda role, kind="weight": model.weights.get(f"blk.{l}.{role}.{kind}")
    x, seen = torch.randn(5, c.dim), {}
    cos, sin = model.angles(torch.zeros(5))  # turns nothing

    def attend(_, q, k, v):
        seen["q"] = q.flatten(1)
        return seen.setdefault("o", torch.randn(5, c.n_heads, c.head_dim))
    rows = Rows(own, torch.tensor([[True]] * 5))
    got = model._layer(l, x, cos, sin, attend, lambda _, h: seen.setdefault("h", h), rows)
    h, o = seen["h"], seen["o"].flatten(1)
    q = h @ (w("attn_q") + own[l].q_up @ own[l].q_down).T + w("attn_q", "bias")
    assert torch.allclose(seen["q"], q * c.rope_magnitude, atol=1e-4)
    y = x + o @ (w("attn_output") + own[l].o_up @ own[l].o_down).T
    m = model.norm(y, w("ffn_norm"))
    up = torch.nn.functional.silu(m @ w("ffn_gate").T) * (m @ w("ffn_up").T)
    assert torch.allclose(got, y + up @ w("ffn_down").T, atol=1e-3)


def test_adapters_that_lead_nowhere_change_no_bit(tiny):
    for name in ("qwen2-mixed", "llama-float"):
        _, model = tiny(name)
        positions = torch.tensor([200, 300, 383])
        begun = lora_training.begin(model, SETTINGS)
        assert all((a.q_up == 0).all() and (a.o_up == 0).all() and (a.q_down != 0).any() for a in begun)
        assert torch.equal(passed(model, begun, positions, 32), passed(model, None, positions, 32))


def test_rows_that_read_all_are_the_plain_models(tiny):
    _, model = tiny("qwen2-mixed")
    first = lora_training.first_unread(64, WINDOW)
    positions = torch.tensor([100, first - 1, first, 383])
    plain, other = passed(model, None, positions, 64), passed(model, noise(model), positions, 64)
    assert torch.equal(plain[:2], other[:2])
    assert not torch.allclose(plain[2], other[2], atol=1e-3) and not torch.allclose(plain[3], other[3], atol=1e-3)
    assert torch.equal(passed(model, None, positions, 384), passed(model, noise(model), positions, 384))


def test_the_first_position_that_leaves_something_unread():
    positions = torch.arange(1200)
    for window in (64, 128):
        allowed = index.eligible(positions, 75, window)
        for budget in (16, 47, 48, 49, 63, 64, 200, 512):
            found = leaves_unread(allowed, budget)[:, 0].nonzero()[0]
            assert lora_training.first_unread(budget, window) == int(found)


def test_the_choice_is_that_of_the_stored_index(tiny):
    _, model = tiny("qwen2-mixed")
    ids, positions, own = torch.from_numpy(sequence(0)), torch.tensor([250, 383]), anchors(model)[1]
    clean = index_tuning.observe(model, ids, positions, WINDOW, None)
    cos, sin = (a / model.config.rope_magnitude for a in model.angles(torch.arange(len(ids))))
    h = torch.randn(2, model.config.dim)
    got = lora_training.Chooser(own)(clean.inputs, positions, cos, sin, h=h)
    q, w = index.queries(own, h, cos[positions], sin[positions])
    keys = index.keys(own, clean.inputs[1:2], cos, sin)
    assert torch.equal(got, index.unit_scores(index.coded_scores(q, w, keys)))


def test_every_kind_of_matrix_has_its_own_step():
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimiser = replayed.adam([{"params": [parameters[0]]}, {"params": [parameters[1]], "scale": 0.25}], 1e-3, torch.device("cpu"))
    replayed.set_rate(optimiser, 8e-3)
    assert [g["lr"] for g in optimiser.param_groups] == [8e-3, 2e-3]


def test_a_few_steps_lower_the_divergence_and_leave_the_index_alone(tiny):
    _, model = tiny("qwen2-mixed")
    tuning = Tuning(model, anchors(model), SETTINGS)
    text = [Text("a", sequence(0))]
    kl = lambda adapters: [r["kl"] for r in lora_training.measure(model, tuning.anchors, adapters, text, SETTINGS)]
    before = kl(None)
    weights = {name: w.clone() for name, w in model.weights.items()}
    lora_training.run(tuning, sequence, SETTINGS.steps)
    after = kl(tuning.stored())
    assert len(before) == 2 and all(0 < a < 0.85 * b for a, b in zip(after, before))
    assert all(torch.equal(w, weights[name]) for name, w in model.weights.items())
    for own, begun in zip(tuning.adapters, lora_training.begin(model, SETTINGS)):
        assert not any(torch.equal(getattr(own, f), getattr(begun, f)) for f in Adapter.FIELDS)


def test_the_texts_own_tokens_can_have_a_weight(tiny):
    """All of it: the text, which is the same at every step, is learned, and divergence is not what falls."""
    _, model = tiny("qwen2-mixed")
    tuning = Tuning(model, anchors(model), dataclasses.replace(SETTINGS, text_weight=1.0))
    text = [Text("a", sequence(0))]
    measured = lambda adapters: lora_training.measure(model, tuning.anchors, adapters, text, SETTINGS)
    before = measured(None)
    lora_training.run(tuning, sequence, SETTINGS.steps)
    after = measured(tuning.stored())
    assert all(a["ppl_change"] < b["ppl_change"] - 0.02 and a["kl"] > b["kl"] for a, b in zip(after, before))


def test_positions_have_something_unread_and_a_token_that_follows(tiny):
    _, model = tiny("qwen2-mixed")
    tuning = Tuning(model, anchors(model), dataclasses.replace(SETTINGS, queries=1000))
    assert tuning.positions(384).tolist() == list(range(lora_training.first_unread(64, WINDOW), 383))


def test_resumed_is_as_uninterrupted(tiny, tmp_path):
    _, model = tiny("qwen2-mixed")
    whole, first, second = (Tuning(model, anchors(model), SETTINGS) for _ in range(3))
    lora_training.run(whole, sequence, 12)
    lora_training.run(first, sequence, 7)
    first.save(tmp_path / "state", "run")
    second.resume(tmp_path / "state", "run")
    lora_training.run(second, sequence, 12)
    assert torch.equal(whole.losses(), second.losses())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters()))
    with pytest.raises(ValueError, match="other texts or settings"):
        second.resume(tmp_path / "state", "another run")


def test_products_are_in_the_models_type_and_what_learns_is_in_f32(tiny):
    source, _ = tiny("qwen2-mixed")
    model = Model(source, "cpu", torch.bfloat16)
    tuning = Tuning(model, anchors(model), SETTINGS)
    lora_training.run(tuning, sequence, 3)
    assert tuning.losses().isfinite().all() and all(p.dtype == torch.float32 for p in tuning.parameters())
    h = torch.randn(2, model.config.dim, dtype=torch.bfloat16)
    assert Rows(tuning.adapters, torch.ones(2, 1, dtype=torch.bool)).query(0, h).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_replayed_steps_are_the_steps(tiny, tmp_path):
    """On a GPU, where steps are captured after a few: the same as steps that are not, and resumed in the middle."""
    source, _ = tiny("qwen2-mixed")
    model = Model(source, "cuda", torch.float32)
    plain, whole, first, second = (Tuning(model, anchors(model), SETTINGS) for _ in range(4))
    plain._learn = plain.learn
    for tuning, until in ((plain, 16), (whole, 16), (first, 9)):
        lora_training.run(tuning, sequence, until)
    first.save(tmp_path / "state", "run")
    second.resume(tmp_path / "state", "run")
    lora_training.run(second, sequence, 16)
    assert len(whole._learn.captured) == 2
    for other in (whole, second):
        assert torch.allclose(other.losses(), plain.losses(), rtol=1e-3)
        for a, b in zip(other.parameters(), plain.parameters()):
            assert (a - b).norm() < 1e-2 * b.norm()


def test_quality_is_measured_where_a_token_follows():
    assert lora_training.spread(384, 380).tolist() == [380, 381, 382]
    assert len(lora_training.spread(384, 383)) == 0 == len(lora_training.spread(100, 383))
    many = lora_training.spread(4000, 1000)
    assert len(many.unique()) == lora_training.POSITIONS and many[0] == 1000 and many[-1] <= 3998


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sidecar with an index and adapters, and what it was before these; the command for more."""
    folder = tmp_path_factory.mktemp("lora")
    sources = sorted(pathlib.Path(cli.__file__).parent.glob("*.py"))
    (folder / "text.txt").write_text("".join(p.read_text() for p in sources[::2])[:20000])
    (folder / "kept.txt").write_text("".join(p.read_text() for p in sources[1::2])[:2000])
    common = [str(MODEL), "-o", str(folder / "tiny.cga"), "--text", str(folder / "text.txt"), "--device", "cpu"]

    def command(*more):
        return cli.main([*common, *more])
    assert command("--tokens", "2048", "--seq-len", "256", "--group-layers", "1") == 0
    without = (folder / "tiny.cga").read_bytes()
    assert command(*INDEX) == 0
    before = Sidecar.read(folder / "tiny.cga")
    assert command(*LORA, "--eval", str(folder / "kept.txt"), "--eval-tokens", "400") == 0
    return folder, before, command, without


INDEX = ("--stage", "index", "--seq-len", "320", "--steps", "4", "--queries", "64", "--budgets", "64", "32", "--window", "64",
         "--index-heads", "4", "--index-width", "16")
LORA = ("--stage", "lora", "--seq-len", "320", "--steps", "5", "--queries", "32", "--rank", "4")


def test_the_stage_adds_adapters_to_a_sidecar(made):
    folder, before, _, _ = made
    card = Sidecar.read(folder / "tiny.cga")
    about = card.metadata["lora"]
    assert {k: about[k] for k in ("rank", "window", "budgets", "sequence", "steps", "queries", "rate", "text_weight")} == {
        "rank": 4, "window": 64, "budgets": [64, 32], "sequence": 320, "steps": 5, "queries": 32, "rate": 1e-3, "text_weight": 0.0}
    assert about["texts"][0]["text"] == "text.txt"
    assert [(r["text"], r["budget"], r["adapted"]) for r in about["quality"]] == [
        (text, budget, adapted) for text in ("text.txt", "kept.txt") for adapted in (False, True) for budget in (32, 64)]
    assert len(card.adapters) == 2 and (card.adapters[1].o_up != 0).any()
    assert card.adapters[0].q_down.dtype == torch.float16 and card.adapters[0].q_down.shape == (4, card.metadata["dim"])
    assert {k: v for k, v in card.metadata.items() if k != "lora"} == before.metadata
    for old, new in zip(before.anchors, card.anchors):
        assert torch.equal(old.query, new.query) and torch.equal(old.key, new.key)
    card.write(folder / "again.cga")
    assert (folder / "again.cga").read_bytes() == (folder / "tiny.cga").read_bytes()


def test_its_state_is_picked_up(made, capsys):
    folder, _, command, _ = made
    first = Sidecar.read(folder / "tiny.cga")
    assert command(*LORA) == 0
    assert f"picked up {folder / 'tiny.lora'} at step 5" in capsys.readouterr().err
    again = Sidecar.read(folder / "tiny.cga")
    assert all(torch.equal(a.q_up, b.q_up) for a, b in zip(first.adapters, again.adapters))
    assert command(*LORA, "--rate", "0.01") == 1
    assert "other texts or settings" in capsys.readouterr().err


def test_wrong_shapes_are_refused(made):
    folder, _, _, _ = made
    tensors, metadata = safetensors_file.read(folder / "tiny.cga")
    metadata = {k: v for k, v in metadata.items()}
    up = tensors["lora.1.q_up"]
    for wrong in (np.zeros((up.shape[0], 5), np.float16), up.astype(np.float32), None):
        changed = {k: v for k, v in tensors.items() if k != "lora.1.q_up"} | ({} if wrong is None else {"lora.1.q_up": wrong})
        safetensors_file.write(folder / "wrong.cga", changed, metadata)
        with pytest.raises(ValueError, match=r"wrong.cga: lora\.1\.q_up is"):
            Sidecar.read(folder / "wrong.cga")


def test_another_index_or_transform_drops_them(made, tmp_path):
    folder, _, _, _ = made
    (tmp_path / "tiny.cga").write_bytes((folder / "tiny.cga").read_bytes())
    common = [str(MODEL), "-o", str(tmp_path / "tiny.cga"), "--text", str(folder / "text.txt"), "--device", "cpu"]
    assert cli.main([*common, *INDEX]) == 0
    card = Sidecar.read(tmp_path / "tiny.cga")
    assert card.anchors and not card.adapters and "lora" not in card.metadata
    assert not any(name.startswith("lora.") for name in safetensors_file.read(tmp_path / "tiny.cga")[0])
    (tmp_path / "tiny.cga").write_bytes((folder / "tiny.cga").read_bytes())
    assert cli.main([*common, "--tokens", "2048", "--seq-len", "256", "--group-layers", "1"]) == 0
    card = Sidecar.read(tmp_path / "tiny.cga")
    assert not card.anchors and not card.adapters and "lora" not in card.metadata


def test_what_cannot_be_trained_is_refused(made, tmp_path, capsys):
    folder, _, command, without = made
    (tmp_path / "tiny.cga").write_bytes(without)
    assert cli.main([str(MODEL), "-o", str(tmp_path / "tiny.cga"), "--text", str(folder / "text.txt"), "--stage", "lora"]) == 1
    assert "--stage index" in capsys.readouterr().err
    lora_stage.check(SETTINGS, 384)
    for wrong in ({"window": 100}, {"budgets": (64, 8)}, {"budgets": (320,)}, {"rank": 0}, {"steps": 0}, {"text_weight": 1.5}):
        with pytest.raises(ValueError):
            lora_stage.check(dataclasses.replace(SETTINGS, **wrong), 384)
