"""Text in which facts are stated and come up again much later, for training an index to find them.

    python hide_facts.py OUT.txt PROSE... [--characters N] [--farthest N] [--seed N]

takes paragraphs of the texts given in order, and between them states that something has some value; some paragraphs to a
whole document later it says so again, in other words, so that a model that attends to the first place is seen doing it.
Standard library only; the same texts and seed give the same bytes. Give no text that is for evaluation. Of
bench/needle.py, which measures retrieval, neither words nor sentences are used here.
"""
import argparse
import pathlib
import random
import sys

from collect_text import read

OWNERS = ("Adler Bergmann Castellano Dufresne Eriksen Fontaine Galloway Hashimoto Ivanova Jansen Kowalski Lindqvist Moreau Nakamura Okafor "
          "Petrov Quintana Rosenberg Sorensen Takeda Ulrich Vasquez Whitcombe Yamada Zielinski").split()
THINGS = ("account number", "badge code", "birth year", "cabinet key", "case number", "door code", "draft title", "engine serial number",
          "flight number", "home town", "invoice total", "licence plate", "locker", "meeting point", "office extension", "order number",
          "password", "ring size", "room", "seat", "shipment weight", "ticket number", "train", "vault combination", "warehouse aisle")
PLACES = ("Ashford Bremen Cordoba Dunedin Evora Fargo Galway Haarlem Izmir Jaipur Kiel Lucerne Malmo Nantes Odense Porto Quito Riga Siena "
          "Tromso Uppsala Verona Windhoek York Zagreb").split()
FIRST = ("For the record, the {thing} of {owner} is {value}.", "{owner} wrote it down: the {thing} is {value}.",
         "Someone noted that {owner}'s {thing} was {value}.", "The {thing} that belongs to {owner}: {value}.")
AGAIN = ("As was said before, the {thing} of {owner} is {value}.", "What was {owner}'s {thing}? It was {value}.",
         "Q: Tell me the {thing} of {owner}.\nA: {value}", "{owner} had to remember the {thing}, which was {value}.")


def fact(rng: random.Random, used: set) -> dict:
    """One whose owner and thing have not come up yet."""
    while True:
        owner, thing = f"{rng.choice('ABCDEFGHJKLMNPRSTVW')}. {rng.choice(OWNERS)}", rng.choice(THINGS)
        if (owner, thing) not in used:
            used.add((owner, thing))
            break
    value = rng.choice((str(rng.randint(100, 999_999)), f"{rng.choice(PLACES)} {rng.randint(2, 99)}",
                        f"{rng.choice('ABCDEFGHKLMNPRT')}{rng.choice('ABCDEFGHKLMNPRT')}-{rng.randint(1000, 9999)}"))
    return {"owner": owner, "thing": thing, "value": value}


def hide(paragraphs: list[str], rng: random.Random, every: int = 1200, nearest: int = 1500, farthest: int = 120_000) -> str:
    """A fact every `every` characters, each again at a distance whose logarithm is evenly spread, as far as the text goes."""
    parts, size, waiting, used, next_fact = [], 0, [], set(), 0

    def say(text: str) -> None:
        nonlocal size
        parts.append(text + "\n\n")
        size += len(parts[-1])

    for paragraph in paragraphs:
        say(paragraph)
        for _, told in sorted((w for w in waiting if w[0] <= size), key=lambda w: w[0]):
            say(rng.choice(AGAIN).format(**told))
        waiting = [w for w in waiting if w[0] > size]
        if size >= next_fact and len(used) < len(OWNERS) * len(THINGS) * 10:
            told = fact(rng, used)
            say(rng.choice(FIRST).format(**told))
            waiting.append((size + int(nearest * (farthest / nearest) ** rng.random()), told))
            next_fact = size + rng.randint(every // 2, 3 * every // 2)
    return "".join(parts)


def paragraphs_of(texts: list[str]) -> list[str]:
    return [" ".join(p.split()) for text in texts for p in text.split("\n\n") if p.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("prose", type=pathlib.Path, nargs="+", help="plain text, .xz, .bz2 or .gz")
    parser.add_argument("--characters", type=int, default=6_000_000, help="of prose, at most (default 6,000,000)")
    parser.add_argument("--farthest", type=int, default=120_000, help="characters from a fact to where it comes up again (default 120,000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    prose = paragraphs_of([read(path) for path in options.prose])
    taken, size = [], 0
    while size < options.characters and len(taken) < len(prose):
        size += len(prose[len(taken)])
        taken.append(prose[len(taken)])
    if not taken:
        sys.exit("hide_facts.py: there is no text in these files")
    text = hide(taken, random.Random(options.seed), farthest=options.farthest)
    part = options.out.with_name(options.out.name + ".part")
    part.write_text(text)
    part.replace(options.out)
    print(f"{options.out}: {len(text):,} characters")


if __name__ == "__main__":
    main()
