"""Random layers of every operator that converts, in one table.

An entry of OPERATORS is a function of a generator and the shape of one sample, without the batch,
which returns a module or None where it does not fit the shape. To cover another operator, add an
entry here or in the table of its family; to cover another kind of output, one in random_ends.py.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

from tests.support.random_expressions import (
    Expression,
    Joined,
    Maker,
    Shape,
    expression,
    module,
    number,
    tensor,
    torch_generator,
)
from tests.support.random_moves import MOVES
from tests.support.random_sums import SUMS
from tests.support.random_windows import WINDOWS


def join(text: str) -> Maker:
    """An entry for two branches that keep the shape, joined as `text` says of a and b."""

    def make(rng: random.Random, shape: Shape) -> nn.Module | None:
        if len(shape) not in (2, 3):
            return None
        return Joined(_branch(rng, shape), _branch(rng, shape), text)

    return make


def _convolution(rng: random.Random, shape: Shape) -> nn.Module:
    axes = len(shape) - 1
    groups = rng.choice([1, 1, 1, shape[0], *(g for g in (2,) if shape[0] % 2 == 0)])
    kernel = tuple(rng.randint(1, min(4, n)) for n in shape[1:])
    dilation = tuple(
        rng.choice([1, 1, 2]) if 2 * (k - 1) < n else 1
        for k, n in zip(kernel, shape[1:], strict=True)
    )
    stride: Any = tuple(rng.choice([1, 1, 2, 3]) for _ in kernel)
    padding: Any = rng.choice([0, "valid", tuple(rng.randint(0, 2) for _ in kernel), "same"])
    if padding == "same":
        stride = 1
    kind: Any = nn.Conv1d if axes == 1 else nn.Conv2d
    width = groups * rng.choice([1, 2, 3]) if groups < 4 else groups
    layer: nn.Module = kind(
        *(shape[0], width, kernel, stride, padding, dilation, groups),
        bias=rng.random() < 0.7,
    )
    return layer


def _batch_norm(rng: random.Random, shape: Shape) -> nn.Module:
    kind: Any = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    layer: nn.Module = kind(shape[0], affine=rng.random() < 0.8, eps=rng.choice([1e-5, 1e-3]))
    return layer


def _prelu(rng: random.Random, shape: Shape) -> nn.Module:
    layer = nn.PReLU(rng.choice([1, shape[0]]))
    weight = torch.rand(layer.weight.shape, generator=torch_generator(rng)) * 2 - 0.7
    layer.weight.data = torch.where(weight.abs() < 0.15, 0, weight)
    return layer


def _pool(rng: random.Random, shape: Shape, kind: Any, **options: Any) -> nn.Module:
    kernel = tuple(rng.randint(1, min(3, n)) for n in shape[1:])
    layer: nn.Module = kind(kernel, tuple(rng.choice([1, 2, 3]) for _ in kernel), **options)
    return layer


def _max_pool(rng: random.Random, shape: Shape) -> nn.Module:
    return _pool(rng, shape, nn.MaxPool1d if len(shape) == 2 else nn.MaxPool2d)


def _padded_max_pool(rng: random.Random, shape: Shape) -> nn.Module | None:
    kind: Any = nn.MaxPool1d if len(shape) == 2 else nn.MaxPool2d
    if len(shape) == 1 or min(shape[1:]) < 3:
        return None
    options = {"ceil_mode": rng.random() < 0.5, "padding": 1}
    return nn.Sequential(nn.ReLU(), kind(rng.choice([2, 3]), rng.choice([1, 2]), **options))


def _zero_padding(rng: random.Random, shape: Shape) -> nn.Module:
    ends = [rng.randint(0, 2) for _ in range(2 * (len(shape) - 1))]
    return Expression(f"F.pad(x, {ends})")


def _slice(rng: random.Random, shape: Shape) -> nn.Module:
    parts = [":"]
    for length in shape:
        begin = rng.randint(0, length - 1)
        parts.append(f"{begin}:{rng.randint(begin + 1, length)}:{rng.choice([1, 1, 2])}")
    return Expression(f"x[{', '.join(parts)}]")


def _linear(rng: random.Random, shape: Shape) -> nn.Module:
    return nn.Linear(shape[0], rng.randint(1, 8), bias=rng.random() < 0.8)


ACTIVATIONS: dict[str, Maker] = {
    "ReLU": module(lambda rng, shape: nn.ReLU(inplace=rng.random() < 0.3)),
    "ReLU6": module(lambda rng, shape: nn.ReLU6()),
    "LeakyReLU": module(lambda rng, shape: nn.LeakyReLU(rng.choice([0, 0.01, 0.2, -0.5, 1.5]))),
    "PReLU": module(_prelu),
    "RReLU": module(lambda rng, shape: nn.RReLU()),
    "Hardtanh": module(lambda rng, shape: nn.Hardtanh(-rng.random(), rng.random())),
    "Hardsigmoid": module(lambda rng, shape: nn.Hardsigmoid()),
    "Softshrink": module(lambda rng, shape: nn.Softshrink(rng.random())),
    "Threshold": expression("F.threshold(x, self.t, self.t)", t=number()),
    "abs": expression("x.abs()"),
    "clamp": expression("x.clamp(self.a, self.b)", a=number(), b=number()),
    "clamp per channel": expression("x.clamp(self.a, self.b)", a=tensor(-2, 0.5), b=tensor(-0.5)),
    "clamp_min": expression("x.clamp(min=self.a)", a=number()),
    "clamp_max": expression("x.clamp(max=self.a)", a=number()),
    "maximum": expression("torch.maximum(x, self.a)", a=tensor()),
    "minimum": expression("torch.minimum(self.a, x)", a=tensor()),
    "max and zeros": expression("torch.max(x, torch.zeros_like(x))"),
    "max of two slopes": expression("torch.max(x, self.s * x)", s=number()),
    "where zero": expression("torch.where(x > 0, x, 0)"),
    "where slope": expression("torch.where(x < 0, self.s * x, x)", s=number()),
    "where clip": expression("torch.where(x > self.a, x, self.a)", a=number()),
    "mask": expression("x * (x > 0)"),
    "mask as number": expression("(x >= 0).float() * x"),
    "two masks": expression("x * (x > 0) + self.s * x * (x <= 0)", s=number()),
    "masked_fill": expression("x.masked_fill(x < 0, 0)"),
    "sign": expression("x * x.sign()"),
    "mean with abs": expression("(x + abs(x)) / 2"),
    "shrink": expression("x - x.clamp(-self.a, self.a)", a=number(0.1, 1)),
    "CReLU": expression("torch.cat([F.relu(x), F.relu(-x)], 1)", 2, 3),
}
"""Activations, and rectifiers in other spellings."""

LINEAR: dict[str, Maker] = {
    "convolution": module(_convolution, 2, 3),
    "linear": module(_linear, 1),
    "batch norm": module(_batch_norm, 1, 2, 3),
    "dropout": module(lambda rng, shape: nn.Dropout(0.5)),
    "zero padding": module(_zero_padding, 2, 3),
    "slice": module(_slice),
    "factor": expression("x * self.s", s=tensor()),
    "summand": expression("self.s + x", s=tensor()),
    "divided": expression("(self.a - x) / self.s", a=number(), s=number(0.5, 3)),
}
"""Linear operators and shapes."""

JOINS: dict[str, Maker] = {
    "sum": join("a + b"),
    "difference": join("torch.sub(a, b, alpha=0.5)"),
    "concatenation": join("torch.cat([a, b], 1)"),
    "larger": join("torch.maximum(a, b)"),
    "smaller": join("torch.min(a, b)"),
    "larger by where": join("torch.where(a > b, a, b)"),
    "maxout": join("b + F.relu(a - b)"),
}
"""Two branches joined."""

OPERATORS: dict[str, Maker] = {
    **ACTIVATIONS,
    **LINEAR,
    **JOINS,
    **MOVES,
    **SUMS,
    **WINDOWS,
    "max pool": module(_max_pool, 2, 3),
    "padded max pool": _padded_max_pool,
}
"""All operators; a model draws from them with the weights below."""

OFTEN = {
    "convolution": 16,
    "linear": 12,
    "batch norm": 4,
    "ReLU": 8,
    "LeakyReLU": 4,
    "concatenation": 3,
}


def _branch(rng: random.Random, shape: Shape) -> nn.Module:
    """One to three layers that keep the shape; now and then none."""
    kept: list[nn.Module] = []
    for _ in range(rng.choice([0, 1, 2, 3])):
        kind: Any = nn.Conv1d if len(shape) == 2 else nn.Conv2d
        convolution: nn.Module = kind(shape[0], shape[0], 3, padding=1)
        kinds = [*ACTIVATIONS, "factor", "batch norm"]
        found = rng.choice([convolution, OPERATORS[rng.choice(kinds)](rng, shape)])
        if found is not None and run(found, torch.zeros(2, *shape)).shape[1:] == shape:
            randomize(rng, found)
            kept.append(found)
    return nn.Sequential(*kept)


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d)


def randomize(rng: random.Random, layer: nn.Module) -> None:
    """Give normalizations random statistics and parameters, of either sign."""
    generator = torch_generator(rng)
    for norm in layer.modules():
        if isinstance(norm, NORMS):
            for name in ("running_mean", "weight", "bias"):
                value = getattr(norm, name)
                if value is not None:
                    value.data = torch.randn(value.shape, generator=generator)
            assert norm.running_var is not None
            norm.running_var = torch.rand(norm.running_var.shape, generator=generator) + 0.1


def run(layer: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """The layer's result in eval mode; y is not changed."""
    with torch.no_grad():
        result: torch.Tensor = layer.eval()(y.clone())
    return result
