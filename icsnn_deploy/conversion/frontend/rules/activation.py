"""Rectifiers, with and without an upper bound."""

from __future__ import annotations

import math
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.builder import CallContext, Lowering, Traced, Unsupported
from icsnn_deploy.graph.nodes import Relu

_CLIPS = "clipping to [0, c], c > 0, and ReLU"


def relu(context: CallContext, x: Any, inplace: bool = False) -> str:
    """y = max(x, 0)"""
    return clip(context, x)


def clip(
    context: CallContext, x: Any, upper: float | None = None, levels: int | None = None
) -> str:
    """y = clip(x, 0, upper); two rectifiers in a row become one."""
    source = context.source(x)
    before = context.builder.nodes.get(source)
    if isinstance(before, Relu) and levels is None:
        if upper is None or (before.upper is not None and before.upper <= upper):
            return source
        if before.levels is None:
            source = before.inputs[0]
    if upper is not None and not 0 < upper < math.inf:
        raise context.unsupported(f"an upper bound of {upper}", _CLIPS)
    return context.add(Relu(name=context.name(), inputs=(source,), upper=upper, levels=levels))


def clamp(
    context: CallContext, x: Any, low: Any = None, high: Any = None, inplace: bool = False
) -> str:
    """clamp(x, 0, c), clamp(x, min=0), or clamp(x, max=c) of a rectified x."""
    lower, upper = _bound(context, low, -math.inf), _bound(context, high, math.inf)
    source = context.source(x)
    rectified = isinstance(context.builder.nodes.get(source), Relu)
    if not (lower == 0 or (lower < 0 and rectified)):
        raise context.unsupported(
            f"clipping to [{lower}, {upper}]", _CLIPS, "Clip at 0 from below."
        )
    return clip(context, x, None if upper == math.inf else upper)


def hardtanh(
    context: CallContext, x: Any, low: Any = -1.0, high: Any = 1.0, inplace: bool = False
) -> str:
    """y = clip(x, low, high)"""
    return clamp(context, x, low, high)


def relu6(context: CallContext, x: Any, inplace: bool = False) -> str:
    """y = clip(x, 0, 6)"""
    return clip(context, x, 6.0)


def clamp_min(context: CallContext, x: Any, low: Any) -> str:
    return clamp(context, x, low=low)


def clamp_max(context: CallContext, x: Any, high: Any) -> str:
    return clamp(context, x, high=high)


def maximum(context: CallContext, x: Any, other: Any) -> str:
    """maximum(x, 0), in either order."""
    x, other = (x, other) if isinstance(x, Traced) else (other, x)
    if isinstance(other, Traced):
        raise _of_two(context, "b + relu(a - b)")
    return clamp(context, x, low=other)


def minimum(context: CallContext, x: Any, other: Any) -> str:
    """minimum(x, c) of a rectified x, in either order."""
    x, other = (x, other) if isinstance(x, Traced) else (other, x)
    if isinstance(other, Traced):
        raise _of_two(context, "a - relu(a - b)")
    return clamp(context, x, high=other)


def threshold(
    context: CallContext, x: Any, threshold: float = 0, value: float = 0, inplace: bool = False
) -> str:
    """y = x if x > threshold else value; a rectifier if both are 0."""
    if threshold != 0 or value != 0:
        raise context.unsupported(
            f"threshold {threshold}, value {value}", "threshold 0 and value 0"
        )
    return clip(context, x)


def _of_two(context: CallContext, form: str) -> Unsupported:
    return context.unsupported(
        "two tensors that depend on the input", "a constant bound", f"Write it as {form}."
    )


def _bound(context: CallContext, value: Any, absent: float) -> float:
    if value is None:
        return absent
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, (int, float)):
        raise context.unsupported(
            "a bound that is not one number",
            "one constant bound per layer",
            "Bound the whole layer by one number.",
        )
    return float(value)


LOWERINGS: dict[str, Lowering] = {
    "relu": relu,
    "clip": clip,
    "clamp": clamp,
    "clamp_min": clamp_min,
    "clamp_max": clamp_max,
    "hardtanh": hardtanh,
    "relu6": relu6,
    "maximum": maximum,
    "minimum": minimum,
    "threshold": threshold,
}
