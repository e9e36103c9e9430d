"""Convolutions of integer networks in 8-bit integers on the CPU: exact, and several times faster.

A spike is 0 or 1 and a weight of an integer network fits a byte, so oneDNN can multiply bytes and
add up in 32 bits. It hands out float32: the same numbers, as long as float32 holds them, which is
what the network's certificate says of the float32 convolution as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Add, Conv, Flatten, Node

MOST = 127
"""Largest input of an 8-bit convolution: products of two bytes are added up in pairs of 16 bits on
processors without VNNI, 2 * 127 * 127 < 2**15."""


class Int8Convolution:
    """One convolution whose inputs are integers from 0 to MOST."""

    def __init__(self, node: Conv) -> None:
        channels = len(node.bias)
        self._scale = torch.ones(channels)
        self._zero = torch.zeros(channels, dtype=torch.int64)
        self._bias = torch.from_numpy(node.bias.astype(np.float32))
        self._sizes = (
            list(node.stride),
            [before for before, _ in node.padding],
            list(node.dilation),
        )
        self._groups = node.groups
        self._node = node
        self._packed: Any = None  # calibration makes many simulators and runs few layers of each

    def __call__(self, x: Tensor) -> Tensor:
        """float32 [N, C, H, W] for counts [N, C, H, W], bytes or floating."""
        if self._packed is None:
            weight = torch.from_numpy(self._node.weight.astype(np.int8))
            self._packed = _onednn().qconv_prepack(
                weight, self._scale, 1.0, 0, *self._sizes, self._groups, None
            )
        result: Tensor = _onednn().qconv2d_pointwise(
            _as_bytes(x),
            *(1.0, 0),  # scale and zero of the input
            *(self._packed, self._scale, self._zero, self._bias),
            *self._sizes,
            self._groups,
            *(1.0, 0, torch.float32),  # scale, zero and type of the output
            *("none", [], ""),  # nothing after it
        )
        return result


def int8_convolutions(graph: Graph, device: torch.device) -> dict[str, Int8Convolution]:
    """The convolutions of a network that can run so, by name; none where the machine can't.

    Args:
        graph: an integer network.
        device: the CPU, or there are none.
    """
    if device.type != "cpu" or not graph.is_integer or not _available():
        return {}
    counts = _counts(graph)
    return {
        node.name: Int8Convolution(node)
        for node in graph.nodes_of(Conv)
        if counts.get(node.inputs[0], MOST + 1) <= MOST and _fits(node)
    }


def _fits(node: Conv) -> bool:
    symmetric = all(before == after for before, after in node.padding)
    image = len(node.kernel) == 2
    return image and symmetric and bool(node.weight.min() >= -127 and node.weight.max() <= 127)


def _counts(graph: Graph) -> dict[str, int]:
    """Nodes whose results are integers from 0 on, and the largest each can reach."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        largest = _largest(node, [found.get(name) for name in node.inputs])
        if largest is not None:
            found[node.name] = largest
    return found


def _largest(node: Node, sources: list[int | None]) -> int | None:
    match node:
        case IF():
            return 1
        case Flatten():
            return sources[0]
        case Add() if None not in sources:
            return sum(count for count in sources if count is not None)
        case Conv() if sources[0] is not None and node.weight.min() >= 0 and not node.bias.any():
            rows = node.weight.astype(np.int64).reshape(len(node.weight), -1).sum(axis=1)
            return int(rows.max()) * sources[0]
    return None


def _as_bytes(x: Tensor) -> Tensor:
    """Counts up to 127 as uint8; torch turns floats into int8 several times faster than that."""
    return x.to(torch.int8).view(torch.uint8) if x.is_floating_point() else x


def _onednn() -> Any:
    return torch.ops.onednn


def _available() -> bool:
    """Whether this build of torch has oneDNN's 8-bit convolution, as inductor calls it."""
    return bool(torch.backends.mkldnn.is_available()) and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.onednn, name) for name in ("qconv_prepack", "qconv2d_pointwise")
    )
