"""Parameters in the order that the program reads them: maps are stored channels last.

A shape (C, H, W) becomes [H][W][C], (C, L) becomes [L][C] and (F,) stays [F].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Shape


@dataclass(frozen=True, kw_only=True)
class MapSize:
    """A map of height x width pixels with channels each; a vector is one pixel."""

    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, shape: Shape) -> MapSize:
        """The size of a node's result."""
        rest = shape[1:]
        height, width = rest if len(rest) == 2 else (1, math.prod(rest))
        return cls(height=height, width=width, channels=shape[0])

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def neurons(self) -> int:
        """Number of values."""
        return self.pixels * self.channels

    def __str__(self) -> str:
        return f"{self.height} x {self.width} x {self.channels}"


def per_channel_or_neuron(values: Array, shape: Shape) -> Array:
    """A parameter of broadcast_shapes, [C] or [P, C] channels last."""
    if values.shape == shape and math.prod(shape[1:]) > 1:
        return channels_last(values)
    return np.ascontiguousarray(np.broadcast_to(values.reshape(-1), (shape[0],)))


def windows_first(size: MapSize, window: tuple[int, int]) -> Array:
    """The pixels of a map, those of a window (height, width) one after another: int64 [P]."""
    height, width = window
    pixels = np.arange(size.pixels).reshape(
        size.height // height, height, size.width // width, width
    )
    return np.ascontiguousarray(pixels.transpose(0, 2, 1, 3)).reshape(-1)


def channels_last(values: Array) -> Array:
    """[C, *rest] -> [P, C]."""
    return np.ascontiguousarray(values.reshape(len(values), -1).T)


def is_sum_pool(node: Conv, source: Shape) -> bool:
    """Whether a convolution gives the sum of each window of a channel, windows without overlap."""
    return (
        node.groups == len(node.weight) == source[0]
        and node.stride == node.kernel
        and set(node.dilation) == {1}
        and not any(map(any, node.padding))
        and all(size % kernel == 0 for size, kernel in zip(source[1:], node.kernel, strict=True))
        and bool((node.weight == 1).all())
        and not node.bias.any()
    )


def conv_taps(conv: Conv) -> Array:
    """Weights of a convolution as [C_in, ky, kx, C_out / groups]; one spatial axis has ky = 1."""
    weight = conv.weight if conv.weight.ndim == 4 else conv.weight[:, :, None]
    outputs, per_group, *kernel = weight.shape
    grouped = weight.reshape(conv.groups, outputs // conv.groups, per_group, *kernel)
    taps = grouped.transpose(0, 2, 3, 4, 1)  # [G, C_in / G, ky, kx, C_out / G]
    return np.ascontiguousarray(taps.reshape(-1, *taps.shape[2:]))


def mirrored(taps: Array) -> Array:
    """The kernel turned by 180 degrees: the targets of one spike, in the order of memory."""
    return np.ascontiguousarray(taps[:, ::-1, ::-1])


def blocks_of(taps: Array, lanes: int) -> Array:
    """[C_in, ky, kx, C_out] -> [C_out / lanes, ky, kx, C_in, lanes]."""
    split = taps.reshape(*taps.shape[:3], -1, lanes)
    return np.ascontiguousarray(split.transpose(3, 1, 2, 0, 4))


def linear_rows(weight: Array, source: MapSize) -> Array:
    """Weights of a Linear as [P, C, F_out]; its source is a map that was flattened."""
    outputs = len(weight)
    split = weight.reshape(outputs, source.channels, source.pixels)
    return np.ascontiguousarray(split.transpose(2, 1, 0))
