#!/usr/bin/env python3
"""Retrieval from long documents, in the manner of RULER (Hsieh et al., arXiv:2404.06654): facts are hidden in a novel, the document is
read once and asked many times, with full attention and with each cache that is named. Standard library only; needs a built cga.

    bench/needle.py CGA MODEL NOVEL.txt --tokens 4096 --haystacks 25 --settings "--kv bf16" "--kv cga" --out results.json

With --out, a run that was stopped goes on where it was: what the file holds of the same haystacks is not asked again.

Each haystack has eight questions, two of each kind:

  single        one number, somewhere
  multi-key     one of four numbers that differ by their key
  multi-value   all three numbers of one key
  tracking      a chain of four variables, each set to the one before it: which number the last has

An answer is right if it holds all numbers that were asked for. Haystacks depend on --seed alone. Differences between settings
are paired by question: the table has how many were right with the first setting only, and with this one only.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

WORDS = ("amber anchor apple arrow autumn badger barley basket beacon birch blanket bramble bridge bronze butter candle canyon cedar "
         "cherry cinder clover cobalt copper coral cotton cradle crimson crystal dagger daisy dragon ember falcon feather fennel "
         "ferry fiddle forest garnet ginger glacier granite hammer harbor hazel heron honey indigo island ivory jasmine juniper kettle "
         "lantern laurel lemon lichen lilac linen lotus magnet maple marble meadow mirror nettle nutmeg oak olive onyx orchid otter "
         "pebble pepper pewter pigeon plum pollen poppy prairie quartz quill raven ribbon river saddle saffron sage salmon sandal "
         "sapphire scarlet shadow silver sparrow spruce summit sunset tangle thistle timber topaz tulip turnip valley velvet walnut "
         "willow winter zephyr").split()
CHARACTERS_A_TOKEN = 4.2  # of English prose; the real count is reported


def number(rng: random.Random) -> str:
    return str(rng.randint(1_000_000, 9_999_999))


def facts_and_questions(rng: random.Random) -> tuple[list[str], list[dict]]:
    words = rng.sample(WORDS, 40)
    take = lambda: f"{words.pop()}-{words.pop()}"
    facts, questions = [], []

    def ask(kind: str, question: str, answers: list[str]) -> None:
        questions.append({"kind": kind, "question": question + " Answer with the number only.", "answers": answers})

    magic = lambda key, value: f"One of the special magic numbers for {key} is: {value}."
    for _ in range(2):
        key, value = take(), number(rng)
        facts.append(magic(key, value))
        ask("single", f"What is the special magic number for {key} mentioned in the text?", [value])
    keys = [(take(), number(rng)) for _ in range(4)]
    facts += [magic(*pair) for pair in keys]
    for key, value in rng.sample(keys, 2):
        ask("multi-key", f"What is the special magic number for {key} mentioned in the text?", [value])
    for _ in range(2):
        key, values = take(), [number(rng) for _ in range(3)]
        facts += [magic(key, value) for value in values]
        questions.append({"kind": "multi-value", "answers": values, "question":
                          f"What are all three special magic numbers for {key} mentioned in the text? Answer with the numbers only."})
    for _ in range(2):
        names, value = ["VAR " + "".join(rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 5)) for _ in range(4)], number(rng)
        facts.append(f"{names[0]} = {value}.")
        facts += [f"{b} = {a}." for a, b in zip(names, names[1:])]
        ask("tracking", f"In the text, variables are set with '='. Follow the chain of assignments: which number does {names[-1]} have?",
            [value])
    return facts, questions


def haystack(novel: str, n_tokens: int, seed: int) -> tuple[str, list[dict]]:
    """Facts between sentences of a piece of the novel, at random places; those of a chain keep their order."""
    rng = random.Random(seed)
    facts, questions = facts_and_questions(rng)
    n = int((n_tokens - 220) * CHARACTERS_A_TOKEN) - 2 * sum(map(len, facts))  # numbers take more tokens than prose
    first = rng.randint(0, len(novel) - n - 1)
    sentences = novel[first:first + n].replace("\n", " ").split(". ")
    places = sorted(rng.sample(range(1, len(sentences)), len(facts)))
    chains = [f for f in facts if f.startswith("VAR")]
    others = [f for f in facts if not f.startswith("VAR")]
    rng.shuffle(others)
    order = others + chains
    slots = rng.sample(range(len(order)), len(chains))
    arranged, rest = [None] * len(order), iter(others)
    for slot, fact in zip(sorted(slots), chains):
        arranged[slot] = fact
    arranged = [fact or next(rest) for fact in arranged]
    for place, fact in reversed(list(zip(places, arranged))):
        sentences.insert(place, fact.rstrip("."))
    rng.shuffle(questions)
    text = ". ".join(sentences) + "."
    return "Some special magic numbers and variables are hidden in the following text. Memorize them.\n\n" + text, questions


def ask(cga: str, model: str, setting: str, document: str, questions: list[dict], context: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        text, asked = pathlib.Path(folder) / "document", pathlib.Path(folder) / "questions"
        text.write_text(document)
        asked.write_text("".join(q["question"] + "\n" for q in questions))
        run = subprocess.run([cga, "generate", "-m", model, "-f", text, "--ask", asked, "--json", "--temp", "0", "-n", "48",
                              "-c", str(context), *setting.split()], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"needle.py: {setting}: cga ended with {run.returncode}: {run.stderr.strip().splitlines()[-1]}")
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    return [q | {"answer": a["text"], "right": all(value in a["text"].replace(",", "") for value in q["answers"])}
            for q, a in zip(questions, answers, strict=True)]


class Answers:
    """What was asked and answered, by setting and haystack, kept in a file if there is one."""

    def __init__(self, path: pathlib.Path | None, of: dict) -> None:
        self.path, self.of_what, self.lock = path, of, threading.Lock()
        self.answers: dict[str, dict[str, list[dict]]] = {}
        if path and path.exists():
            kept = json.loads(path.read_text())
            if kept["of"] != of:
                sys.exit(f"needle.py: {path} is of {kept['of']}, not of {of}: name another file")
            self.answers = kept["answers"]

    def has(self, setting: str, haystack: int) -> bool:
        return str(haystack) in self.answers.get(setting, {})

    def add(self, setting: str, haystack: int, rows: list[dict]) -> None:
        with self.lock:
            self.answers.setdefault(setting, {})[str(haystack)] = rows
            if self.path:
                part = self.path.with_name(self.path.name + ".part")
                part.write_text(json.dumps({"of": self.of_what, "answers": self.answers}, indent=1))
                part.replace(self.path)

    def so_far(self, settings: list[str]) -> str:
        with self.lock:
            rows = {s: [row for rows in self.answers.get(s, {}).values() for row in rows] for s in settings}
        return ", ".join(f"{s}: {sum(r['right'] for r in of)} of {len(of)}" for s, of in rows.items())

    def of(self, setting: str, n_haystacks: int) -> list[dict]:
        return [row for i in range(n_haystacks) for row in self.answers[setting][str(i)]]


def table(settings: list[str], results: dict[str, list[dict]]) -> str:
    kinds = ["single", "multi-key", "multi-value", "tracking"]
    lines = [f"| setting | {' | '.join(kinds)} | all | right with the first only / with this only |", "|---|" + "---:|" * 6]
    base = results[settings[0]]
    for setting in settings:
        rows = results[setting]
        share = lambda part: f"{100 * sum(r['right'] for r in part) / max(1, len(part)):.1f} %"
        lost = sum(b["right"] and not r["right"] for b, r in zip(base, rows))
        won = sum(r["right"] and not b["right"] for b, r in zip(base, rows))
        parts = [share([r for r in rows if r["kind"] == kind]) for kind in kinds]
        lines.append(f"| `{setting}` | {' | '.join(parts)} | {share(rows)} of {len(rows)} | {lost} / {won} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cga")
    parser.add_argument("model")
    parser.add_argument("novel", help="plain text that the model was not tuned on")
    parser.add_argument("--tokens", type=int, default=4096, help="length of a document, questions included (default 4096)")
    parser.add_argument("--haystacks", type=int, default=25)
    parser.add_argument("--settings", nargs="+", default=["--kv bf16", "--kv cga"], help="flags of cga, one string a setting")
    parser.add_argument("--jobs", type=int, default=1, help="haystacks that are read at once, each by a cga of its own (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="every question and answer, as JSON; a run that was stopped goes on from it")
    parser.add_argument("--context", type=int, help="-c of cga (default: a sixteenth more than --tokens, and 512)")
    options = parser.parse_args()
    options.context = options.context or options.tokens + options.tokens // 16 + 512
    novel = pathlib.Path(options.novel).read_text(errors="replace")
    asked = Answers(options.out, {"tokens": options.tokens, "seed": options.seed, "model": pathlib.Path(options.model).name})

    def answer(i: int) -> None:
        document, questions = haystack(novel, options.tokens, 1000 * options.seed + i)
        for setting in options.settings:
            if not asked.has(setting, i):
                asked.add(setting, i, ask(options.cga, options.model, setting, document, questions, options.context))

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for n, done in enumerate(concurrent.futures.as_completed(pool.submit(answer, i) for i in range(options.haystacks)), 1):
            if done.exception():
                pool.shutdown(cancel_futures=True)
                sys.exit(str(done.exception()))
            print(f"haystack {n} of {options.haystacks}: {asked.so_far(options.settings)}", file=sys.stderr, flush=True)
    print(table(options.settings, {s: asked.of(s, options.haystacks) for s in options.settings}))


if __name__ == "__main__":
    main()
