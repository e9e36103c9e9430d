"""Convolutions of integer networks in float32 on the CPU, by a kernel that is proven first.

The certificate covers every order of summation, but no convolution by Winograd or FFT. torch does
not tell which algorithm it uses, so the kernel is compared with exact sums like the 8-bit one; if
it is refused, the layer is computed in float64 by matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.exact import Geometry, exact_convolution
from icsnn_deploy.backends.torch.proof import Convolve, ProvenConvolution
from icsnn_deploy.graph.certificate import FLOAT32_INTEGER
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv

_MAX_PRODUCTS = 1 << 22  # of a float64 convolution, held at once


class Float32Kernel:
    """torch's own convolution."""

    name = "float32"
    dtype = torch.float32

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with this weight and bias, which are integers."""
        kernel = weight.contiguous(memory_format=torch.channels_last)

        def convolve(x: Tensor) -> Tensor:
            return functional.conv2d(
                x,
                kernel,
                bias,
                stride=geometry.stride,
                padding=geometry.padding,
                dilation=geometry.dilation,
                groups=geometry.groups,
            )

        return convolve

    def limits(self, window: int) -> tuple[int, int, int]:
        """Inputs and weights so large that float32 just holds the sums."""
        largest = math.isqrt((FLOAT32_INTEGER - 1000) // window)
        return -largest, largest, largest


class Float32Convolution:
    """A convolution of integers whose sums float32 holds; any padding, one or two axes."""

    def __init__(self, node: Conv) -> None:
        self._signal = len(node.kernel) == 1
        self._pads = [n for pair in reversed(node.padding) for n in pair]
        symmetric = all(before == after for before, after in node.padding)
        padding = node.padding if symmetric else ((0, 0),) * len(node.padding)
        if symmetric:
            self._pads = []
        if self._signal:
            node = replace(
                node,
                weight=node.weight[:, :, None],
                stride=(1, *node.stride),
                dilation=(1, *node.dilation),
                padding=((0, 0), *padding),
            )
        else:
            node = replace(node, padding=padding)
        self._node = node
        self.proven = ProvenConvolution(node, Float32Kernel())

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [N, O, *positions] for float32 [N, C, *shape]."""
        if self._pads:
            x = functional.pad(x, self._pads)
        if self._signal:
            x = x.unsqueeze(2)  # [N, C, 1, L]
        y = self.proven(x.contiguous(memory_format=torch.channels_last))
        if y is None:
            y = self.in_float64(x)
        return y.squeeze(2) if self._signal else y

    def in_float64(self, x: Tensor) -> Tensor:
        """The same in float64, without a convolution kernel."""
        node, geometry = self._node, Geometry.of(self._node)
        weight = torch.from_numpy(node.weight.astype(np.float64))
        bias = torch.from_numpy(node.bias.astype(np.float64))
        each = max(1, _MAX_PRODUCTS // (max(1, x[:1].numel()) * weight[0, 0].numel()))
        if geometry.groups > 1:  # outputs belong to their own inputs
            each = len(weight)
        parts = [
            torch.cat(
                [
                    exact_convolution(
                        x[n : n + 1], weight[o : o + each], bias[o : o + each], geometry
                    )
                    for o in range(0, len(weight), each)
                ],
                dim=1,
            )
            for n in range(len(x))
        ]
        result = torch.cat(parts) if parts else exact_convolution(x, weight, bias, geometry)
        return result.float().contiguous(memory_format=torch.channels_last)


def float32_convolutions(
    graph: Graph, device: torch.device, dtype: torch.dtype, only: Collection[str] | None = None
) -> dict[str, Float32Convolution]:
    """The convolutions of an integer network on the CPU, by name; empty in every other case.

    Args:
        graph: the network.
        device: the result is empty unless it is the CPU.
        dtype: the result is empty unless it is float32.
        only: names of the nodes that are needed; None: all.
    """
    if device.type != "cpu" or dtype != torch.float32 or not graph.is_integer:
        return {}
    return {
        node.name: Float32Convolution(node)
        for node in graph.nodes_of(Conv)
        if only is None or node.name in only
    }
