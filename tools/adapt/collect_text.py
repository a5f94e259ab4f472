"""Collects calibration text from what a Debian machine carries: prose, encyclopedia, code, chat and technical text.

    python collect_text.py OUT [--prose FILES…] [--encyclopedia FILE] [--novel FILE] [--debs FILES…] [--bytes N] [--seed N]

writes OUT/calibration/*.txt, one file a kind, OUT/evaluation/*.txt, and OUT/sources.json: which files each was made
of, with bytes and SHA-256. Standard library only. The same machine and seed give the same bytes.

  prose          the novels given (plain or .xz)
  encyclopedia   what follows character 600,000 of the WikiText file given
  essays, reference, sayings   of the Debian packages given with --debs (`apt-get download` fetches them): see PACKAGES
  python, c      sources below /usr/lib/python3* and /usr/include
  technical      manual pages, and documents below /usr/share/doc (texts, READMEs, FAQs; no changelogs, no licences)
  chat           conversations in ChatML put together from docstrings, manual pages and package descriptions

Evaluation texts are what calibration must not see: the first 8 % of the WikiText file, the novel given with --novel from
character 20,000, and Python's asyncio sources in name order. None of them is a source of the other folder.
"""
import argparse
import ast
import bz2
import collections
import gzip
import hashlib
import html
import json
import lzma
import pathlib
import random
import re
import subprocess
import tempfile

PIECE = 48_000  # characters taken from one file, at most
PACKAGES = {"essays": ("anarchism", "debian-handbook", "debian-history", "debian-reference-en"),
            "reference": ("dict-gcide", "dict-foldoc", "dict-jargon", "dict-elements"),
            "sayings": ("fortunes", "bible-kjv-text")}
MARKS = {"user": "<|im_start|>user\n", "assistant": "<|im_start|>assistant\n", "system": "<|im_start|>system\n"}
SYSTEMS = ["You are a helpful assistant.", "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
           "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", "You are an expert programmer.",
           "Answer briefly and precisely."]


def read(path: pathlib.Path) -> str:
    opener = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rb") as file:
        return file.read().decode("utf-8", errors="replace").replace("\r\n", "\n")


class Collection:
    """One text under construction: pieces of files, up to a size."""

    def __init__(self, limit: int):
        self.limit, self.parts, self.sources, self.size = limit, [], [], 0

    def full(self) -> bool:
        return self.size >= self.limit

    def add(self, name: str, text: str) -> None:
        text = text[:max(0, self.limit - self.size)]
        if text.strip():
            self.parts.append(text.rstrip() + "\n\n")
            self.size += len(self.parts[-1])
            self.sources.append({"name": name, "bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()})

    def write(self, path: pathlib.Path) -> dict:
        text = "".join(self.parts)
        path.write_text(text)
        return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest(), "sources": self.sources}


def find(roots: list[str], keep, rng: random.Random) -> list[pathlib.Path]:
    """Regular files below roots that `keep` wants, in an order that depends on their names and the seed alone."""
    found = sorted(p for root in roots for p in pathlib.Path("/").glob(root.lstrip("/") + "/**/*")
                   if p.is_file() and not p.is_symlink() and keep(p))
    rng.shuffle(found)
    return found


def python_sources(rng: random.Random) -> list[pathlib.Path]:
    out = ("asyncio", "test", "tests", "__pycache__", "lib2to3", "encodings", "pydoc_data")
    keep = lambda p: p.suffix == ".py" and p.stat().st_size > 2000 and not set(out) & set(p.parts)
    return find(["/usr/lib/python3*"], keep, rng)


def c_sources(rng: random.Random) -> list[pathlib.Path]:
    keep = lambda p: p.suffix in (".h", ".hpp", ".hh", ".tcc", "") and 3000 < p.stat().st_size < 300_000
    return find(["/usr/include"], keep, rng)


def documents(rng: random.Random) -> list[pathlib.Path]:
    def keep(p: pathlib.Path) -> bool:
        name = p.name.lower().removesuffix(".gz")
        if any(word in name for word in ("change", "copyright", "license", "licence", "results", "status", "authors")):
            return False
        texts = name.endswith((".txt", ".md", ".rst")) or "readme" in name or "faq" in name or "news" in name
        return texts and p.stat().st_size > 2000
    return find(["/usr/share/doc"], keep, rng)


def manuals(rng: random.Random) -> list[pathlib.Path]:
    keep = lambda p: bool(re.search(r"\.[1-8][a-z]*(\.gz)?$", p.name)) and p.stat().st_size > 1500
    chosen, of_family = [], collections.Counter()
    for path in find([f"/usr/share/man/man{section}" for section in (1, 2, 3, 5, 7, 8)], keep, rng):
        family = re.split(r"[-_.:]", path.name)[0]  # some programs have thousands of pages that are much alike
        of_family[family] += 1
        if of_family[family] <= 20:
            chosen.append(path)
    return chosen


def plain_manual(roff: str) -> str:
    """The words of a manual page without its markup; good enough to be read, not to be printed."""
    lines, skip = [], False
    for line in roff.splitlines():
        if line.startswith((".de", ".ig", ".if", ".ie")):
            skip = line.rstrip().endswith("\\{") or line.startswith((".de", ".ig"))
            continue
        if skip:
            skip = not (line.startswith("..") or "\\}" in line)
            continue
        heading = re.match(r"\.(SH|SS|Sh|Ss)\s+(.*)", line)
        if heading:
            lines.append("\n" + heading[2].strip('"'))
            continue
        macro = re.match(r"[.'](\S*)\s*(.*)", line)
        if macro:
            if macro[1] in ("B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "IP", "TP", "Nm", "Fl", "Ar", "Pa", "Xr"):
                lines.append(macro[2].replace('"', ""))
            elif macro[1] in ("PP", "P", "LP", "Pp", "sp"):
                lines.append("")
            continue
        lines.append(line)
    text = re.sub(r"\\f(\[[^\]]*\]|\(..|.)|\\s[-+]?\d|\\&|\\[|^/]", "", "\n".join(lines))
    for mark, plain in (("\\-", "-"), ("\\(aq", "'"), ("\\(lq", '"'), ("\\(rq", '"'), ("\\(bu", "•"), ("\\e", "\\"), ("\\ ", " ")):
        text = text.replace(mark, plain)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def conversation(turns: list[tuple[str, str]], rng: random.Random) -> str:
    out = [f"{MARKS['system']}{rng.choice(SYSTEMS)}<|im_end|>\n"] if rng.random() < 0.7 else []
    for question, answer in turns:
        out.append(f"{MARKS['user']}{question}<|im_end|>\n{MARKS['assistant']}{answer}<|im_end|>\n")
    return "".join(out)


def function_turns(path: pathlib.Path, rng: random.Random) -> list[tuple[str, str]]:
    """Questions about documented functions of a module: write it, explain it."""
    source, turns = read(path), []
    try:
        nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
    except (SyntaxError, ValueError):
        return []
    for node in nodes:
        words, code = ast.get_docstring(node), ast.get_source_segment(source, node)
        if not words or not code or not 200 < len(code) < 2500 or node.name.startswith("__"):
            continue
        summary = words.split("\n\n")[0].replace("\n", " ").rstrip(".")
        turns.append(rng.choice([
            (f"Write a Python function `{node.name}`. {summary}.", f"```python\n{code}\n```\n\n{words}"),
            (f"What does this code do?\n\n```python\n{code}\n```", words),
            (f"How do I use `{path.stem}.{node.name}` in Python?", f"{words}\n\nIts source is:\n\n```python\n{code}\n```")]))
    return turns


def manual_turns(path: pathlib.Path, rng: random.Random) -> list[tuple[str, str]]:
    text, name = plain_manual(read(path)), re.sub(r"\.[1-8].*$", "", path.name)
    described = re.search(r"\n?DESCRIPTION\s*\n(.*?)(?=\n[A-Z][A-Z ]{3,}\n|\Z)", text, re.S)
    if not described or len(described[1].strip()) < 200:
        return []
    question = rng.choice([f"What is `{name}` for?", f"Explain {name} to me.", f"How does {name} work on Linux?",
                           f"Can you tell me about {name}?"])
    return [(question, described[1].strip()[:1800])]


def package_turns() -> list[tuple[str, str]]:
    """What each installed package is, from dpkg's records."""
    turns, status = [], pathlib.Path("/var/lib/dpkg/status")
    for entry in read(status).split("\n\n") if status.exists() else []:
        name, words = re.search(r"^Package: (.*)", entry, re.M), re.search(r"^Description: (.*(?:\n .*)*)", entry, re.M)
        if name and words and len(words[1]) > 250:
            lines = [line.strip() for line in words[1].split("\n")]
            text = "\n".join("" if line == "." else line for line in lines[1:])
            turns.append((f"What is the Debian package {name[1]}?", f"{name[1]} is: {lines[0]}.\n\n{text}"))
    return turns


def chat(limit: int, rng: random.Random) -> Collection:
    packages = package_turns()
    rng.shuffle(packages)
    code, pages = iter(python_sources(rng)), iter(manuals(rng))
    out = Collection(limit)
    while not out.full():
        kind = rng.choices(("code", "page", "package"), (3, 2, 2))[0]
        if kind == "package" and packages:
            name, turns = "/var/lib/dpkg/status", [packages.pop() for _ in range(min(len(packages), rng.randint(1, 4)))]
        else:
            path = next(code if kind == "code" else pages, None)
            if path is None:
                break
            name, turns = str(path), (function_turns(path, rng) if kind == "code" else manual_turns(path, rng))[:6]
        if turns:
            out.add(name, conversation(turns, rng))
    return out


def plain_html(page: str) -> str:
    """The words of a page; block elements end a paragraph."""
    page = re.sub(r"(?is)<(script|style|head|nav|table|pre)\b.*?</\1>", " ", page)
    page = re.sub(r"(?i)</?(p|div|h[1-6]|li|ul|ol|br|blockquote|dt|dd)\b[^>]*>", "\n\n", re.sub(r"\s+", " ", page))
    page = html.unescape(re.sub(r"<[^>]+>", "", page))
    return re.sub(r"\n\s*\n\s*", "\n\n", re.sub(r"[ \t]+", " ", page)).strip()


def package_texts(deb: pathlib.Path) -> list[tuple[str, str]]:
    """(name, text) of what is worth reading in a package, in name order."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(deb), folder], check=True)
        for path in sorted(p for p in pathlib.Path(folder).glob("usr/**/*") if p.is_file() and not p.is_symlink()):
            name = f"{deb.name.split('_')[0]}: {path.relative_to(folder)}"
            if path.suffix == ".dz":  # dictzip: gzip that can be read from the middle
                out.append((name, gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")))
            elif path.suffix in (".html", ".htm") and ("en" in path.parts or "en-US" in path.parts or not
                                                       re.search(r"/[a-z]{2}([-_][A-Z]{2})?/", str(path))):
                out.append((name, plain_html(read(path))))
            elif path.parent.name == "fortunes" and not path.suffix or path.suffix == ".txt":
                out.append((name, re.sub(r"\n%\n", "\n\n", read(path))))
    return [(name, text) for name, text in out if len(text) > 2000]


def packaged(debs: list[pathlib.Path], names: tuple[str, ...], limit: int, rng: random.Random) -> Collection:
    """An equal share of each package that was given; of large files a stretch anywhere."""
    out, chosen = Collection(limit), [d for d in debs if d.name.split("_")[0] in names]
    for i, deb in enumerate(sorted(chosen, key=lambda d: names.index(d.name.split("_")[0]))):
        texts, end = package_texts(deb), out.size + (limit - out.size) // (len(chosen) - i)
        rng.shuffle(texts)
        piece = max(PIECE, (limit // max(1, len(chosen))) // max(1, len(texts)))
        for name, text in texts:
            start = rng.randrange(max(1, len(text) - piece))
            out.add(name, text[start:start + min(piece, max(0, end - out.size))])
    return out


def collect(paths: list[pathlib.Path], limit: int, change=lambda text: text) -> Collection:
    out = Collection(limit)
    for path in paths:
        if out.full():
            break
        out.add(str(path), change(read(path))[:PIECE])
    return out


def alternate(first: list, second: list) -> list:
    return [p for pair in zip(first, second) for p in pair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--prose", nargs="*", type=pathlib.Path, default=[], help="novels for calibration")
    parser.add_argument("--encyclopedia", type=pathlib.Path, help="WikiText: its start is evaluation, its end calibration")
    parser.add_argument("--novel", type=pathlib.Path, help="novel for evaluation only")
    parser.add_argument("--debs", nargs="*", type=pathlib.Path, default=[], help="Debian packages with texts for calibration")
    parser.add_argument("--bytes", type=int, default=1_200_000, help="of each calibration text (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, limit = random.Random(options.seed), options.bytes

    texts = {}
    prose = texts["prose"] = Collection(limit)
    for path in options.prose:  # from the middle: the ends of such files are titles and licences
        text, share = read(path), limit // len(options.prose)
        start = max(0, (len(text) - share) // 2)
        prose.add(path.name, text[start:start + share])
    evaluation = {"asyncio": Collection(100_000), "encyclopedia": Collection(100_000), "novel": Collection(100_000)}
    if options.encyclopedia:
        text, name = read(options.encyclopedia), options.encyclopedia.name
        texts["encyclopedia"] = Collection(limit)
        texts["encyclopedia"].add(f"{name}, from character 600,000", text[600_000:])
        evaluation["encyclopedia"].add(f"{name}, its first 8 %", text[:len(text) * 8 // 100])
    if options.novel:
        evaluation["novel"].add(f"{options.novel.name}, from character 20,000", read(options.novel)[20_000:])
    texts["python"] = collect(python_sources(rng), limit)
    texts["c"] = collect(c_sources(rng), limit)
    pages = alternate(documents(rng), manuals(rng))
    texts["technical"] = collect(pages, limit, lambda t: plain_manual(t) if re.search(r"^\.(TH|Dd|SH) ", t, re.M) else t)
    texts["chat"] = chat(limit, rng)
    for kind, names in PACKAGES.items():
        texts[kind] = packaged(options.debs, names, limit, rng)
    for path in sorted(p for root in pathlib.Path("/usr/lib").glob("python3*/asyncio") for p in root.glob("*.py")):
        evaluation["asyncio"].add(str(path), read(path))

    record = {}
    for folder, group in (("calibration", texts), ("evaluation", evaluation)):
        (options.out / folder).mkdir(parents=True, exist_ok=True)
        for name, text in group.items():
            if text.parts:
                record[f"{folder}/{name}"] = text.write(options.out / folder / f"{name}.txt")
                print(f"{folder}/{name}.txt: {record[f'{folder}/{name}']['bytes']:,} bytes of {len(text.sources)} sources")
    (options.out / "sources.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
