"""From a checkpoint and text to a sidecar, as a user runs it."""

import json
import pathlib

import numpy as np
import pytest
from conftest import VECTORS

from cga_adapt import checkpoint, cli, tokens
from cga_adapt.sidecar import Sidecar

MODEL = VECTORS / "tiny" / "qwen2-mixed.gguf"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    sources = sorted(pathlib.Path(cli.__file__).parent.glob("*.py"))
    for i in range(3):
        (folder / f"{i}.txt").write_text("".join(p.read_text() for p in sources[i::4])[:9000])
    (folder.parent / "kept.txt").write_text("".join(p.read_text() for p in sources[3::4])[:3000])
    return folder


def run(texts, out, *more):
    return cli.main([str(MODEL), "-o", str(out), "--text", str(texts), "--tokens", "3072", "--seq-len", "192",
                     "--device", "cpu", "--group-layers", "1", *more])


@pytest.fixture(scope="module")
def made(texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "tiny.cga"
    assert run(texts, out, "--eval", str(texts.parent / "kept.txt"), "--eval-tokens", "512", "--seed", "3") == 0
    return out


def test_the_sidecar_is_what_the_format_says(made):
    sidecar = Sidecar.read(made)
    m = sidecar.metadata
    source = checkpoint.load(MODEL)
    assert (m["architecture"], m["n_layers"], m["head_dim"], m["page"], m["unit"]) == ("qwen2", 2, 64, 64, 16)
    assert m["fingerprint"] == source.fingerprint() and m["group_layers"] == [1, 1]
    assert sum(entry["tokens"] for entry in m["calibration"]) == 3072
    assert [q["kv_bits"] for q in m["quality"]] == [16, 1, 1.5, 2]
    assert [len(s) for s in m["spectra"]] == [8, 8] and all(s == sorted(s) and s[-1] == 1 for s in m["spectra"])
    for group in sidecar.groups:
        n, mm, w = group.n_channels, group.n_components, group.n_wide
        assert n == 128 and mm % 64 == 0 and w % 64 == 0 and w <= mm <= n
        assert (group.variance.diff() <= 0).all() and (group.variance > 0).all() and (group.scale > 0).all()
        assert all((book.diff() > 0).all() and len(book) == 2 ** b for b, book in group.codebooks.items())
    assert not list(made.parent.glob("*.tmp"))
    assert made.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_other_readers_read_it(made):
    safe_open = pytest.importorskip("safetensors").safe_open
    with safe_open(made, "np") as file:
        assert json.loads(file.metadata()["group_layers"]) == [1, 1]
        assert file.get_tensor("group.1.mean").dtype == np.float32


def test_more_bits_are_better_and_exact_is_exact(made):
    kl = {q["kv_bits"]: q["kl"] for q in Sidecar.read(made).metadata["quality"]}
    assert abs(kl[16]) < 1e-5 and kl[2] <= kl[1] and kl[2] > 1e-5


def test_the_same_seed_gives_the_same_file(made, texts, tmp_path):
    more = ("--eval", str(texts.parent / "kept.txt"), "--eval-tokens", "512", "--stats", str(tmp_path / "stats"))
    assert run(texts, tmp_path / "tiny.cga", *more, "--seed", "3") == 0
    assert (tmp_path / "tiny.cga").read_bytes() == made.read_bytes()
    assert run(texts, tmp_path / "tiny.cga", *more, "--seed", "3") == 0  # from the saved statistics
    assert (tmp_path / "tiny.cga").read_bytes() == made.read_bytes()
    assert run(texts, tmp_path / "tiny.cga", *more, "--seed", "4") == 1  # which are of another seed


def test_a_limit_on_size_is_kept_or_refused(texts, tmp_path, capsys):
    assert run(texts, tmp_path / "small.cga", "--max-bytes", "24000") == 0
    assert (tmp_path / "small.cga").stat().st_size < 24000 + 4096  # and the header
    assert run(texts, tmp_path / "none.cga", "--max-bytes", "1000") == 1
    assert "1000" in capsys.readouterr().err
    assert not (tmp_path / "none.cga").exists()


def test_groups_are_even():
    config = lambda n_layers, kv: checkpoint.Config("llama", n_layers, 4, kv, 64, 256, 1e-5, 1e4)
    assert cli.split_layers(config(30, 3), 10) == [10, 10, 10]
    assert cli.split_layers(config(28, 4), 9) == [7, 7, 7, 7]
    assert cli.split_layers(config(24, 2), 7) == [6, 6, 6, 6]
    with pytest.raises(ValueError, match="group-layers"):
        cli.split_layers(checkpoint.Config("llama", 2, 4, 1, 16, 64, 1e-5, 1e4), 1)


def test_sequences_are_an_equal_share_of_each_text():
    texts = [tokens.Text(name, np.arange(n, dtype=np.int32)) for name, n in (("a", 1000), ("b", 250), ("c", 5000))]
    chosen, record = tokens.sequences(texts, 100, 1200)
    assert [entry["tokens"] for entry in record] == [500, 200, 500]  # b has only two
    assert all(len(s) == 100 for s in chosen) and len(chosen) == 12
    assert chosen[2][0] == 0 and chosen[-1][0] == 4000  # c is spread over its whole length


def test_tokenizer_gives_the_ids_of_the_vectors():
    lines = (VECTORS / "tokenizer" / "small-qwen2.ids").read_text().split("\n")[:-1]
    texts = [json.loads(line) for line in (VECTORS / "tokenizer" / "texts.jsonl").read_text().split("\n")[:-1]][::2]
    merges = (VECTORS / "tokenizer" / "small.merges").read_text().split("\n")[:-1]
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    letters = {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in own)}
    vocabulary = [letters[b] for b in range(256)] + [m.replace(" ", "") for m in merges]
    tokenizer = tokens.byte_pair_tokenizer(vocabulary, [1] * len(vocabulary), merges, "qwen2")
    for text, ids in zip(texts, lines, strict=True):
        assert tokenizer.encode(text, add_special_tokens=False).ids == [int(i) for i in ids.split()]


def test_tuning_is_judged_and_repeats(texts, tmp_path, capsys):
    for name in ("a.cga", "b.cga"):
        assert run(texts, tmp_path / name, "--tune", "3") == 0
    assert "tuned: KL" in capsys.readouterr().err
    assert (tmp_path / "a.cga").read_bytes() == (tmp_path / "b.cga").read_bytes()
