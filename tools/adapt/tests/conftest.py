"""Where the tests find the package and the checked-in tiny models."""

import pathlib
import sys

import pytest
import torch

ADAPT = pathlib.Path(__file__).parents[1]
VECTORS = ADAPT.parents[1] / "tests" / "vectors"
sys.path.insert(0, str(ADAPT))
torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other
TINY = ("llama-float", "llama-legacy", "llama-k", "qwen2-mixed")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny():
    """name → (checkpoint, model in f32 on the CPU)"""
    from cga_adapt import checkpoint
    from cga_adapt.model import Model
    cache = {}

    def get(name: str):
        if name not in cache:
            source = checkpoint.load(VECTORS / "tiny" / f"{name}.gguf")
            cache[name] = (source, Model(source, "cpu", torch.float32))
        return cache[name]
    return get
