"""python -m cga_adapt MODEL -o STEM.cga --text FILES… : the command line, and the order in which things are done."""

import argparse
import os
import pathlib
import sys
import time

import numpy as np
import torch

from . import checkpoint, grouping, index_stage, lora_stage, need_stage, picture, quality, sidecar, statistics, tokens, transform, tune
from .model import Channels, Model, capture
from .progress import say
from .sidecar import SINKS, Sidecar

INDEX_BYTES = 6_000_000      # left free for the index to come
MAX_BYTES = 40_000_000 - INDEX_BYTES
WITHIN = 0.03                # of the best error: the smallest transforms that are as good are taken
KEPT_OUT = 8                 # one sequence in so many is kept out of the covariance, for variances and codebooks
DEFAULTS = {"kv_bits": 1.5, "kv_window": 1024, "kv_sparse_from": 2048}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("cga_adapt", description="Learns a checkpoint's sidecar from text.")
    parser.add_argument("model", help="GGUF file or Hugging Face folder (architectures: llama, qwen2)")
    parser.add_argument("-o", "--output", required=True, type=pathlib.Path, metavar="STEM.cga")
    parser.add_argument("--stage", choices=("transform", "index", "need", "lora"), default="transform", help="what to learn; the "
                        "index is added to a sidecar with transforms, how much queries need and adapters (lora) to one with an index "
                        "(default %(default)s)")
    parser.add_argument("--text", required=True, nargs="+", help="calibration text: files (.xz, .bz2 too) or folders of them")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of calibration text, an equal share of each file "
                        "(default %(default)s)")
    parser.add_argument("--seq-len", type=int, help="tokens read in one go (default 4096, for the index 8192, for "
                        "adapters 16384)")
    parser.add_argument("--group-layers", type=int, help="layers that share a latent (default: the smallest transforms "
                        "under --max-bytes whose error on kept-out text is --within of the best)")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="of all transforms together (default %(default)s)")
    parser.add_argument("--within", type=float, default=WITHIN, metavar="SHARE", help="how much larger the error may be than "
                        "that of the best groups, for smaller transforms (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eval", nargs="*", default=[], help="text to measure quality on, "
                        "or token ids (.json, from make_ids.py); keep it out of --text")
    parser.add_argument("--eval-tokens", type=int, default=8192, help="from the start of each (default %(default)s)")
    parser.add_argument("--tune", type=int, default=0, metavar="STEPS", help="gradient steps on the finished transforms, a "
                        f"sequence of {tune.LENGTH} tokens each (default %(default)s; 240 are 3 minutes on a GPU for SmolLM2)")
    parser.add_argument("--stats", help="file where statistics are kept, and picked up again if it exists")
    index_stage.add_options(parser)
    lora_stage.add_options(parser)
    options = parser.parse_args(arguments)
    options.seq_len = options.seq_len or {"transform": 4096, "index": 8192, "need": 8192, "lora": 16384}[options.stage]
    return options


def files(paths: list[str]) -> list[str]:
    """Folders opened, in name order."""
    out = []
    for path in map(pathlib.Path, paths):
        out += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return [str(p) for p in out]


def split_layers(config: checkpoint.Config, most: int) -> list[int]:
    """Layers of each group: as even as can be, none with more than `most`."""
    sizes = grouping.even_groups(config.n_layers, -(-config.n_layers // most))
    for size in sizes:
        if 2 * size * config.kv_channels % sidecar.ROWS:
            raise ValueError(f"a group of {size} layers has {2 * size * config.kv_channels} channels, which is not a "
                             f"multiple of {sidecar.ROWS}; name another --group-layers")
    return sizes


def state_needs(model: Model, group_layers: list[int], length: int) -> None:
    """Says, before anything long is started, what it will take."""
    c = model.config
    sizes = [2 * count * c.kv_channels for count in group_layers]
    item = model.head.element_size()
    weights = sum({w.data_ptr(): w.nbytes for w in model.weights.values()}.values())
    sums = sum(8 * n * (n + 2) for n in sizes)
    ffn, vocabulary = len(model.weights["blk.0.ffn_gate.weight"]), len(model.head)
    activations = length * (c.n_layers * c.dim * item + 4 * (12 * c.dim + 6 * ffn) + sum(sizes) * (2 * item + 24))
    head = 4 * 3 * statistics.HEAD_ROWS * vocabulary
    solver = 8 * (sum(n * n for n in sizes) + 4 * max(n * n for n in sizes))
    mb = lambda n: f"{n / 1e6:,.0f} MB"
    say(f"{c.architecture}, {c.n_layers} layers in groups of {group_layers}, {sizes[0]} channels in the first")
    say(f"memory on {model.device}: weights {mb(weights)}, statistics {mb(sums)}, a sequence {mb(activations + head)}, "
        f"decomposition {mb(solver)}; at most about {mb(weights + sums + max(activations + head, solver))} at a time")


def kept_out(n: int, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Indices of sequences for the covariance, for fitting variances and codebooks, for judging them. With too few to
    divide, all serve all three."""
    count = n // KEPT_OUT
    if count < 2:
        return list(range(n)), list(range(n)), list(range(n))
    chosen = np.random.default_rng(seed).permutation(n)[:count].tolist()
    fitting, judging = sorted(chosen[: (count + 1) // 2]), sorted(chosen[(count + 1) // 2:])
    return [i for i in range(n) if i not in chosen], fitting, judging


class ChannelSource:
    """A transform.Source: runs the model again each time, so that memory holds one sequence."""

    def __init__(self, model: Model, group_layers: list[int], sequences: list[np.ndarray]):
        self.model, self.group_layers, self.sequences = model, group_layers, sequences
        self.n_tokens = sum(max(0, len(ids) - SINKS) for ids in sequences)

    @torch.no_grad()
    def __iter__(self):
        for ids in self.sequences:
            _, keys, values = capture(self.model, torch.from_numpy(ids.astype(np.int64)).to(self.model.device))
            yield [x[SINKS:] for x in Channels(self.model, self.group_layers, len(ids)).split(keys, values)]


def metadata(source: checkpoint.Checkpoint, group_layers: list[int], record: list[dict],
             spectra: list[transform.Spectrum], scores: list[quality.Score]) -> dict:
    c = source.config
    return {"format": "cga-sidecar", "format_version": 1, "architecture": c.architecture, "n_layers": c.n_layers,
            "n_heads": c.n_heads, "n_kv_heads": c.n_kv_heads, "head_dim": c.head_dim, "dim": c.dim,
            "rope_theta": c.rope_theta, "rope_magnitude": c.rope_magnitude, "fingerprint": source.fingerprint(),
            "page": sidecar.PAGE, "unit": sidecar.UNIT, "group_layers": group_layers, "defaults": DEFAULTS,
            "calibration": record, "quality": [s.entry() for s in scores],
            "spectra": [s.shares() for s in spectra], "tool": sidecar.tool()}


def adapt(options: argparse.Namespace) -> None:
    start = time.monotonic()
    since = lambda: f"{time.monotonic() - start:.0f} s"
    source = checkpoint.load(options.model)
    wanted = split_layers(source.config, options.group_layers) if options.group_layers else None
    tokenizer = tokens.load(source)
    sequences, record = tokens.sequences(tokens.read(tokenizer, files(options.text)), options.seq_len, options.tokens)
    evaluation = [tokens.Text(t.name, t.ids[:options.eval_tokens])
                  for t in tokens.read_evaluation(tokenizer, files(options.eval))]
    say(f"{sum(map(len, sequences)):,} tokens in {len(sequences)} sequences of {len(record)} texts, {since()}")
    for entry in record:
        say(f"  {entry['tokens']:9,} {entry['text']}")
    model = Model(source, options.device, torch.bfloat16 if options.device == "cuda" else torch.float32)
    state_needs(model, wanted or grouping.candidates(source.config)[0], max(map(len, sequences)))

    training, fitting, judging = ([sequences[i] for i in part] for part in kept_out(len(sequences), options.seed))
    group_layers = wanted
    if not wanted:
        group_layers, report = grouping.choose(model, training, lambda cut: ChannelSource(model, cut, judging),
                                               options.max_bytes, options.within, options.seed)
        say("\n".join([*report, f"groups of {group_layers} layers, {since()}"]))
    identity = {"fingerprint": source.fingerprint(), "seed": str(options.seed), "group_layers": str(group_layers),
                "tokens": tokens.checksum(training)}
    gathered = statistics.gather(model, training, group_layers, options.seed, identity, options.stats)
    say(f"statistics of {gathered.n_tokens:,} tokens, {since()}")
    spectra = [transform.decompose(gathered, g) for g in range(len(group_layers))]
    del gathered
    kept = transform.fit(spectra, options.max_bytes)
    groups = [transform.rounded(s, m) for s, m in zip(spectra, kept)]
    for g, (s, m) in enumerate(zip(spectra, kept)):
        say(f"group {g}: {len(s.mean)} channels, {m} components stored of {s.wanted} wanted, {groups[g].n_wide} in 16 bits")
    groups, report = transform.refine(groups, *(ChannelSource(model, group_layers, part) for part in (fitting, judging)))
    say("\n".join(report) + f"\ntransforms ready, {since()}")
    if options.tune:
        exact = model if model.dtype == torch.float32 else Model(source, options.device, torch.float32)
        groups, report = tune.improve(exact, groups, group_layers, training + fitting, judging, options.tune, options.seed)
        say(report + f"\ntuned, {since()}")
        del exact
    Sidecar(metadata(source, group_layers, record, spectra, []), groups).write(options.output)  # before the long part

    scores = quality.evaluate(model, groups, group_layers, evaluation)
    if scores:
        print(quality.table(scores))
        Sidecar(metadata(source, group_layers, record, spectra, scores), groups).write(options.output)
    drawn = picture.draw(options.output.with_suffix(".png"), options.output.stem,
                         [s.variance.cpu().numpy() for s in spectra], kept, scores)
    say(f"{options.output}: {options.output.stat().st_size:,} bytes{'' if drawn else ', no picture (no matplotlib)'}, {since()}")
    if options.device == "cuda":
        say(f"peak of GPU memory {torch.cuda.max_memory_allocated() / 1e6:,.0f} MB")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # matrix products that repeat exactly
    try:
        if options.stage == "index":
            index_stage.index(options, files)
        elif options.stage == "need":
            need_stage.need(options, files)
        elif options.stage == "lora":
            lora_stage.lora(options, files)
        else:
            adapt(options)
    except (OSError, ValueError) as error:
        print(f"cga_adapt: {error}", file=sys.stderr)
        return 1
    return 0
