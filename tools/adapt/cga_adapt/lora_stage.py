"""`--stage lora`: trains adapters behind a checkpoint's finished index, and adds them to the sidecar that holds it."""

import argparse
import dataclasses
import hashlib
import json
import pathlib
import time

import torch

from . import checkpoint, index_check, lora_training, sidecar, tokens
from .adapter import Adapter
from .lora_training import Settings, Tuning
from .model import Model
from .progress import is_look, progress, say
from .sidecar import Sidecar
from .stream import Stream

SAVE_EVERY = 60.0   # seconds
LOOKS = 4           # parts that steps are cut into, with a look at kept-out text between


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("adapters (--stage lora)", "--steps, --queries, --rate, --window, --budgets and --state mean "
                                      f"what they mean for the index; by default {Settings.steps}, {Settings.queries}, {Settings.rate}, "
                                      "the window and, in turns, the budgets the index was trained for, and the sidecar's name with .lora")
    group.add_argument("--rank", type=int, default=Settings.rank, help="of the matrices (default %(default)s)")
    group.add_argument("--text-weight", type=float, default=Settings.text_weight, help="of the text's own next tokens in the loss; the "
                       "rest is divergence from the model that reads everything (default %(default)s)")


def settings(options: argparse.Namespace, card: Sidecar) -> Settings:
    if not card.anchors:
        raise ValueError(f"{options.output}: has no index; --stage index makes one")
    about = card.metadata["index_training"]
    given = {k: getattr(options, k) for k in ("steps", "queries", "rank", "rate", "text_weight") if getattr(options, k) is not None}
    made = Settings(options.window if options.window is not None else about["window"], tuple(options.budgets or about["budgets"]),
                    seed=options.seed + Settings.seed, **given)
    check(made, options.seq_len)
    return made


def check(s: Settings, length: int) -> None:
    for name in ("steps", "queries", "rank"):
        if getattr(s, name) < 1:
            raise ValueError(f"--{name} {getattr(s, name)} is not at least 1")
    if not 0 <= s.text_weight <= 1:
        raise ValueError(f"--text-weight {s.text_weight} is not between 0 and 1")
    if s.window % sidecar.PAGE:
        raise ValueError(f"--window {s.window} is not a multiple of {sidecar.PAGE}")
    for budget in s.budgets:
        if budget < sidecar.UNIT:
            raise ValueError(f"a budget of {budget} is less than a unit, {sidecar.UNIT} tokens")
        if length <= lora_training.first_unread(budget, s.window) + 1:
            raise ValueError(f"sequences of {length} tokens (--seq-len) leave nothing unread at a budget of {budget}")


def state_needs(model: Model, card: Sidecar, s: Settings, length: int, n_tokens: int) -> None:
    c, item = model.config, model.head.element_size()
    mb = lambda n: f"{n / 1e6:,.0f} MB"
    weights = sum({w.data_ptr(): w.nbytes for w in model.weights.values()}.values())
    numbers = c.n_layers * sum(a * b for a, b in Adapter.shapes(s.rank, c.dim, c.n_heads * c.head_dim).values())
    heads = max(a.query.shape[0] for a in card.anchors)
    passing = length * item * (c.n_layers * (c.dim + 2 * c.kv_channels) + 4 * c.dim + 3 * len(model.weights["blk.0.ffn_gate.weight"]))
    attention = s.queries * length * c.n_heads * (5 * 4 + 2 * item)
    scoring, head = s.queries * length * heads * 4 * 3, s.queries * len(model.head) * 4 * 8
    graphs = 2 if model.device.type == "cuda" else 1  # what a captured step takes is its own
    say(f"adapters of rank {s.rank} in {c.n_layers} layers: {mb(2 * numbers)} in the sidecar")
    say(f"memory on {model.device}: weights {mb(weights)}, adapters and optimiser {mb(16 * numbers)}, a step "
        f"{mb(graphs * (passing + max(attention, scoring, head)))}; on disk {mb(4 * n_tokens)} of token ids")


def identify(s: Settings, stream: Stream, card: Sidecar) -> str:
    """Of all that a run depends on."""
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(s), stream.record(), stream.length,
                                        card.metadata["fingerprint"]]).encode())
    for anchor in card.anchors:
        for _, array in sorted(anchor.tensors().items()):
            digest.update(array.tobytes())
    return digest.hexdigest()


def train(tuning: Tuning, stream: Stream, texts: list[tokens.Text], state: pathlib.Path, identity: str) -> None:
    s = tuning.settings
    if state.exists():
        tuning.resume(state, identity)
        say(f"picked up {state} at step {tuning.step}")
    saved, first = time.monotonic(), tuning.step
    for step in progress(range(first, s.steps), "adapters", s.steps, first,
                         lambda: f"KL {float(torch.stack(tuning.history[-50:]).mean()):.5f}" if tuning.history else ""):
        lora_training.run(tuning, lambda i: stream.sequence(s.seed, i), step + 1)
        if time.monotonic() - saved > SAVE_EVERY or step + 1 == s.steps:
            tuning.save(state, identity)
            saved = time.monotonic()
        if is_look(step, s.steps, LOOKS):
            say(f"step {step + 1}, kept-out text: "
                + lora_training.line(lora_training.measure(tuning.model, tuning.anchors, tuning.adapters, texts, s)))


def compare(tuning: Tuning, texts: list[tokens.Text], label: str) -> list[dict]:
    """Rows without and with the adapters as they are stored, both said."""
    rows = []
    for name, adapters in (("without", None), ("with", [a.to(tuning.model.device) for a in tuning.stored()])):
        own = lora_training.measure(tuning.model, tuning.anchors, adapters, texts, tuning.settings)
        say(f"{label}, {name} adapters: {lora_training.line(own)}")
        rows += own
    return rows


def lora(options: argparse.Namespace, files) -> None:
    start = time.monotonic()
    since = lambda: f"{time.monotonic() - start:.0f} s"
    source = checkpoint.load(options.model)
    card = checkpoint.read_sidecar(options.output, source)
    s = settings(options, card)
    tokenizer = tokens.load(source)
    evaluation = [tokens.Text(t.name, t.ids[:options.eval_tokens])
                  for t in tokens.read_evaluation(tokenizer, files(options.eval))]
    stream = Stream(tokenizer, files(options.text), options.seq_len)
    say(f"{stream}, {since()}")
    model = Model(source, options.device, torch.bfloat16 if options.device == "cuda" else torch.float32)
    state_needs(model, card, s, options.seq_len, len(stream.ids))

    tuning = Tuning(model, card.anchors, s)
    texts = stream.some_kept_out(index_check.TEXTS)
    say("before, kept-out text: " + lora_training.line(lora_training.measure(model, tuning.anchors, None, texts, s)))
    train(tuning, stream, texts, options.state or options.output.with_suffix(".lora"), identify(s, stream, card))
    say(f"trained, {since()}")
    rows = compare(tuning, texts, "kept-out text")
    write(card, tuning, stream, rows, options.output)  # before the long part
    if evaluation:
        rows += compare(tuning, evaluation, "evaluation")
        write(card, tuning, stream, rows, options.output)
    say(f"{options.output}: {options.output.stat().st_size:,} bytes, {since()}")
    if options.device == "cuda":
        say(f"peak of GPU memory {torch.cuda.max_memory_reserved() / 1e6:,.0f} MB")


def write(card: Sidecar, tuning: Tuning, stream: Stream, rows: list[dict], path: pathlib.Path) -> None:
    rounded = lambda v: float(f"{v:.5g}") if isinstance(v, float) else v
    s = tuning.settings
    card.adapters = tuning.stored()
    card.metadata["lora"] = {"rank": s.rank, "window": s.window, "budgets": list(s.budgets), "sequence": stream.length,
                             "steps": s.steps, "queries": s.queries, "rate": s.rate, "text_weight": s.text_weight,
                             "texts": stream.record(),
                             "quality": [{k: rounded(v) for k, v in r.items()} for r in rows]}
    card.write(path)
