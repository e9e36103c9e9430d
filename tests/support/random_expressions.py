"""Random expressions, and the functions that draw them for the tables of random layers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

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


def module(build: Maker, *ranks: int) -> Maker:
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
