"""Random operators over windows: pooling with every option, transposed and padded convolutions."""

from __future__ import annotations

import random
from typing import Any

from torch import nn

from tests.support.random_expressions import Maker, Shape, module


def _spatial(kind: str, shape: Shape) -> Any:
    """The class of torch.nn for the spatial axes of the shape."""
    return getattr(nn, f"{kind}{len(shape) - 1}d")


def _plain(values: tuple[int, ...]) -> Any:
    """One number per axis, as a tuple where there are several axes."""
    return values if len(values) > 1 else values[0]


def average_pool(rng: random.Random, shape: Shape) -> nn.Module | None:
    kernel = tuple(rng.randint(1, min(4, n)) for n in shape[1:])
    options: dict[str, Any] = {
        "stride": _plain(tuple(rng.randint(1, 3) for _ in kernel)),
        "padding": _plain(tuple(rng.randint(0, k // 2) for k in kernel)),
        "ceil_mode": rng.random() < 0.4,
        "count_include_pad": rng.random() < 0.5,
    }
    if len(shape) == 3 and rng.random() < 0.3:
        options["divisor_override"] = rng.randint(1, 5)
    layer: nn.Module = _spatial("AvgPool", shape)(_plain(kernel), **options)
    return layer


def max_pool(rng: random.Random, shape: Shape) -> nn.Module | None:
    """Over values of any sign."""
    kernel = tuple(rng.randint(1, min(4, n)) for n in shape[1:])
    dilation = tuple(
        rng.choice([1, 1, 2]) if 2 * (k - 1) < n else 1
        for k, n in zip(kernel, shape[1:], strict=True)
    )
    layer: nn.Module = _spatial("MaxPool", shape)(
        _plain(kernel),
        stride=_plain(tuple(rng.randint(1, 3) for _ in kernel)),
        padding=_plain(tuple(rng.randint(0, k // 2) for k in kernel)),
        dilation=_plain(dilation),
        ceil_mode=rng.random() < 0.4,
    )
    return layer


def adaptive(rng: random.Random, shape: Shape) -> nn.Module:
    sizes = tuple(rng.randint(1, n + 2) for n in shape[1:])
    kind = rng.choice(["AdaptiveAvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool"])
    layer: nn.Module = _spatial(kind, shape)(_plain(sizes))
    return layer


def transposed(rng: random.Random, shape: Shape) -> nn.Module:
    axes = len(shape) - 1
    stride = tuple(rng.choice([1, 2, 2, 3]) for _ in range(axes))
    dilation = tuple(rng.choice([1, 1, 1, 2]) for _ in range(axes))
    kernel = tuple(rng.randint(1, 4) for _ in range(axes))
    padding = tuple(
        rng.randint(0, min(d * (k - 1), 2)) for k, d in zip(kernel, dilation, strict=True)
    )
    extra = tuple(
        rng.randint(0, max(s, d) - 1) if rng.random() < 0.5 else 0
        for s, d in zip(stride, dilation, strict=True)
    )
    groups = rng.choice([1, 1, shape[0], *([2] if shape[0] % 2 == 0 else [])])
    layer: nn.Module = _spatial("ConvTranspose", shape)(
        shape[0],
        groups * rng.choice([1, 2]),
        kernel,
        stride=stride,
        padding=padding,
        output_padding=extra,
        groups=groups,
        bias=rng.random() < 0.7,
        dilation=dilation,
    )
    return layer


def padded_convolution(rng: random.Random, shape: Shape) -> nn.Module | None:
    if min(shape[1:]) < 3:
        return None
    mode = rng.choice(["reflect", "replicate", "circular"])
    kernel = tuple(rng.randint(1, 3) for _ in shape[1:])
    padding: Any = rng.choice([1, 2, tuple(rng.randint(0, 2) for _ in kernel), "same"])
    stride = 1 if padding == "same" else rng.choice([1, 1, 2])
    layer: nn.Module = _spatial("Conv", shape)(
        shape[0], rng.randint(1, 4), kernel, stride, padding, padding_mode=mode
    )
    return layer


WINDOWS: dict[str, Maker] = {
    "average pool": module(average_pool, 2, 3),
    "signed max pool": module(max_pool, 2, 3),
    "adaptive pool": module(adaptive, 2, 3),
    "transposed convolution": module(transposed, 2, 3),
    "padded convolution": module(padded_convolution, 2, 3),
}
"""Pooling and convolutions."""
