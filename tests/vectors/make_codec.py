"""Writes tests/vectors/codec: small random sidecars, and what tools/adapt's codec makes of random tokens with them.

    python make_codec.py        # needs requirements.txt; same script, same bytes but for the last place of floats
    python make_codec.py MODEL SIDECAR IDS.json STEM    # the same of a real sidecar and real tokens, not kept here

For each NAME (qwen2-mixed fits that model of tests/vectors/tiny, fingerprint included; three-layers fits none):

  NAME.cga              a sidecar (docs/sidecar.md) whose transform is random
  NAME.safetensors      for each layer group g and rate R (r1, r15, r2 stand for 1, 1.5 and 2 bits a value)
      group.<g>.x               F32 [t, n]   channels in the page's frame
      group.<g>.bits_<R>        U8 [m]       width of each component
      group.<g>.codes_<R>       U8 [t, m]    level of each component, 0 where it has no bits
      group.<g>.decoded_<R>     F32 [t, n]   reconstruction

The random numbers have what makes real ones hard: components whose variances span six powers of ten, channel means
far from zero (key biases), sensitivities that differ by a hundred, and tokens beyond the outermost levels.
Inner products are computed in f64; an f32 codec may put a component that lies at the border of two levels
on the other side, so codes are compared for at least 99.9 % equality and differences of one.
"""
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tools" / "adapt"))

from cga_adapt import checkpoint, codebooks, safetensors_file, sidecar  # noqa: E402
from cga_adapt.codec import Codec  # noqa: E402
from cga_adapt.sidecar import Group, Sidecar, round_narrow  # noqa: E402

RATES = {"r1": 1.0, "r15": 1.5, "r2": 2.0}
N_TOKENS = 10


def random_group(rng: np.random.Generator, n: int, m: int, w: int) -> tuple[Group, np.ndarray]:
    """The group, and tokens drawn from it: f32 [N_TOKENS, n]."""
    full = np.linalg.qr(rng.normal(size=(n, n)))[0].T  # rows are components
    variance = 1000.0 * np.exp(-np.arange(n) * 10.0 / n) * rng.uniform(0.9, 1.1, n)
    variance[:8] *= 300.0  # so that 2 bits a value reach 8 bits for some
    variance = np.sort(variance)[::-1]
    scale = np.exp(rng.normal(size=n))
    mean = rng.normal(size=n) * rng.choice([0.1, 1.0, 30.0], n)
    y = rng.normal(size=(N_TOKENS, n)) * np.sqrt(variance)
    y[3] *= 8  # beyond the last level everywhere
    x = mean + (y @ full) / scale
    rows = torch.from_numpy(full)
    codes, scales = round_narrow(rows[w:m])
    books = {b: codebooks.gaussian(b) * float(f) for b, f in ((1, 1.02), (2, 0.98), (4, 1.01))}
    as_f32 = lambda a: torch.from_numpy(np.ascontiguousarray(a, np.float32))
    return Group(as_f32(mean), as_f32(scale), as_f32(variance[:m]), rows[:w].half(), codes, scales, books), as_f32(x)


def vectors(g: int, group: Group, x: torch.Tensor) -> dict[str, np.ndarray]:
    tensors = {f"group.{g}.x": x.numpy()}
    for label, rate in RATES.items():
        codec = Codec(group, rate, torch.float64)
        codes = codec.encode(x)
        tensors[f"group.{g}.bits_{label}"] = codec.bits.numpy().astype(np.uint8)
        tensors[f"group.{g}.codes_{label}"] = codes.numpy()
        tensors[f"group.{g}.decoded_{label}"] = codec.decode(codes).numpy()
    return tensors


def make_real(model_path: str, sidecar_path: str, ids_path: str, stem: str) -> None:
    """Page 8 of a text: the model's own keys and values, coded with a sidecar that was learned."""
    from cga_adapt.model import Channels, Model, capture
    from cga_adapt import token_ids
    model = Model(checkpoint.load(model_path), "cpu", torch.float32)
    learned = Sidecar.read(sidecar_path)
    ids = torch.from_numpy(token_ids.read(ids_path, len(model.head))[1][:9 * 64].astype(np.int64))
    _, keys, values = capture(model, ids)
    tensors = {}
    for g, (group, x) in enumerate(zip(learned.groups, Channels(model, learned.metadata["group_layers"], len(ids)).split(keys, values))):
        tensors |= vectors(g, group, x[8 * 64:].contiguous())
    safetensors_file.write(f"{stem}.safetensors", tensors, {"rates": "r1=1 r15=1.5 r2=2"})
    pathlib.Path(f"{stem}.cga").write_bytes(pathlib.Path(sidecar_path).read_bytes())


def make(name: str, seed: int, c: checkpoint.Config, fingerprint: str, group_layers: list[int],
         sizes: list[tuple[int, int]]) -> None:
    """sizes: (m, w) of each group"""
    rng = np.random.default_rng(seed)
    groups, tensors = [], {}
    for g, (layers, (m, w)) in enumerate(zip(group_layers, sizes)):
        group, x = random_group(rng, 2 * layers * c.kv_channels, m, w)
        groups.append(group)
        tensors |= vectors(g, group, x)
    metadata = {
        "format": "cga-sidecar", "format_version": 1, "architecture": c.architecture, "n_layers": c.n_layers,
        "n_heads": c.n_heads, "n_kv_heads": c.n_kv_heads, "head_dim": c.head_dim, "dim": c.dim,
        "rope_theta": c.rope_theta, "rope_magnitude": c.rope_magnitude, "fingerprint": fingerprint,
        "page": 64, "unit": 16, "group_layers": group_layers,
        "defaults": {"kv_bits": 1.5, "kv_window": 64, "kv_sparse_from": 128},
        "calibration": [{"text": "random", "tokens": 0}], "quality": [], "spectra": [[] for _ in groups], "tool": sidecar.tool()}
    Sidecar(metadata, groups).write(HERE / "codec" / f"{name}.cga")
    safetensors_file.write(HERE / "codec" / f"{name}.safetensors", tensors, {"rates": "r1=1 r15=1.5 r2=2"})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_real(*sys.argv[1:])
        sys.exit()
    (HERE / "codec").mkdir(exist_ok=True)
    fictional = checkpoint.Config("llama", n_layers=3, n_heads=2, n_kv_heads=1, head_dim=64, dim=128, eps=1e-5,
                                  rope_theta=10000.0)
    make("three-layers", 1, fictional, sidecar.fingerprint("llama", (3, 2, 1, 64, 128), []), [3], [(256, 64)])
    tiny = checkpoint.load(HERE / "tiny" / "qwen2-mixed.gguf")  # a group whole and in 16 bits, one with no wide rows
    make("qwen2-mixed", 2, tiny.config, tiny.fingerprint(), [1, 1], [(128, 128), (64, 0)])
