"""Text → token ids, with the tokenizer the checkpoint carries, and ids → the sequences that calibration runs over."""

import bz2
import dataclasses
import hashlib
import lzma
import pathlib

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from . import token_ids
from .checkpoint import Checkpoint, GgufCheckpoint

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CONTROL, USER_DEFINED = 3, 4  # GGUF's token types


def byte_pair_tokenizer(tokens: list[str], kinds: list[int], merges: list[str], pre: str) -> tokenizers.Tokenizer:
    splits = {"gpt2": [], "smollm": [pre_tokenizers.Digits(individual_digits=True)],
              "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated")],
              "qwen2": [pre_tokenizers.Split(Regex(QWEN2), "isolated")]}
    if pre not in splits:
        raise ValueError(f"pre-tokenizer '{pre}' is not one of {', '.join(splits)}")
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)},
                                                merges=[tuple(m.split(" ")) for m in merges],
                                                ignore_merges=pre == "llama-bpe"))
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt2", "smollm"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits[pre], by_bytes])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    of = lambda kind: [t for t, k in zip(tokens, kinds) if k == kind]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in of(CONTROL)])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in of(USER_DEFINED)])
    return tokenizer


def load(checkpoint: Checkpoint) -> tokenizers.Tokenizer:
    if not isinstance(checkpoint, GgufCheckpoint):
        return tokenizers.Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    get = lambda key: checkpoint.field(f"tokenizer.ggml.{key}")
    if get("model") != "gpt2":
        raise ValueError(f"{checkpoint.path}: tokenizer '{get('model')}' is not byte-level BPE ('gpt2')")
    return byte_pair_tokenizer(get("tokens"), get("token_type"), get("merges"), get("pre"))


def describe(checkpoint: Checkpoint, tokenizer: tokenizers.Tokenizer) -> str:
    pre = checkpoint.field("tokenizer.ggml.pre") if isinstance(checkpoint, GgufCheckpoint) else "tokenizer.json"
    return f"{pre}, {tokenizer.get_vocab_size()} tokens"


def read_text(path: pathlib.Path) -> str:
    opener = {".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", errors="replace")


@dataclasses.dataclass
class Text:
    name: str
    ids: np.ndarray  # int32


def read(tokenizer: tokenizers.Tokenizer, paths: list[str]) -> list[Text]:
    """Text names are file names without folders; control tokens written out in a text become those tokens."""
    texts = []
    for path in map(pathlib.Path, paths):
        ids = tokenizer.encode(read_text(path), add_special_tokens=False).ids
        name = path.stem if path.suffix in (".xz", ".bz2") else path.name
        texts.append(Text(name, np.asarray(ids, np.int32)))
    return texts


def read_evaluation(tokenizer: tokenizers.Tokenizer, paths: list[str]) -> list[Text]:
    """Texts, and files of token ids (.json), which are taken as they are."""
    n_vocab = tokenizer.get_vocab_size()
    texts = []
    for path in paths:
        is_ids = pathlib.Path(path).suffix == ".json"
        texts += [Text(*token_ids.read(path, n_vocab))] if is_ids else read(tokenizer, [path])
    return texts


def sequences(texts: list[Text], length: int, n_tokens: int) -> tuple[list[np.ndarray], list[dict]]:
    """Sequences of `length` tokens, about n_tokens of them in all: an equal share from each text, spread over it, the
    texts taking turns so that any prefix of the list is a mixture. And the sidecar's record of what was used."""
    pieces = [[t.ids[i:i + length] for i in range(0, len(t.ids) - length + 1, length)] or [t.ids] for t in texts]
    quota, chosen = max(1, round(n_tokens / length)), [0] * len(texts)
    while quota and any(c < len(p) for c, p in zip(chosen, pieces)):
        for i, p in enumerate(pieces):
            if quota and chosen[i] < len(p):
                chosen[i], quota = chosen[i] + 1, quota - 1
    spread = [[p[j * len(p) // c] for j in range(c)] for p, c in zip(pieces, chosen)]
    turns = [s[j] for j in range(max(map(len, spread), default=0)) for s in spread if j < len(s)]
    record = [{"text": t.name, "tokens": sum(map(len, s))} for t, s in zip(texts, spread) if s]
    return [s for s in turns if len(s) > 1], record


def checksum(sequences: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for ids in sequences:
        digest.update(len(ids).to_bytes(8, "little") + np.ascontiguousarray(ids, "<i4").tobytes())
    return digest.hexdigest()
