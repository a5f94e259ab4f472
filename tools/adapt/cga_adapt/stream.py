"""Training text as a stream: files are tokenised once, piece by piece, into a file of ids on disk, and sequences are
drawn from it at random places. Which sequence a step gets depends only on the texts, the seed and the step."""

import pathlib
import tempfile

import numpy as np
import tokenizers

from .tokens import Text, read_text

PIECE = 100_000   # characters tokenised in one go
BATCH = 256       # pieces handed over together, for as many threads as there are
KEPT_OUT = 0.02   # of each text's end is never trained on


class Stream:
    """`folder`: where the ids go (a temporary one where none is named)."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, paths: list[str], length: int, folder: pathlib.Path | None = None):
        self._own = None if folder else tempfile.TemporaryDirectory()
        path = (pathlib.Path(self._own.name) if self._own else folder) / "tokens.u32"
        self.length, self.names, self.ranges = length, [], []  # ranges: (first, end of training, end) in ids
        at = 0
        with open(path, "wb") as file:
            for name in map(pathlib.Path, paths):
                first, text = at, read_text(name)
                for i in range(0, len(text), PIECE * BATCH):
                    pieces = [text[j:j + PIECE] for j in range(i, min(len(text), i + PIECE * BATCH), PIECE)]
                    for encoding in tokenizer.encode_batch_fast(pieces, add_special_tokens=False):
                        ids = np.asarray(encoding.ids, "<u4")
                        file.write(ids.tobytes())
                        at += len(ids)
                kept = max(length, int(KEPT_OUT * (at - first)))
                if at - first >= 3 * length:
                    self.names.append(name.stem if name.suffix in (".xz", ".bz2") else name.name)
                    self.ranges.append((first, at - kept, at))
        if not self.ranges:
            raise ValueError(f"no text has {3 * length} tokens, which a sequence of {length} needs beside what is kept out")
        self.ids = np.memmap(path, "<u4", "r")
        sizes = np.sqrt([b - a for a, b, _ in self.ranges])  # the larger a text, the more often, but less than in proportion
        self.chance = sizes / sizes.sum()

    def record(self) -> list[dict]:
        return [{"text": n, "tokens": b - a} for n, (a, b, _) in zip(self.names, self.ranges)]

    def sequence(self, seed: int, step: int) -> np.ndarray:
        """int64 [length]"""
        draw = np.random.default_rng([seed, step])
        first, end, _ = self.ranges[draw.choice(len(self.ranges), p=self.chance)]
        at = draw.integers(first, end - self.length + 1)
        return self.ids[at:at + self.length].astype(np.int64)

    def __str__(self) -> str:
        return f"{sum(e['tokens'] for e in self.record()):,} tokens of {len(self.names)} texts"

    def kept_out(self) -> list[Text]:
        """A sequence from the end of each text."""
        return [Text(n, self.ids[e - self.length:e].astype(np.int64)) for n, (_, _, e) in zip(self.names, self.ranges)]

    def some_kept_out(self, most: int) -> list[Text]:
        """Of no more than `most` texts, from among all."""
        return self.kept_out()[::max(1, len(self.names) // most)][:most]
