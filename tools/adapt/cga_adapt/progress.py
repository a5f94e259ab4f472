"""Progress of a long loop on stderr: tqdm where there is one and a terminal, plain lines every ten seconds otherwise."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def is_look(step: int, steps: int, parts: int) -> bool:
    """Whether to look at kept-out text behind a step: `steps` cut into as many parts, between two of them."""
    return (step + 1) * parts // steps > step * parts // steps and step + 1 < steps


def progress(items: Iterable, label: str, total: int, first: int = 0, note: Callable[[], str] | None = None) -> Iterator:
    """first: how many were done before. note: what else a plain line says."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
            yield from tqdm(items, label, total, initial=first)
            return
        except ImportError:
            pass
    start = last = time.monotonic()
    for i, item in enumerate(items, first + 1):
        yield item
        now = time.monotonic()
        if now - last >= 10 or i == total:
            last = now
            say(f"{label}: {i} of {total}, {now - start:.0f} s{', ' + note() if note else ''}")
