"""Activations of one tensor that are piecewise linear, by the rule of piecewise_linear.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.conversion.frontend.pushed import vector_as_image
from icsnn_deploy.conversion.frontend.rules.extremum import maximum, minimum
from icsnn_deploy.conversion.frontend.rules.piecewise_linear import (
    clipping,
    parameter,
    result,
)
from icsnn_deploy.conversion.frontend.rules.same_source import common
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu


def activation(context: CallContext, x: Any, f: PiecewiseLinear) -> str:
    """Lower f(x); returns the node that computes it.

    Raises:
        Unsupported: f jumps, or x is no tensor that depends on the input.
    """
    jump = f.jump()
    if jump is not None:
        raise context.unsupported(
            f"a function that jumps at {jump:g}",
            "activations that are continuous and piecewise linear",
            "Replace it by ReLU, softshrink or a clip and retrain.",
        )
    if isinstance(x, Traced) and context.builder.is_symbol(context.function_source(x)):
        found = common(context, x)
        inner = None if found is None else f.after(found.functions[0])
        if found is not None and inner is not None:
            return result(context, found.source, inner)
    return result(context, context.source(x), f)


def relu(context: CallContext, x: Any, inplace: bool = False) -> str:
    """y = max(x, 0)"""
    return activation(context, x, clipping(0, np.inf))


def relu6(context: CallContext, x: Any, inplace: bool = False) -> str:
    """y = clip(x, 0, 6)"""
    return activation(context, x, clipping(0, 6))


def clip(
    context: CallContext, x: Any, upper: float | None = None, levels: int | None = None
) -> str:
    """A declared activation: y = clip(x, 0, upper), with quantization levels or without."""
    if upper is not None and not 0 < upper < math.inf:
        raise context.unsupported(f"an upper bound of {upper}", "a finite bound > 0")
    if levels is None:
        return activation(context, x, clipping(0, np.inf if upper is None else upper))
    source = context.source(x)
    return context.add(Relu(name=context.name(), inputs=(source,), upper=upper, levels=levels))


def clamp(
    context: CallContext, x: Any, low: Any = None, high: Any = None, inplace: bool = False
) -> str:
    """y = min(max(x, low), high): numbers, constant tensors that broadcast, or one tensor."""
    if high is None and isinstance(low, Traced):
        return maximum(context, x, low)
    if low is None and isinstance(high, Traced):
        return minimum(context, x, high)
    lower = _parameter(context, x, -math.inf if low is None else low, "a lower bound")
    upper = _parameter(context, x, math.inf if high is None else high, "an upper bound")
    return activation(context, x, clipping(lower, upper))


def clamp_min(context: CallContext, x: Any, low: Any) -> str:
    """y = max(x, low)"""
    return clamp(context, x, low=low)


def clamp_max(context: CallContext, x: Any, high: Any) -> str:
    """y = min(x, high)"""
    return clamp(context, x, high=high)


def hardtanh(
    context: CallContext, x: Any, low: Any = -1.0, high: Any = 1.0, inplace: bool = False
) -> str:
    """y = clip(x, low, high)"""
    return clamp(context, x, low, high)


def hardsigmoid(context: CallContext, x: Any, inplace: bool = False) -> str:
    """y = clip(x / 6 + 1 / 2, 0, 1)"""
    return activation(context, x, PiecewiseLinear.of([-3, 3], [0, 1 / 6, 0], [0, 0.5, 1]))


def leaky_relu(
    context: CallContext, x: Any, negative_slope: Any = 0.01, inplace: bool = False
) -> str:
    """y = x for x > 0, else negative_slope * x"""
    return _leaky(context, x, _parameter(context, x, negative_slope, "a slope"))


def rrelu(
    context: CallContext,
    x: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    generator: Any = None,
) -> str:
    """LeakyReLU with the mean of both slopes, as in eval mode; in training mode they are random."""
    if training:
        raise context.unsupported(
            "random slopes in eval mode", "training=False", "Call it with training=self.training."
        )
    return _leaky(context, x, np.asarray((lower + upper) / 2, np.float64))


def rrelu_with_noise(
    context: CallContext,
    x: Any,
    noise: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> str:
    """aten's RReLU, with a tensor for the random slopes of training mode."""
    return rrelu(context, x, lower, upper, training)


def prelu(context: CallContext, x: Any, weight: Any) -> str:
    """y = x for x > 0, else weight * x; one weight, or one per channel."""
    rank = len(context.source_shape(x))
    if isinstance(weight, torch.Tensor) and weight.dim() <= 1:
        weight = weight.detach().reshape(-1, *(1,) * (rank - 1))
    return _leaky(context, x, _parameter(context, x, weight, "a slope"))


def threshold(
    context: CallContext, x: Any, threshold: Any = 0, value: Any = 0, inplace: bool = False
) -> str:
    """y = x for x > threshold, else value; it jumps unless both are equal."""
    f = PiecewiseLinear.of([float(threshold)], [0, 1], [float(value), 0])
    if f.jump() is not None:
        raise context.unsupported(
            f"threshold {threshold}, value {value}, where it jumps from {value} to {threshold}",
            "threshold = value",
            "Use ReLU, or clamp(x, min=value), and retrain.",
        )
    return activation(context, x, f)


def softshrink(context: CallContext, x: Any, lambd: float = 0.5) -> str:
    """y = x - clip(x, -lambd, lambd)"""
    return activation(
        context, x, PiecewiseLinear.of([-lambd, lambd], [1, 0, 1], [lambd, 0, -lambd])
    )


def hardshrink(context: CallContext, x: Any, lambd: float = 0.5) -> str:
    """y = x for |x| > lambd, else 0; it jumps unless lambd is 0."""
    f = PiecewiseLinear.of([-lambd, lambd], [1, 0, 1], [0, 0, 0])
    if f.jump() is not None:
        raise context.unsupported(
            f"lambd={lambd}, where it jumps from 0 to {lambd}",
            "activations that are continuous",
            "Use Softshrink, or ReLU, and retrain.",
        )
    return activation(context, x, f)


def absolute(context: CallContext, x: Any) -> str:
    """y = |x|"""
    return activation(context, x, PiecewiseLinear.of([0], [-1, 1], [0, 0]))


def piecewise_linear(context: CallContext, x: Any, function: PiecewiseLinear) -> str:
    """A function that a smooth activation is fitted by."""
    return activation(context, x, function)


def piecewise_linear_per_channel(context: CallContext, x: Any, function: PiecewiseLinear) -> Result:
    """Functions of each channel, with parameters [C, 1, ...], on a tensor that is one node."""
    image = vector_as_image(context, context.traced(x))
    source = context.source(x if image is None else image)
    ones = (1,) * (len(context.builder.shapes[source]) - 1)
    f = PiecewiseLinear(
        *(
            rows.reshape(len(rows), math.prod(rows.shape[1:]), *ones)  # there may be no kinks
            for rows in (function.kinks, function.slopes, function.intercepts)
        )
    )
    found = result(context, source, f)
    if image is None:
        return found
    return context.builder.numbering.elements(found, context.traced(x).shape[1:])


def _leaky(context: CallContext, x: Any, slope: Array) -> str:
    if not np.isfinite(slope).all():
        raise context.unsupported(
            "a slope that is not finite", "finite slopes", "Check the parameters of the model."
        )
    return activation(context, x, PiecewiseLinear.of([0], [slope, 1], [0, 0]))


def _parameter(context: CallContext, x: Any, value: Any, like: str) -> Array:
    return parameter(context, value, context.source_shape(x), like=like)


LOWERINGS: dict[str, Lowering] = {
    "relu": relu,
    "relu6": relu6,
    "clip": clip,
    "clamp": clamp,
    "clamp_min": clamp_min,
    "clamp_max": clamp_max,
    "hardtanh": hardtanh,
    "hardsigmoid": hardsigmoid,
    "leaky_relu": leaky_relu,
    "rrelu": rrelu,
    **dict.fromkeys(("rrelu_with_noise", "rrelu_with_noise_functional"), rrelu_with_noise),
    "prelu": prelu,
    "threshold": threshold,
    "softshrink": softshrink,
    "hardshrink": hardshrink,
    "abs": absolute,
    "piecewise_linear": piecewise_linear,
    "piecewise_linear_per_channel": piecewise_linear_per_channel,
}
