"""Convolutions and transposed convolutions, of any arrangement of data."""

from __future__ import annotations

import math
from typing import Any

from icsnn_deploy.conversion.frontend.builder import Result
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.kernels import Kernel, convolve, replace_value
from icsnn_deploy.conversion.frontend.rules.affine import bias_of, constant, spread
from icsnn_deploy.conversion.frontend.rules.move import pad
from icsnn_deploy.conversion.frontend.rules.volume import convolve_volume
from icsnn_deploy.graph.nodes import Pairs, Shape


def conv(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Result:
    """Conv1d and Conv2d; zero padding before it becomes part of the convolution."""
    kernels = constant(context, weight)
    axes = kernels.ndim - 2
    _check_axes(context, x, axes, most=3)
    holes = spread(dilation, axes)
    pads = _conv_padding(padding, kernels.shape[2:], holes)
    if padding_mode != "zeros":
        ends = [n for pair in reversed(pads) for n in pair]
        inner = context.on(context.shape)
        padded = pad(inner, x, ends, mode=padding_mode)
        size = (*x.shape[:2], *(n + sum(p) for n, p in zip(x.shape[2:], pads, strict=True)))
        x = replace_value(x, padded, size)
        pads = ((0, 0),) * axes
    kernel = Kernel(
        weight=kernels,
        bias=bias_of(context, bias, len(kernels)),
        stride=spread(stride, axes),
        padding=pads,
        dilation=holes,
        groups=groups,
    )
    if axes == 3:
        return convolve_volume(context, x, kernel)
    return convolve(context, x, kernel)


def conv_transpose(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Result:
    """ConvTranspose1d and ConvTranspose2d, in phase layout: a plain convolution on x."""
    kernels = constant(context, weight)  # [I, O / groups, *kernel]
    axes = kernels.ndim - 2
    _check_axes(context, x, axes)
    inputs, outputs = kernels.shape[:2]
    grouped = kernels.reshape(groups, inputs // groups, outputs, *kernels.shape[2:])
    swapped = grouped.swapaxes(1, 2).reshape(groups * outputs, inputs // groups, *kernels.shape[2:])
    kernel = Kernel(
        weight=swapped,
        bias=bias_of(context, bias, len(swapped)),
        stride=spread(stride, axes),
        padding=tuple((p, p) for p in spread(padding, axes)),
        dilation=spread(dilation, axes),
        groups=groups,
        transposed=True,
    )
    return convolve(context, x, kernel)


def convolution(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Result:
    """aten.convolution: any convolution of a decomposed exported program."""
    if transposed:
        return conv_transpose(
            context, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(context, x, weight, bias, stride, padding, dilation, groups)


def _check_axes(context: CallContext, x: Any, axes: int, most: int = 2) -> None:
    if not 1 <= axes <= most:
        raise context.unsupported(f"{axes} spatial axes", f"1 to {most}", "Use the 2d form.")
    if len(context.source_shape(x)) != axes + 1:
        raise context.unsupported("an input without a batch axis", f"[B, C] and {axes} more axes")


def _conv_padding(padding: Any, kernel: Shape, dilation: Shape) -> Pairs:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, math.ceil(t / 2)) for t in total)
    return tuple((p, p) for p in spread(padding, len(kernel)))


LOWERINGS: dict[str, Lowering] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "convolution": convolution,
}
