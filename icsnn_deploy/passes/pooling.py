"""Average pooling as a depthwise convolution: of ones (a sum), or of 1 / k^2 (the mean)."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, Conv, Node


def window_sum(pool: AvgPool, channels: int, dtype: type[np.number[Any]] = np.int8) -> Conv:
    """Return the sum over a pooling's windows, under its name, with weights of this dtype."""
    return _convolution(pool, channels, dtype(1))


def window_mean(pool: AvgPool, channels: int) -> Conv:
    """Return the mean over a pooling's windows, under its name; 1 / k^2 is rounded to float32."""
    return _convolution(pool, channels, np.float32(1 / np.prod(pool.kernel)))


def is_window_sum(node: Node) -> TypeGuard[Conv]:
    """Return whether a node sums its windows channel by channel, in integers or floats."""
    return (
        isinstance(node, Conv)
        and node.weight.shape[:2] == (node.groups, 1)
        and bool((node.weight == 1).all())
        and not node.bias.any()
    )


def _convolution(pool: AvgPool, channels: int, weight: np.number[Any]) -> Conv:
    kernel: Array = np.full((channels, 1, *pool.kernel), weight)
    return Conv(
        name=pool.name,
        inputs=pool.inputs,
        weight=kernel,
        bias=np.zeros(channels, kernel.dtype),
        stride=pool.stride,
        padding=pool.padding,
        dilation=(1,) * len(pool.kernel),
        groups=channels,
    )
