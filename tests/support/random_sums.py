"""Random linear operators beside convolutions: sums over axes, products with matrices, resizing."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

from tests.support.random_expressions import (
    Expression,
    Maker,
    Shape,
    expression,
    module,
    tensor,
    torch_generator,
)


def _mean(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = rng.sample(range(1, len(shape) + 1), rng.randint(1, len(shape)))
    axes = [axis if rng.random() < 0.7 else axis - len(shape) - 1 for axis in axes]
    keep = len(axes) == len(shape) or rng.random() < 0.5
    return Expression(f"x.{rng.choice(['mean', 'sum'])}({axes}, keepdim={keep})")


def _largest(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = rng.sample(range(1, len(shape) + 1), rng.choice([1, 1, min(2, len(shape))]))
    keep = len(axes) == len(shape) or rng.random() < 0.5
    return Expression(
        rng.choice(
            [
                f"x.amax({axes}, keepdim={keep})",
                f"torch.amin(x, {axes}, {keep})",
                f"torch.max(x, {axes[0]}, keepdim={keep or len(shape) == 1}).values",
                f"x.min({axes[0]}, keepdim={keep or len(shape) == 1})[0]",
            ]
        )
    )


def _broadcast(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = rng.sample(range(1, len(shape) + 1), rng.randint(1, len(shape)))
    reduced = f"x.{rng.choice(['mean', 'sum', 'amax'])}({axes}, keepdim=True)"
    return Expression(
        rng.choice(
            [
                f"x - {reduced}",
                f"{reduced} + x",
                f"torch.sub(x, {reduced}, alpha=0.3)",
                f"torch.maximum(x, {reduced})",
                f"torch.cat([x, {reduced}.expand(x.shape)], 1)",
                f"x + F.relu({reduced})",
            ]
        )
    )


def _mirrored(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = rng.randint(1, len(shape))
    other = rng.choice([f"x.flip({axis})", f"torch.roll(x, 1, {axis})"])
    return Expression(
        rng.choice(
            [
                f"x + {other}",
                f"torch.min(x, {other})",
                f"{other} - 0.5 * x.relu()",
                f"torch.cat([{other}, x], {axis})",
                f"torch.maximum({other}, x)",
            ]
        )
    )


def _linear(rng: random.Random, shape: Shape) -> nn.Module:
    return nn.Linear(shape[-1], rng.randint(1, 6), bias=rng.random() < 0.8)


def _product(rng: random.Random, shape: Shape) -> nn.Module:
    """With a constant matrix on the right, or on the left of the last two axes."""
    generator, width = torch_generator(rng), rng.randint(1, 5)
    if len(shape) > 1 and rng.random() < 0.4:
        matrix = torch.randn(width, shape[-2], generator=generator)
        return Expression("torch.matmul(self.m, x)", m=matrix)
    matrix = torch.randn(shape[-1], width, generator=generator)
    return Expression(rng.choice(["x @ self.m", "torch.matmul(x, self.m)"]), m=matrix)


def _resize(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = len(shape) - 1
    linear = {1: ["linear"], 2: ["bilinear", "bilinear", "bicubic"]}[axes]
    mode = rng.choice(["nearest", "nearest", "nearest-exact", "area", *linear])
    corners = {"align_corners": rng.random() < 0.4} if "linear" in mode or "cubic" in mode else {}
    given: Any = {"size": tuple(rng.randint(1, 2 * n + 1) for n in shape[1:])}
    if rng.random() < 0.6:
        factor = rng.choice([2, 2, 2, 3, 1.5, 0.5, (2, 1), (1, 3)])
        given = {"scale_factor": factor if axes == 2 or isinstance(factor, (int, float)) else 2}
    if mode != "area" and rng.random() < 0.5:
        layer: nn.Module = nn.Upsample(**given, mode=mode, **corners)
        return layer
    options = ", ".join(f"{k}={v!r}" for k, v in {**given, "mode": mode, **corners}.items())
    return Expression(f"F.interpolate(x, {options})")


def _instance_norm(rng: random.Random, shape: Shape) -> nn.Module:
    kind: Any = nn.InstanceNorm2d if len(shape) == 3 else nn.InstanceNorm1d
    layer: nn.Module = kind(shape[0], affine=rng.random() < 0.7, track_running_stats=True)
    return layer


SUMS: dict[str, Maker] = {
    "mean": _mean,
    "amax": _largest,
    "broadcast": _broadcast,
    "mirrored": _mirrored,
    "linear on tokens": module(_linear, 2),
    "linear on channels last": module(_linear, 3),
    "matmul": _product,
    "resize": module(_resize, 2, 3),
    "instance norm": module(_instance_norm, 2, 3),
    "sum of transposed": expression("x.mean(2) + x.mean(-1)[..., :1]", 3),
    "addcmul": expression("x + self.a * 0.5", a=tensor()),
}
"""Linear and piecewise-linear operators over whole axes."""
