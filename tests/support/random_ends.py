"""How random models begin and end: two inputs, several outputs, operations of the host."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.support.random_expressions import Joined, Maker, Shape, expression, module


class TwoInputs(nn.Module):
    """A model of two tensors: layers for the first one, and for what a function joins."""

    def __init__(self, first: nn.Module, text: str, rest: nn.Module) -> None:
        super().__init__()
        self.first, self.text, self.rest = first, text, rest
        names = {"torch": torch, "F": nn.functional}
        self.function = eval(f"lambda a, b: {text}", names)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Any:
        return self.rest(self.function(self.first(a), b))

    def extra_repr(self) -> str:
        return self.text


def second_input(rng: random.Random, shape: Shape) -> tuple[Shape, str]:
    """The shape of a second input, and an expression that joins it to the first."""
    alike = ["torch.cat([a, b], 1)", "a + b", "a - F.relu(b)", "torch.maximum(a, b)"]
    if rng.random() < 0.5:
        return shape, rng.choice(alike)
    if len(shape) > 1 and rng.random() < 0.5:
        ones = ", None" * (len(shape) - 1)
        return (shape[0],), f"a + b[:, :{ones}]"
    vector = "torch.cat([a.flatten(1), b], 1)" if len(shape) > 1 else "torch.cat([b, a], 1)"
    return (rng.randint(1, 6),), vector


def _several(text: str, *ranks: int) -> Maker:
    """A head and the tensor itself, returned as `text` says of a and b."""

    def make(rng: random.Random, shape: Shape) -> nn.Module:
        head = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), rng.randint(1, 4)))
        other: Any = nn.Identity()
        if len(shape) > 1:
            kind: Any = nn.Conv1d if len(shape) == 2 else nn.Conv2d
            other = rng.choice([nn.Identity(), kind(shape[0], 2, 1), nn.ReLU()])
        return Joined(head, other, text)

    return module(make, *ranks)


def _scores(rng: random.Random, shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 4))


def _with_host_op(rng: random.Random, shape: Shape) -> nn.Module:
    last = rng.choice([nn.Softmax(1), nn.Sigmoid(), nn.Tanh(), nn.LogSoftmax(dim=1)])
    return nn.Sequential(_scores(rng, shape), last)


OUTPUTS: dict[str, Maker] = {
    "map": module(lambda rng, shape: nn.Identity()),
    "rectified map": module(lambda rng, shape: nn.ReLU()),
    "scores": module(_scores),
    "pooled": expression("x.mean([2, 3])", 3),
    "mean": expression("x.mean(-1)", 2, 3),
    "host operation": module(_with_host_op),
    "host operation on a map": expression("torch.sigmoid(x)", 2, 3),
    "tuple": _several("(a, b)"),
    "list": _several("[b, a, b.flatten(1)[:, :1]]"),
    "dict": _several("{'out': b, 'aux': a}"),
    "nested": _several("{'first': (a, [b]), 'second': a + 1}"),
    "host operations of several": _several("(torch.softmax(a, 1), b)"),
    "two maps": _several("(b, F.max_pool2d(b, 2, 1, 1), a)", 3),
    "same twice": _several("(a, a, b)"),
    "rearranged": _several("(b.flip(1), b.transpose(1, 2).flatten(2), a)", 3),
}
"""How a model ends; an entry may return several tensors in tuples, lists and dicts."""
