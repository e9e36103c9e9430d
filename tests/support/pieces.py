"""Images put together from pieces of other images: one-hot convolutions, and their sums."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, Conv, Node, Shape


def crop(name: str, source: str, shape: Shape, axis: int, start: int, *, dense: bool = False) -> Conv:
    """One row (axis 1) or column (axis 2) of an image of this shape."""
    length = shape[axis]
    kernel = tuple(length if a == axis else 1 for a in range(1, len(shape)))
    weight = np.zeros((shape[0], 1, *kernel), np.float32)
    weight[(slice(None), 0, *(start if k > 1 else 0 for k in kernel))] = 1
    return _conv(name, source, weight, kernel, ((0, 0),) * len(kernel), dense=dense)


def place(name: str, source: str, channels: int, padding: tuple[tuple[int, int], ...], *, dense: bool = False) -> Conv:
    """An image with zeros around it."""
    ones = (1,) * len(padding)
    return _conv(name, source, np.ones((channels, 1, *ones)), ones, padding, dense=dense)


def _conv(name, source, weight, stride, padding, *, dense):  # type: ignore[no-untyped-def]
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


def reflected(name: str, source: str, shape: Shape, *, dense: bool = False) -> tuple[list[Node], str]:
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
                nodes.append(crop(f"{name}.crop{axis}{number}", current, shape, axis, start, dense=dense))
                piece, wide = nodes[-1].name, 1
            padding = tuple(
                (before, length + 2 - wide - before) if a == axis else (0, 0)
                for a in range(1, len(shape))
            )
            nodes.append(place(f"{name}.place{axis}{number}", piece, shape[0], padding, dense=dense))
            parts.append(nodes[-1].name)
        current = f"{name}.axis{axis}"
        nodes.append(Add(name=current, inputs=tuple(parts)))
        shape = tuple(n + 2 if a == axis else n for a, n in enumerate(shape))
    return nodes, current
