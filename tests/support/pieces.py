"""Images put together from pieces of other images: one-hot convolutions, and their sums."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Node, Pairs, Shape


def crop(
    name: str, source: str, shape: Shape, axis: int, start: int, *, dense: bool = False
) -> Conv:
    """One row (axis 1) or column (axis 2) of an image [C, H, W]: a long stride."""
    stride = tuple(shape[axis] if a == axis else 1 for a in range(1, len(shape)))
    kernel = tuple(start + 1 if a == axis else 1 for a in range(1, len(shape)))
    weight = np.zeros((shape[0], 1, *kernel), np.float32)
    weight[:, 0].reshape(shape[0], -1)[:, -1] = 1
    return _conv(name, source, weight, stride, ((0, 0),) * len(kernel), dense=dense)


def window(
    name: str,
    source: str,
    shape: Shape,
    start: Shape,
    size: Shape,
    *,
    weight: float = 1.0,
    dense: bool = False,
) -> Conv:
    """A part of an image of this shape, from `start` on: a kernel with one weight."""
    kernel = tuple(n - k + 1 for n, k in zip(shape[1:], size, strict=True))
    values = np.zeros((shape[0], 1, *kernel), np.float32)
    values[:, 0].reshape(shape[0], -1)[:, np.ravel_multi_index(start, kernel)] = weight
    ones = (1,) * len(kernel)
    return _conv(name, source, values, ones, ((0, 0),) * len(kernel), dense=dense)


def place(name: str, source: str, channels: int, padding: Pairs, *, dense: bool = False) -> Conv:
    """An image with zeros around it."""
    ones = (1,) * len(padding)
    return _conv(name, source, np.ones((channels, 1, *ones)), ones, padding, dense=dense)


def _conv(
    name: str, source: str, weight: Array, stride: Shape, padding: Pairs, *, dense: bool
) -> Conv:
    channels = len(weight)
    if dense:
        full = np.zeros((channels, channels, *weight.shape[2:]), np.float32)
        full[np.arange(channels), np.arange(channels)] = weight[:, 0]
        weight = full
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight.astype(np.float32),
        bias=np.zeros(channels, np.float32),
        stride=stride,
        padding=padding,
        dilation=(1,) * len(padding),
        groups=1 if dense else channels,
    )


def reflected(
    name: str, source: str, shape: Shape, *, dense: bool = False
) -> tuple[list[Node], str]:
    """Nodes that pad an image by one reflected row and column on each side, axis after axis.

    Returns:
        the nodes, and the name of the last.
    """
    nodes: list[Node] = []
    current = source
    for axis in range(1, len(shape)):
        length = shape[axis]
        parts = []
        for number, (start, before) in enumerate(((None, 1), (1, 0), (length - 2, length + 1))):
            piece, wide = current, length
            if start is not None:
                piece, wide = f"{name}.crop{axis}{number}", 1
                nodes.append(crop(piece, current, shape, axis, start, dense=dense))
            padding = tuple(
                (before, length + 2 - wide - before) if a == axis else (0, 0)
                for a in range(1, len(shape))
            )
            parts.append(f"{name}.place{axis}{number}")
            nodes.append(place(parts[-1], piece, shape[0], padding, dense=dense))
        current = f"{name}.axis{axis}"
        nodes.append(Add(name=current, inputs=tuple(parts)))
        shape = tuple(n + 2 if a == axis else n for a, n in enumerate(shape))
    return nodes, current
