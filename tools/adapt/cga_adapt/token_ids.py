"""A text as token ids in a file that says whether it is whole, so that engine and adapter are measured on the same
tokens. `cga perplexity --ids` reads the same files; tools/cga/commands/perplexity/token_ids.h describes the format."""

import hashlib
import json
import os
import pathlib

import numpy as np

KINDS = {"format": str, "version": int, "name": str, "tokenizer": str, "source": str, "bos": bool, "n_tokens": int,
         "sha256": str, "ids": list}
LABELS = ("name", "tokenizer", "source")
LABEL, MOST_BYTES = 200, 256 << 20
A_LINE = 20  # ids


def checksum(ids: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids, "<i4").tobytes()).hexdigest()


def is_label(text: str) -> bool:
    return len(text) <= LABEL and all(" " <= c <= "~" for c in text)


def write(path: str | os.PathLike, name: str, tokenizer: str, source: str, ids: np.ndarray) -> None:
    """Whole or not at all. The ids are to be fed as they are, without BOS."""
    labels = dict(zip(LABELS, (name, tokenizer, source)))
    for key, text in labels.items():
        if not is_label(text):
            raise ValueError(f"{path}: {key} must be at most {LABEL} printable ASCII characters")
    head = {"format": "cga-token-ids", "version": 1, **labels, "bos": False, "n_tokens": len(ids), "sha256": checksum(ids)}
    lines = [",".join(map(str, ids[i:i + A_LINE].tolist())) for i in range(0, len(ids), A_LINE)]
    text = json.dumps(head, indent=1)[:-2] + ',\n "ids": [\n' + ",\n".join(lines) + "\n]}\n"
    temporary = pathlib.Path(f"{path}.tmp")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def members(pairs: list[tuple[str, object]]) -> dict:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member is there twice")
    return dict(pairs)


def read(path: str | os.PathLike, n_vocab: int) -> tuple[str, np.ndarray]:
    """The text's name and its ids [n], int32. A file that is not exactly what the format says is refused."""
    path = pathlib.Path(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size:,} bytes are too many")
    try:
        found = json.loads(path.read_text("utf-8"), object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no file of token ids: {error}") from None
    try:
        return check(found, n_vocab)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check(found: object, n_vocab: int) -> tuple[str, np.ndarray]:
    if not isinstance(found, dict) or found.get("format") != "cga-token-ids":
        raise ValueError("no file of token ids")
    if found.keys() != KINDS.keys():
        raise ValueError(f"members {', '.join(sorted(found.keys() ^ KINDS.keys()))}: missing or unknown")
    for key, kind in KINDS.items():
        if type(found[key]) is not kind:
            raise ValueError(f"{key}: expected {kind.__name__}, found {type(found[key]).__name__}")
    if found["version"] != 1:
        raise ValueError(f"version {found['version']}, expected 1")
    if not all(is_label(found[key]) for key in LABELS):
        raise ValueError(f"{', '.join(LABELS)} must be at most {LABEL} printable ASCII characters")
    if found["bos"]:
        raise ValueError("bos: true is for the engine; the adapter feeds ids as they are")
    for i, token in enumerate(found["ids"]):
        if type(token) is not int or not 0 <= token < n_vocab:
            raise ValueError(f"ids[{i}] is no id of this model's {n_vocab} tokens")
    ids = np.asarray(found["ids"], np.int32)
    if len(ids) == 0 or found["n_tokens"] != len(ids):
        raise ValueError(f"n_tokens: {found['n_tokens']}, and there are {len(ids)} ids")
    if found["sha256"] != checksum(ids):
        raise ValueError("sha256: the checksum is not that of the ids")
    return found["name"], ids
