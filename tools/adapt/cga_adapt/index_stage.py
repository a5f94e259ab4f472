"""`--stage index`: trains an index for a checkpoint and adds it to the sidecar that the transform stage made."""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import time

import torch

from . import checkpoint, index_check, index_quality, index_training, index_tuning, picture, sidecar, tokens
from .codec import Codec
from .index import Anchor
from .index_training import Design, Training
from .index_tuning import Tuning
from .model import Model
from .progress import is_look, progress, say
from .sidecar import Sidecar
from .stream import Stream

SAVE_EVERY = 60.0           # seconds
CHECKS = 10                 # looks at the choice itself, in each stage
MAX_BYTES = 6_000_000       # of all anchors together
LARGEST = 5                 # layers that an automatic selection group has at most
RATE = 1.5                  # bits a value at which quality with coding is measured


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("index (--stage index)")
    group.add_argument("--select-layers", type=int, nargs="+", metavar="N", help="layers of each selection group, in order "
                       "(default: layer groups cut into pieces of at most 5, the first piece cut once more)")
    group.add_argument("--index-heads", type=int, help=f"query heads (default {Design.heads})")
    group.add_argument("--index-width", type=int, help=f"channels of a head and of a key (default {Design.width})")
    group.add_argument("--key-layers", type=int, help="of those an anchor serves, how many first ones its keys are made from "
                       "(default: all)")
    group.add_argument("--steps", type=int, help=f"one sequence each (default {Design.steps})")
    group.add_argument("--queries", type=int, help=f"positions a step learns from (default {Design.queries})")
    group.add_argument("--target", choices=("mass", "effect"), help="what units are ranked by: their attention mass, or what they "
                       f"do to attention's outputs (default {Design.target})")
    group.add_argument("--rate", type=float, help="of learning, for a model of "
                       f"{index_training.REFERENCE} channels; wider ones take smaller steps (default {Design.rate})")
    group.add_argument("--window", type=int, help=f"tokens read exactly, in training and evaluation (default {Design.window})")
    group.add_argument("--budgets", type=int, nargs="+", help="tokens, for training's second half and for evaluation "
                       f"(default {' '.join(map(str, Design.budgets))})")
    group.add_argument("--index-max-bytes", type=int, default=MAX_BYTES, help=f"all anchors together (default {MAX_BYTES:,})")
    group.add_argument("--end-to-end", type=int, default=0, metavar="STEPS", help="a last stage on the model's own divergence "
                       "with the choice in the loop (default: none)")
    group.add_argument("--index-start", type=pathlib.Path, metavar="SIDECAR", help="begin with the index of this sidecar, of the same "
                       "shape and checkpoint (default: with noise)")
    group.add_argument("--state", type=pathlib.Path, help="file where training is kept, and picked up again if it exists "
                       "(default: the sidecar's name with .training)")


def default_groups(group_layers: list[int]) -> list[int]:
    """Even pieces of at most LARGEST layers inside each layer group. The first layer sees only the token itself, so it
    chooses for fewer."""
    sizes = []
    for count in group_layers:
        pieces = -(-count // LARGEST)
        sizes += [count * (i + 1) // pieces - count * i // pieces for i in range(pieces)]
    first = sizes[0]
    return ([first * 2 // 5, first - first * 2 // 5] if first >= 4 else [first]) + sizes[1:]


def design(options: argparse.Namespace, card: Sidecar) -> Design:
    names = {"heads": "index_heads", "width": "index_width", "key_layers": "key_layers", "steps": "steps", "seed": "seed",
             "queries": "queries", "target": "target", "rate": "rate", "window": "window", "budgets": "budgets"}
    given = {k: getattr(options, v) for k, v in names.items() if getattr(options, v) is not None}
    if "budgets" in given:
        given["budgets"] = tuple(given["budgets"])
    groups = tuple(options.select_layers or default_groups(card.metadata["group_layers"]))
    made = Design(groups, **given)
    check(made, card.metadata["group_layers"])
    return made


def check(d: Design, group_layers: list[int]) -> None:
    ends = lambda sizes: {sum(sizes[:i + 1]) for i in range(len(sizes))}
    if min(d.groups) < 1 or not ends(group_layers) <= ends(d.groups) or sum(d.groups) != sum(group_layers):
        raise ValueError(f"selection groups of {list(d.groups)} layers do not subdivide the layer groups {group_layers}")
    if d.width % 4 or d.width < 4:
        raise ValueError(f"--index-width {d.width} is not a multiple of 4")
    if d.window % sidecar.PAGE:
        raise ValueError(f"--window {d.window} is not a multiple of {sidecar.PAGE}")


def state_needs(model: Model, d: Design, length: int, n_tokens: int, max_bytes: int = MAX_BYTES) -> None:
    c, item = model.config, model.head.element_size()
    mb = lambda n: f"{n / 1e6:,.0f} MB"
    weights = sum({w.data_ptr(): w.nbytes for w in model.weights.values()}.values())
    rows = [d.heads * d.width + min(n, d.key_layers or n) * d.width + d.heads for n in d.groups]
    stored, trained = 2 * c.dim * sum(rows), 16 * c.dim * sum(rows)
    units = -(-length // sidecar.UNIT)
    attention = d.queries * length * c.n_heads * (4 + 2 * item)
    scoring = d.queries * length * (d.heads * 3 * item + 12)
    passing = length * c.dim * item * (c.n_layers + 12) + 4 * c.n_layers * d.queries * units
    say(f"{len(d.groups)} anchors serving {list(d.groups)} layers, {d.heads} query heads of {d.width}: {mb(stored)} in the sidecar")
    say(f"memory on {model.device}: weights {mb(weights)}, index and optimiser {mb(trained)}, a step "
        f"{mb(passing + max(attention, scoring))}; on disk {mb(4 * n_tokens)} of token ids")
    if stored > max_bytes:
        raise ValueError(f"the index would take {stored:,} bytes, more than {max_bytes:,} (--index-max-bytes); fewer --index-heads, a smaller "
                         "--index-width or fewer --key-layers")


def begin_with(path: pathlib.Path, d: Design, source: checkpoint.Checkpoint) -> list[Anchor]:
    """The index that training begins with."""
    there = checkpoint.read_sidecar(path, source)
    if [(a.layer, a.n_layers) for a in there.anchors] != d.anchors():
        raise ValueError(f"{path}: its anchors serve {[a.n_layers for a in there.anchors]} layers, not {list(d.groups)}")
    for a in there.anchors:
        if a.query.shape[:2] != (d.heads, d.width) or len(a.key) != min(a.n_layers, d.key_layers or a.n_layers):
            raise ValueError(f"{path}: an index of {a.query.shape[0]} heads of {a.query.shape[1]}, keys of {len(a.key)} layers; "
                             "--index-heads, --index-width and --key-layers must say the same")
    return there.anchors


def train(model: Model, d: Design, stream: Stream, state: pathlib.Path, identity: str, start: list[Anchor] | None) -> Training:
    training = Training(model, d, start)
    if state.exists():
        training.resume(state, identity)
        say(f"picked up {state} at step {training.step}")
    saved = time.monotonic()
    first = training.step
    for step in progress(range(first, d.steps), "training", d.steps, first,
                         lambda: f"KL {float(torch.stack(training.history[-50:]).mean()):.4f}" if training.history else ""):
        index_training.run(model, training, lambda s: stream.sequence(d.seed, s), step + 1)
        if time.monotonic() - saved > SAVE_EVERY or step + 1 == d.steps:
            training.save(state, identity)
            saved = time.monotonic()
        if is_look(step, d.steps, CHECKS):
            report(training, stream, f"training, step {step + 1}")
    return training


def report(training: Training, stream: Stream, label: str) -> index_check.Check | None:
    """Says how good the choice is now on kept-out text, at the smallest budget."""
    texts = stream.some_kept_out(index_check.TEXTS)
    found = index_check.check(training, [t.ids for t in texts], min(training.design.budgets))
    if found:
        say(f"{label}, kept-out text: {found}")
        weak = [s.layer for s, f in zip(training.scorers, found.found) if f < index_check.CONVERGED]
        if weak:
            say(f"  weak: the anchor{'s' if len(weak) > 1 else ''} of layer {', '.join(map(str, weak))}")
    return found


def tune(training: Training, steps: int, stream: Stream, state: pathlib.Path, identity: str) -> Tuning:
    tuning = Tuning(training, index_tuning.Settings(steps))
    if state.exists():
        tuning.resume(state, identity)
        say(f"picked up {state} at step {tuning.step}")
    saved, first, seed = time.monotonic(), tuning.step, tuning.settings.seed
    for step in progress(range(first, steps), "end to end", steps, first,
                         lambda: f"KL {float(torch.stack(tuning.history[-50:]).mean()):.4f}" if tuning.history else ""):
        index_tuning.run(tuning, lambda s: stream.sequence(training.design.seed + seed, s), step + 1)
        if time.monotonic() - saved > SAVE_EVERY or step + 1 == steps:
            tuning.save(state, identity)
            saved = time.monotonic()
        if is_look(step, steps, CHECKS):
            report(training, stream, f"end to end, step {step + 1}")
    return tuning


def record(d: Design, training: Training, stream: Stream) -> dict:
    losses = training.losses()
    last = losses[-max(1, len(losses) // 20):].mean(0).tolist()
    return dataclasses.asdict(d) | {"sequence": stream.length, "texts": stream.record(), "kl": [round(x, 4) for x in last]}


def index(options: argparse.Namespace, files) -> None:
    start = time.monotonic()
    since = lambda: f"{time.monotonic() - start:.0f} s"
    source = checkpoint.load(options.model)
    card = checkpoint.read_sidecar(options.output, source)
    d = design(options, card)
    tokenizer = tokens.load(source)
    stream = Stream(tokenizer, files(options.text), options.seq_len)
    say(f"{stream}, {since()}")
    model = Model(source, options.device, torch.bfloat16 if options.device == "cuda" else torch.float32)
    state_needs(model, d, options.seq_len, len(stream.ids), options.index_max_bytes)
    start_from = begin_with(options.index_start, d, source) if options.index_start else None
    text = json.dumps([dataclasses.asdict(d), stream.record(), options.seq_len, card.metadata["fingerprint"]]
                      + ([hashlib.sha256(options.index_start.read_bytes()).hexdigest()] if start_from else []))
    identity = hashlib.sha256(text.encode()).hexdigest()
    training = train(model, d, stream, options.state or options.output.with_suffix(".training"), identity, start_from)
    found = report(training, stream, "trained")
    say(f"trained, {since()}")
    about = record(d, training, stream) | ({"begun_with": options.index_start.name} if start_from else {})
    if options.end_to_end:
        index_check.insist(found)
        state = (options.state or options.output.with_suffix(".training")).with_suffix(".tuning")
        tuning = tune(training, options.end_to_end, stream, state, identity)
        last = tuning.losses()[-max(1, tuning.step // 20):]
        about |= {"end_to_end": dataclasses.asdict(tuning.settings) | {"kl": round(float(last.mean()), 5)}}
        report(training, stream, "tuned end to end")
        say(f"tuned end to end, {since()}")
    write(card, training, d, about, [], options.output)  # before the long part
    picture.draw_losses(options.output.with_suffix(".index.png"), options.output.stem, training.losses().numpy(),
                        [a for a, _ in d.anchors()])

    anchors = [a.to(model.device) for a in training.anchors()]
    coders = [Codec(g.to(model.device), RATE) for g in card.groups]
    measure = lambda texts: index_quality.evaluate(model, anchors, texts, list(d.budgets), d.window, coders,
                                                   card.metadata["group_layers"])
    say("kept-out training text:\n" + index_quality.table(measure(stream.kept_out()[:4])))
    texts = [tokens.Text(t.name, t.ids[:options.eval_tokens]) for t in tokens.read(tokenizer, files(options.eval))]
    if texts:
        rows = measure(texts)
        print(index_quality.table(rows))
        write(card, training, d, about, rows, options.output)
    say(f"{options.output}: {options.output.stat().st_size:,} bytes, {since()}")


def write(card: Sidecar, training: Training, d: Design, about: dict, rows: list[dict], path: pathlib.Path) -> None:
    rounded = lambda v: float(f"{v:.5g}") if isinstance(v, float) else v
    card.anchors, card.adapters = training.anchors(), []  # adapters were trained behind another choice
    card.metadata.pop("lora", None)
    card.metadata.pop("need", None)
    card.metadata |= {"select_layers": list(d.groups), "index_heads": d.heads, "index_width": d.width, "index_training": about,
                      "index_quality": [{k: rounded(v) for k, v in r.items()} for r in rows]}
    card.write(path)
