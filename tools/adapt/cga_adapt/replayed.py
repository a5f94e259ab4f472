"""Steps that are the same work on other numbers, as CUDA graphs: a small model's training is a few thousand kernels of
microseconds each, and launching them one by one takes three times as long as they run."""

from collections.abc import Callable

import torch

WARM = 3  # calls that run as they are, so that everything allocates what it keeps


class Replayed:
    """body(key, *inputs) → a tensor, with effects on tensors that stay where they are. Called with inputs of the same
    shapes and any of a few keys; captured once for each key. On the CPU it is only called."""

    def __init__(self, body: Callable):
        self.body, self.calls, self.captured = body, {}, {}
        self.pool = None

    def __call__(self, key, *inputs: torch.Tensor) -> torch.Tensor:
        self.calls[key] = self.calls.get(key, 0) + 1
        if not inputs[0].is_cuda:
            return self.body(key, *inputs)
        if self.calls[key] <= WARM:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                out = self.body(key, *inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return out
        if key not in self.captured:
            self.captured[key] = self._capture(key, inputs)
        graph, own, out = self.captured[key]
        for mine, theirs in zip(own, inputs):
            mine.copy_(theirs)
        graph.replay()
        return out.clone()

    def _capture(self, key, inputs) -> tuple:
        own = [x.clone() for x in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, pool=self.pool):
            out = self.body(key, *own)
        self.pool = self.pool or graph.pool()
        return graph, own, out


def adam(parameters, rate: float, device: torch.device) -> torch.optim.Optimizer:
    """AdamW without decay whose rate set_rate() can change between replays. A group of parameters may have a "scale",
    which its rate is multiplied by."""
    cuda = device.type == "cuda"
    optimiser = torch.optim.AdamW(parameters, lr=torch.tensor(rate, device=device) if cuda else rate, weight_decay=0,
                                  betas=(0.9, 0.98), fused=cuda, capturable=cuda)
    for group in optimiser.param_groups:
        if cuda:
            group["lr"] = group["lr"].clone()  # groups would share one
    return optimiser


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        scaled = rate * group.get("scale", 1.0)
        if torch.is_tensor(group["lr"]):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled
