"""Convolutions of integer networks in 8-bit integers on the CPU: exact, and several times faster.

A spike is 0 or 1 and a weight of an integer network fits a byte, so oneDNN can multiply bytes and
add in 32 bits. Its result is float32, which is exact if float32 holds the sums; the network's
certificate guarantees that. oneDNN is not trusted to add correctly: each shape is proven first (see
proof.py), and a layer that is refused runs in float32.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import assert_never

from icsnn_deploy.backends.torch import event_convolution, spike_kernel
from icsnn_deploy.backends.torch.event_convolution import EventKernel
from icsnn_deploy.backends.torch.exact import Geometry
from icsnn_deploy.backends.torch.proof import Convolve, Kernel, ProvenConvolution
from icsnn_deploy.backends.torch.spike_kernel import SpikeKernel
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
)

MAX_INPUT = 127
"""Largest input of an 8-bit convolution: processors without VNNI add pairs of products in 16 bits,
and 2 * 127 * 127 < 2**15."""


class PackedKernel:
    """oneDNN's 8-bit convolution, called as inductor does: inputs uint8, 0 to MAX_INPUT."""

    name = "8-bit"
    dtype = torch.uint8

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with this weight and bias, which are integers; its result is float32."""
        scale = torch.ones(len(bias))
        zero = torch.zeros(len(bias), dtype=torch.int64)
        sizes = (list(geometry.stride), list(geometry.padding), list(geometry.dilation))
        packed = _onednn().qconv_prepack(
            weight.to(torch.int8), scale, 1.0, 0, *sizes, geometry.groups, None
        )

        def convolve(x: Tensor) -> Tensor:
            result: Tensor = _onednn().qconv2d_pointwise(
                x,
                *(1.0, 0),  # scale and zero of the input
                *(packed, scale, zero, bias),
                *sizes,
                geometry.groups,
                *(1.0, 0, torch.float32),  # scale, zero and type of the output
                *("none", [], ""),  # nothing after it
            )
            return result

        return convolve

    def limits(self, window: int) -> tuple[int, int, int]:
        """Inputs from 0 to MAX_INPUT, weights of a signed byte without -128."""
        return 0, MAX_INPUT, 127


class Int8Convolution:
    """A convolution whose inputs are integers from 0 to MAX_INPUT.

    Args:
        node: the convolution.
        of_spikes: its inputs are 0 or 1.
    """

    def __init__(self, node: Conv, *, of_spikes: bool = False) -> None:
        native = of_spikes and spike_kernel.takes(node)
        kernel: Kernel = SpikeKernel(node) if native else PackedKernel()
        self.proven = ProvenConvolution(node, kernel)
        self._node = node
        self.events: ProvenConvolution | None = None  # for few spikes
        if of_spikes and event_convolution.takes(node):
            self.events = ProvenConvolution(node, EventKernel())
        self.ran_events = False  # in the last call

    def __call__(self, x: Tensor) -> Tensor | None:
        """Convolve bytes, or floats that hold integers; None if the kernel is refused here.

        Args:
            x: integers from 0 to MAX_INPUT, [N, C, H, W].

        Returns:
            float32 [N, O, H, W].
        """
        x = _as_bytes(x).contiguous(memory_format=torch.channels_last)
        self.ran_events = False
        if self.events is not None and event_convolution.is_faster_than_8_bits(self._node, x):
            result = self.events(x)
            self.ran_events = result is not None
            if result is not None:
                return result
        return self.proven(x)


def int8_convolutions(
    graph: Graph, device: torch.device, only: Collection[str] | None = None
) -> dict[str, Int8Convolution]:
    """The convolutions of a network that can run in 8 bits, by name.

    Args:
        graph: the network; the result is empty unless it is an integer network.
        device: the result is empty unless it is the CPU, and torch has these kernels.
        only: names of the nodes that are needed; None: all.
    """
    if device.type != "cpu" or not graph.is_integer or not _available():
        return {}
    counts = _counts(graph)
    return {
        node.name: Int8Convolution(node, of_spikes=counts[node.inputs[0]] == 1)
        for node in graph.nodes_of(Conv)
        if (only is None or node.name in only) and misfit(node, counts.get(node.inputs[0])) is None
    }


def misfits(graph: Graph) -> dict[str, str]:
    """The convolutions of an integer network that can't run in 8 bits on any machine, and why."""
    counts = _counts(graph)
    found = {node.name: misfit(node, counts.get(node.inputs[0])) for node in graph.nodes_of(Conv)}
    return {name: why for name, why in found.items() if why is not None}


def misfit(node: Conv, largest: int | None) -> str | None:
    """Why a convolution can't run in 8 bits; None if it can.

    Args:
        node: a convolution of integers.
        largest: largest value of its input, if that holds non-negative integers; else None.
    """
    if largest is None:
        return "its input is neither spikes nor a sum of spikes"
    if largest > MAX_INPUT:
        return f"its input reaches {largest}, at most {MAX_INPUT} is allowed"
    if len(node.kernel) != 2:
        return "it has one spatial axis"
    if any(before != after for before, after in node.padding):
        return "its padding is not symmetric"
    if node.weight.min() < -127 or node.weight.max() > 127:
        return "its weights are not within -127 to 127"
    return None


def _counts(graph: Graph) -> dict[str, int]:
    """Nodes whose results are non-negative integers, and the largest value of each."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        largest = _largest(node, [found.get(name) for name in node.inputs])
        if largest is not None:
            found[node.name] = largest
    return found


def _largest(node: Node, sources: list[int | None]) -> int | None:
    match node:
        case Population():
            return 1
        case Flatten():
            return sources[0]
        case Add() if None not in sources:
            return sum(count for count in sources if count is not None)
        case Conv() if sources[0] is not None and node.weight.min() >= 0 and not node.bias.any():
            rows = node.weight.astype(np.int64).reshape(len(node.weight), -1).sum(axis=1)
            return int(rows.max()) * sources[0]
        case Input() | Conv() | Linear() | ChannelAffine() | AvgPool() | Add() | Relu() | Output():
            return None
        case _:
            assert_never(node)


def _as_bytes(x: Tensor) -> Tensor:
    """Counts up to 127 as uint8; torch converts floats to int8 several times faster."""
    return x.to(torch.int8).view(torch.uint8) if x.is_floating_point() else x


def _onednn() -> Any:
    return torch.ops.onednn


def _available() -> bool:
    """Whether this build of torch has oneDNN's 8-bit convolution, with inductor's interface."""
    return bool(torch.backends.mkldnn.is_available()) and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.onednn, name) for name in ("qconv_prepack", "qconv2d_pointwise")
    )
