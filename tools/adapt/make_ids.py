"""Makes the evaluation inputs: three texts as token ids, which the engine (`cga perplexity --ids`) and the adapter
(`python -m cga_adapt … --eval`) then read alike.

    python make_ids.py MODEL OUT [--wiki wiki.test.raw] [--novel moby_dick.txt.xz] [--asyncio FOLDER] [--tokens N]

writes, for what is given,

  OUT/wiki.json       the first tokens of WikiText-2's test set, raw
  OUT/moby_dick.json  the novel from character 20,000 on, past title, contents and quotations
  OUT/asyncio.json    Python's asyncio/*.py in name order, one after the other with nothing between

in the tokens of MODEL, a GGUF file or a Hugging Face folder. Lines end with \\n whatever they end with in the file,
special tokens written out in a text are taken as text, and no BOS is put in front. Calibrate on none of them.
"""
import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cga_adapt import checkpoint, token_ids, tokens  # noqa: E402

NOVEL_FROM = 20_000  # characters


def read(path: pathlib.Path) -> str:
    return tokens.read_text(path).replace("\r\n", "\n")


def asyncio_sources(folder: pathlib.Path) -> str:
    paths = sorted(folder.glob("*.py"))
    if not paths:
        raise ValueError(f"{folder}: no *.py there")
    return "".join(map(read, paths))


def texts(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """(name, what it was made of, text) of each."""
    out = []
    if options.wiki:
        out.append(("wiki", options.wiki.name, read(options.wiki)))
    if options.novel:
        out.append(("moby_dick", f"{options.novel.name} from character {NOVEL_FROM}",
                    read(options.novel)[NOVEL_FROM:]))
    if options.asyncio:
        out.append(("asyncio", "asyncio/*.py in name order", asyncio_sources(options.asyncio)))
    return out


def make(options: argparse.Namespace) -> None:
    source = checkpoint.load(options.model)
    tokenizer = tokens.load(source)
    tokenizer.encode_special_tokens = True  # as text
    options.out.mkdir(parents=True, exist_ok=True)
    for name, made_of, text in texts(options):
        ids = tokenizer.encode(text, add_special_tokens=False).ids[:options.tokens]
        if len(ids) < options.tokens:
            raise ValueError(f"{name} has only {len(ids):,} tokens of the {options.tokens:,} wanted")
        path = options.out / f"{name}.json"
        token_ids.write(path, name, tokens.describe(source, tokenizer), made_of, np.asarray(ids, np.int32))
        print(f"{path}: {len(ids):,} tokens of {made_of}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file or Hugging Face folder: whose tokenizer")
    parser.add_argument("out", type=pathlib.Path, help="folder")
    parser.add_argument("--wiki", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--novel", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--asyncio", type=pathlib.Path, metavar="FOLDER", help="such as /usr/lib/python3.11/asyncio")
    parser.add_argument("--tokens", type=int, default=8193, help="of each: a context and the token after it (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        make(options)
    except (OSError, ValueError) as error:
        print(f"make_ids: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
