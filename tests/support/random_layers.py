"""Random layers of every operator that converts, in one table.

An entry of OPERATORS is a function of a generator and the shape of one sample, without the batch,
which returns a module or None where it does not fit the shape. To cover another operator, add an
entry; to cover another kind of output, one in OUTPUTS.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

Shape = tuple[int, ...]
Maker = Callable[[random.Random, Shape], "nn.Module | None"]


class Expression(nn.Module):
    """A plain function of one tensor as a module, with its text for messages."""

    def __init__(self, text: str, **constants: Any) -> None:
        super().__init__()
        self.text = text
        for name, value in constants.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.function = eval(f"lambda self, x: {text}", {"torch": torch, "F": F})

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)

    def extra_repr(self) -> str:
        return self.text


class Joined(nn.Module):
    """Two branches of one tensor, and what joins them."""

    def __init__(self, first: nn.Module, second: nn.Module, text: str) -> None:
        super().__init__()
        self.first, self.second, self.text = first, second, text
        self.function = eval(f"lambda a, b: {text}", {"torch": torch, "F": F})

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.first(x), self.second(x))

    def extra_repr(self) -> str:
        return self.text


def module(build: Callable[[random.Random, Shape], nn.Module], *ranks: int) -> Maker:
    """An entry for shapes of the given ranks, or of all."""
    return lambda rng, shape: build(rng, shape) if not ranks or len(shape) in ranks else None


def expression(text: str, *ranks: int, **constants: Callable[[random.Random, Shape], Any]) -> Maker:
    """An entry for a function of x, with constants that are drawn and reached as self.NAME."""
    return module(
        lambda rng, shape: Expression(
            text, **{name: draw(rng, shape) for name, draw in constants.items()}
        ),
        *ranks,
    )


def join(text: str) -> Maker:
    """An entry for two branches that keep the shape, joined as `text` says of a and b."""

    def make(rng: random.Random, shape: Shape) -> nn.Module | None:
        if len(shape) == 1:
            return None
        return Joined(_branch(rng, shape), _branch(rng, shape), text)

    return make


def number(low: float = -2, high: float = 2) -> Callable[[random.Random, Shape], float]:
    """A constant: one number."""
    return lambda rng, shape: round(rng.uniform(low, high), 3)


def tensor(low: float = -2, high: float = 2) -> Callable[[random.Random, Shape], torch.Tensor]:
    """A constant: a tensor with one value per layer, per channel, or per neuron."""

    def draw(rng: random.Random, shape: Shape) -> torch.Tensor:
        ones = (1,) * (len(shape) - 1)
        sizes = rng.choice([(1, *ones), (shape[0], *ones), (1, shape[0], *ones), shape])
        return torch.rand(sizes, generator=torch_generator(rng)) * (high - low) + low

    return draw


def torch_generator(rng: random.Random) -> torch.Generator:
    """A generator of torch that is drawn from another."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


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


def _average_pool(rng: random.Random, shape: Shape) -> nn.Module:
    return _pool(rng, shape, nn.AvgPool1d if len(shape) == 2 else nn.AvgPool2d)


def _max_pool(rng: random.Random, shape: Shape) -> nn.Module:
    return _pool(rng, shape, nn.MaxPool1d if len(shape) == 2 else nn.MaxPool2d)


def _padded_max_pool(rng: random.Random, shape: Shape) -> nn.Module | None:
    kind: Any = nn.MaxPool1d if len(shape) == 2 else nn.MaxPool2d
    if len(shape) == 1 or min(shape[1:]) < 3:
        return None
    options = {"ceil_mode": rng.random() < 0.5, "padding": 1}
    return nn.Sequential(nn.ReLU(), kind(rng.choice([2, 3]), rng.choice([1, 2]), **options))


def _adaptive(rng: random.Random, shape: Shape) -> nn.Module:
    sizes = [rng.choice([m for m in range(1, n + 1) if n % m == 0]) for n in shape[1:]]
    kinds: Any = [
        (nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
        (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    ][len(shape) - 2]
    layer: nn.Module = rng.choice(kinds)(sizes[0] if len(sizes) == 1 else tuple(sizes))
    return layer


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
    "batch norm": module(_batch_norm),
    "dropout": module(lambda rng, shape: nn.Dropout(0.5)),
    "average pool": module(_average_pool, 2, 3),
    "adaptive pool": module(_adaptive, 2, 3),
    "zero padding": module(_zero_padding, 2, 3),
    "slice": module(_slice),
    "factor": expression("x * self.s", s=tensor()),
    "summand": expression("self.s + x", s=tensor()),
    "divided": expression("(self.a - x) / self.s", a=number(), s=number(0.5, 3)),
    "mean": expression("x.mean([2, 3], keepdim=True)", 3),
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
    "max pool": module(_max_pool, 2, 3),
    "padded max pool": _padded_max_pool,
}
"""All operators; a model draws from them with the weights below."""

OFTEN = {"convolution": 12, "linear": 12, "batch norm": 4, "ReLU": 4}

OUTPUTS: dict[str, Maker] = {
    "map": module(lambda rng, shape: nn.Identity()),
    "scores": module(
        lambda rng, shape: nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 4))
    ),
    "pooled": expression("x.mean([2, 3])", 3),
}
"""How a model ends; an entry may return several tensors in tuples, lists and dicts."""


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


def randomize(rng: random.Random, layer: nn.Module) -> None:
    """Give batch norms random statistics and parameters, of either sign."""
    generator = torch_generator(rng)
    for norm in layer.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for value in (norm.running_mean, norm.weight, norm.bias):
                if value is not None:
                    value.data = torch.randn(value.shape, generator=generator)
            assert norm.running_var is not None
            norm.running_var = torch.rand(norm.running_var.shape, generator=generator) + 0.1


def run(layer: nn.Module, y: torch.Tensor) -> torch.Tensor:
    """The layer's result in eval mode; y is not changed."""
    with torch.no_grad():
        result: torch.Tensor = layer.eval()(y.clone())
    return result
