"""Three spatial axes: the depth becomes part of the channels, [C, D, H, W] -> [C * D, H, W].

A Conv3d is a convolution over rows and columns then, whose weights repeat along the diagonal of the
depths; its size grows with the number of depths.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.kernels import Kernel, convolve, replace_value
from icsnn_deploy.conversion.frontend.rules.affine import spread
from icsnn_deploy.conversion.frontend.rules.average_pool import mean
from icsnn_deploy.conversion.frontend.selecting import check_weights


def convolve_volume(context: CallContext, x: Traced, kernel: Kernel) -> Result:
    """A convolution of three axes.

    Args:
        context: the call.
        x: [B, C, D, H, W].
        kernel: with weights [O, I / groups, depth, rows, columns].
    """
    depth, depth_out = x.shape[2], context.shape[2]
    outputs, inputs, size, *plane = kernel.weight.shape
    check_weights(context.path, outputs * depth_out, inputs * depth, *plane)
    weight = np.zeros((outputs, depth_out, inputs, depth, *plane), np.float32)
    before, _ = kernel.padding[0]
    for at in range(depth_out):
        for tap in range(size):
            place = kernel.stride[0] * at + kernel.dilation[0] * tap - before
            if 0 <= place < depth:
                weight[:, at, :, place] += kernel.weight[:, :, tap]
    flat = replace(
        kernel,
        weight=weight.reshape(outputs * depth_out, inputs * depth, *plane),
        bias=np.repeat(kernel.bias, depth_out),
        stride=kernel.stride[1:],
        padding=kernel.padding[1:],
        dilation=kernel.dilation[1:],
    )
    batch, channels, _, *space = x.shape
    image = context.elements(x).reshape(channels * depth, *space)
    inner = context.on((batch, outputs * depth_out, *context.shape[3:]))
    result = convolve(inner, replace_value(x, image, (batch, *image.shape)), flat)
    found = context.builder.numbering.elements_of(result)
    return found.reshape(*context.shape[1:])


def avg_pool3d(
    context: CallContext,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    """avg_pool3d over even windows, as a convolution."""
    data = _volume(context, x)
    size, pads = spread(kernel_size, 3), spread(padding, 3)
    steps = size if stride is None or stride == [] else spread(stride, 3)
    if ceil_mode or divisor_override is not None or (any(pads) and not count_include_pad):
        raise context.unsupported(
            "ceil_mode, divisor_override or count_include_pad=False", "the mean of even windows"
        )
    kernel = Kernel.window_mean(data.shape[1], size, steps, pads)
    return convolve_volume(context, data, kernel)


def adaptive_avg_pool3d(context: CallContext, x: Any, output_size: Any) -> Result:
    """adaptive_avg_pool3d to one value, or to windows of one size."""
    data = _volume(context, x)
    lengths, wanted = data.shape[2:], context.shape[2:]
    if any(length % out for length, out in zip(lengths, wanted, strict=True)):
        raise context.unsupported(
            f"{list(lengths)} to {list(wanted)}", "an output size that divides the input's"
        )
    if math.prod(wanted) > 1:
        size = tuple(length // out for length, out in zip(lengths, wanted, strict=True))
        return avg_pool3d(context, data, size)
    plane = context.on((*data.shape[:3], 1, 1))
    rows = mean(plane, data, [3, 4], keepdim=True)
    found = context.builder.numbering.elements_of(rows)
    between = replace_value(data, found.reshape(*data.shape[1:3], 1, 1), (*data.shape[:3], 1, 1))
    return mean(context, between, [2], keepdim=True)


def _volume(context: CallContext, x: Any) -> Traced:
    data = context.traced(x)
    if len(data.shape) != 5:
        raise context.unsupported(f"an input of shape {list(data.shape)}", "[B, C, D, H, W]")
    return data


LOWERINGS: dict[str, Lowering] = {
    "avg_pool3d": avg_pool3d,
    "adaptive_avg_pool3d": adaptive_avg_pool3d,
}
