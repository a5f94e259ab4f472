"""Files of token ids: made by make_ids.py, read by --eval, refused when they are not whole."""

import importlib.util
import json

import numpy as np
import pytest
from conftest import ADAPT, VECTORS

from cga_adapt import checkpoint, cli, token_ids, tokens

MODEL = VECTORS / "tiny" / "qwen2-mixed.gguf"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.json"
    token_ids.write(path, "a text", "small, 300 tokens", "by hand", np.arange(250, dtype=np.int32))
    return path


def changed(file, **members):
    file.write_text(json.dumps(json.loads(file.read_text()) | members))
    return file


def refusal(file) -> str:
    with pytest.raises(ValueError) as caught:
        token_ids.read(file, 300)
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value)


def test_what_is_written_is_read(file):
    name, ids = token_ids.read(file, 300)
    assert name == "a text" and ids.dtype == np.int32 and ids.tolist() == list(range(250))
    assert [p.name for p in file.parent.iterdir()] == ["text.json"]


def test_the_files_kept_for_the_engine_are_read():
    texts = [token_ids.read(path, 49152) for path in sorted((VECTORS / "ids").glob("*.json"))]
    assert [(name, len(ids)) for name, ids in texts] == [("asyncio", 8193), ("moby_dick", 8193), ("wiki", 8193)]


def test_the_checksum_is_of_little_endian_words(file):
    ids = json.loads(changed(file).read_text())
    assert token_ids.checksum(np.array([1, 0, 65535])) == "5a7f84dcd89bc2b2c3cb41ca30ee562f74f1f3b0ca415600d53801825b1115be"
    assert ids["sha256"] == token_ids.checksum(np.arange(250))


@pytest.mark.parametrize("members, because", [
    ({"ids": list(range(1, 251))}, "sha256"), ({"sha256": "0" * 64}, "sha256"), ({"n_tokens": 249}, "n_tokens"),
    ({"ids": [*range(249), 300]}, "ids[249]"), ({"ids": [-1, *range(1, 250)]}, "ids[0]"),
    ({"ids": [0, 1.0, *range(2, 250)]}, "ids[1]"), ({"ids": [0, True, *range(2, 250)]}, "ids[1]"),
    ({"ids": [[0], *range(1, 250)]}, "ids[0]"), ({"ids": "0 1 2"}, "ids"), ({"ids": [], "n_tokens": 0}, "0 ids"),
    ({"format": "cga-sidecar"}, "no file of token ids"), ({"version": 2}, "version 2"), ({"version": True}, "version"),
    ({"name": "\x1b[2J"}, "printable"), ({"bos": True}, "bos"), ({"bos": 0}, "bos"), ({"eos": False}, "eos")])
def test_what_is_not_whole_is_refused(file, members, because):
    assert because in refusal(changed(file, **members))


def test_what_is_no_such_json_is_refused(file):
    whole = file.read_text()
    for text in ("", "7", "[]", whole[:-3], "[" * 100_000, whole.replace('"bos": false', '"bos": false, "bos": false')):
        file.write_text(text)
        refusal(file)
    del (without := json.loads(whole))["source"]
    file.write_text(json.dumps(without))
    assert "source" in refusal(file)


def test_labels_that_cannot_be_printed_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="name"):
        token_ids.write(tmp_path / "x.json", "naïve", "small", "by hand", np.arange(3, dtype=np.int32))
    assert not list(tmp_path.iterdir())


def make_ids(*arguments) -> int:
    spec = importlib.util.spec_from_file_location("make_ids", ADAPT / "make_ids.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(a) for a in arguments])


@pytest.fixture
def sources(tmp_path):
    """An encyclopedia with lines as on Windows, and two modules."""
    (tmp_path / "wiki").write_bytes(b" = A title = \r\n\r\n<|im_end|> and so on\r\n" * 40)
    (tmp_path / "asyncio").mkdir()
    (tmp_path / "asyncio" / "b.py").write_text("b = 2\n" * 60)
    (tmp_path / "asyncio" / "a.py").write_text("a = 1\n")
    return tmp_path


def test_ids_are_those_of_the_text(sources):
    out = sources / "out"
    assert make_ids(MODEL, out, "--wiki", sources / "wiki", "--asyncio", sources / "asyncio", "--tokens", "100") == 0
    assert sorted(p.name for p in out.iterdir()) == ["asyncio.json", "wiki.json"]
    source = checkpoint.load(MODEL)
    tokenizer = tokens.load(source)
    name, ids = token_ids.read(out / "wiki.json", tokenizer.get_vocab_size())
    assert name == "wiki" and len(ids) == 100
    decoded = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    assert decoded.startswith(" = A title = \n\n<|im_end|> and so on\n")  # the mark is text: it is not skipped
    assert tokenizer.decode(token_ids.read(out / "asyncio.json", 10 ** 6)[1].tolist()).startswith("a = 1\nb = 2\nb")
    assert json.loads((out / "wiki.json").read_text())["tokenizer"] == f"qwen2, {tokenizer.get_vocab_size()} tokens"


def test_a_text_that_is_too_short_is_refused(sources, capsys):
    assert make_ids(MODEL, sources / "out", "--asyncio", sources / "asyncio", "--tokens", "5000") == 1
    assert "asyncio has only" in capsys.readouterr().err
    assert make_ids(MODEL, sources / "out", "--asyncio", sources / "nowhere") == 1


def test_evaluation_takes_ids_as_they_are_beside_texts(sources):
    tokenizer = tokens.load(checkpoint.load(MODEL))
    assert make_ids(MODEL, sources / "ids", "--wiki", sources / "wiki", "--tokens", "70") == 0
    texts = tokens.read_evaluation(tokenizer, cli.files([str(sources / "ids"), str(sources / "asyncio" / "a.py")]))
    assert [t.name for t in texts] == ["wiki", "a.py"] and len(texts[0].ids) == 70
    small = tokens.byte_pair_tokenizer(["a", "b"], [1, 1], [], "gpt2")
    with pytest.raises(ValueError, match="2 tokens"):
        tokens.read_evaluation(small, [str(sources / "ids" / "wiki.json")])
