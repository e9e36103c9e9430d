"""Average pooling without its division: a sum over windows, a depthwise convolution of ones."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np

from icsnn_deploy.graph.nodes import AvgPool, Conv, Node


def window_sum(pool: AvgPool, channels: int) -> Conv:
    """The sum over a pooling's windows, under its name; its weights are int8."""
    return Conv(
        name=pool.name,
        inputs=pool.inputs,
        weight=np.ones((channels, 1, *pool.kernel), np.int8),
        bias=np.zeros(channels, np.int8),
        stride=pool.stride,
        padding=pool.padding,
        dilation=(1,) * len(pool.kernel),
        groups=channels,
    )


def is_window_sum(node: Node) -> TypeGuard[Conv]:
    """Whether a node is a sum over windows, of integers or, in networks from elsewhere, floats."""
    return (
        isinstance(node, Conv)
        and node.weight.shape[:2] == (node.groups, 1)
        and bool((node.weight == 1).all())
        and not node.bias.any()
    )
