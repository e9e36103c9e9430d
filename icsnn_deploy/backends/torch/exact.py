"""Convolutions of integers in float64, by matrix products and sums of shifted slices.

No convolution kernel is used, so that convolution kernels can be compared with the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.graph.certificate import FLOAT32_INTEGER
from icsnn_deploy.graph.nodes import Conv

_FACTORS = 2**7  # of the random combination of output channels
_SEED = 20261


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The window geometry of a convolution with two spatial axes."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, node: Conv) -> Geometry:
        """The geometry of a node with two spatial axes and symmetric padding."""
        (top, _), (left, _) = node.padding
        stride, dilation = node.stride, node.dilation
        return cls(
            stride=(stride[0], stride[1]),
            padding=(top, left),
            dilation=(dilation[0], dilation[1]),
            groups=node.groups,
        )

    def without_padding(self) -> Geometry:
        """The same for an input that was padded by hand."""
        return Geometry(
            stride=self.stride, padding=(0, 0), dilation=self.dilation, groups=self.groups
        )


def is_exact(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> bool:
    """Whether y is the convolution of x, at the cost of one output channel per group.

    With random integers r[o],

        sum_o r[o] y[n, o, p]  =  conv(x, sum_o r[o] w[o])[n, p] + sum_o r[o] bias[o]

    holds in integers (Freivalds' check of a matrix product); where y is wrong at a position, both
    sides agree there with a probability of 1/127. Both are computed in float64, below 2^53.
    """
    groups = geometry.groups
    outputs = len(weight) // groups
    rng = np.random.default_rng(_SEED)
    factors = torch.from_numpy(rng.integers(1, _FACTORS, (groups, outputs)).astype(np.float32))
    # float32 holds the combined weights of 1,000 output channels of 7 bits.
    dtype = (
        torch.float32
        if _FACTORS * float(weight.abs().max()) * outputs < FLOAT32_INTEGER
        else torch.double
    )
    flat = weight.to(dtype).reshape(groups, outputs, -1)
    combined = torch.bmm(factors.to(dtype).unsqueeze(1), flat).reshape(groups, *weight.shape[1:])
    factors = factors.double()
    shift = (factors * bias.double().reshape(groups, outputs)).sum(1)
    expected = exact_convolution(x, combined, shift, geometry)  # [N, groups, H, W]
    if y.shape[1] != len(weight) or y.shape[2:] != expected.shape[2:]:
        return False
    channels_last = y.permute(0, 2, 3, 1).reshape(-1, groups, outputs).double()  # [N H W, g, O / g]
    got = (channels_last * factors).sum(2) if groups > 1 else channels_last[:, 0] @ factors.T
    return torch.equal(got, expected.permute(0, 2, 3, 1).reshape(-1, groups))


def exact_convolution(x: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> Tensor:
    """float64 [N, O, H, W] by matrix products and shifted sums, no convolution kernel.

    Args:
        x: integers [N, C, H, W].
        weight: integers [O, C / groups, K, K].
        bias: integers [O].
        geometry: of the convolution.
    """
    groups = geometry.groups
    outputs, channels, height, width = weight.shape
    each = outputs // groups
    (high, wide), (down, right), (gap_h, gap_w) = (
        geometry.padding,
        geometry.stride,
        geometry.dilation,
    )
    padded = functional.pad(x, (wide, wide, high, high)).permute(0, 2, 3, 1).double()
    n, rows, columns, _ = padded.shape
    out_h = (rows - gap_h * (height - 1) - 1) // down + 1
    out_w = (columns - gap_w * (width - 1) - 1) // right + 1
    left = padded.reshape(-1, groups, channels).transpose(0, 1)  # [groups, N H W, C / groups]
    taps = weight.double().reshape(groups, each, channels, -1).permute(0, 3, 1, 2)
    products = torch.bmm(taps.reshape(groups, -1, channels), left.transpose(1, 2))
    products = products.reshape(groups, height * width, each, n, rows, columns)
    total = bias.double().reshape(groups, each, 1, 1, 1).repeat(1, 1, n, out_h, out_w)
    for tap in range(height * width):
        top, start = gap_h * (tap // width), gap_w * (tap % width)
        bottom, end = top + down * (out_h - 1) + 1, start + right * (out_w - 1) + 1
        total += products[:, tap, :, :, top:bottom:down, start:end:right]
    return total.permute(2, 0, 1, 3, 4).reshape(n, outputs, out_h, out_w)
