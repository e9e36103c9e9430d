"""A selection of a node's elements as one convolution, or one fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.conversion.frontend.builder import MAX_WEIGHTS, Builder, Unsupported
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Shape
from icsnn_deploy.passes.window import windows


def check_weights(name: str, *sizes: int) -> None:
    """Raise Unsupported for a node with more weights than the front end makes."""
    count = int(np.prod([int(size) for size in sizes], dtype=object))
    if count > MAX_WEIGHTS:
        raise Unsupported(
            got=f"{name}: {count:,} weights, to compute it with the layers that files have",
            allowed=f"at most {MAX_WEIGHTS:,} weights per node",
            remedy="Use smaller inputs, fewer channels, or fewer upsampling steps.",
        )


def one_hot_linear(builder: Builder, source: str, positions: Array, name: str) -> str:
    """A Linear that selects elements of a vector.

    Args:
        builder: of the graph.
        source: a node with a vector.
        positions: for each result the position in the vector, or -1 for zero.
        name: of the node.
    """
    (length,) = builder.shapes[source]
    check_weights(name, len(positions), length)
    weight = np.zeros((len(positions), length), np.float32)
    rows = np.flatnonzero(positions >= 0)
    weight[rows, positions[rows]] = 1
    bias = np.zeros(len(weight), np.float32)
    return builder.add(Linear(name=name, inputs=(source,), weight=weight, bias=bias))


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Where a convolution finds its elements: result p of channel k reads x[c[k], s p + o[k]].

    Args:
        channels: of the source for each channel of the result; -1 where all are zero.
        offsets: [K, axes].
        stride: one per axis.
    """

    channels: Array
    offsets: Array
    stride: Shape


def coordinates_of(positions: Array, shape: Shape) -> tuple[Array, ...]:
    """The index along each axis of flat positions in an array of that shape; 0 for negative ones.

    np.unravel_index is given a vector, because of more than 8192 positions with a last axis of
    length 1 it returns wrong indices (NumPy 2.4.6, github.com/numpy/numpy/issues/31980).
    """
    flat = np.unravel_index(np.maximum(positions, 0).reshape(-1), shape)
    return tuple(axis.reshape(positions.shape) for axis in flat)


def find_shift(positions: Array, shape: Shape, *, holes: bool = False) -> Shift | None:
    """The shift that selects elements of an image, or None if there is none.

    Args:
        positions: [K, *P], flat positions in an image of `shape`; -1 for zero. Positions outside
            the image are zero.
        shape: (C, *G).
        holes: whether zeros may also lie where the shift reads values.
    """
    axes = len(shape) - 1
    found = positions >= 0
    used = found.any(axis=tuple(range(1, axes + 1)))
    coordinates = coordinates_of(positions, shape)
    spread = tuple(range(1, axes + 1))
    lowest = np.where(found, coordinates[0], shape[0]).min(axis=spread)
    highest = np.where(found, coordinates[0], -1).max(axis=spread)
    if not (lowest[used] == highest[used]).all():
        return None
    stride, offsets = [], np.zeros((len(positions), axes), np.int64)
    expected = np.ones_like(found)
    for axis in range(1, axes + 1):
        own = _stride_and_offsets(coordinates[axis], found, axis, shape[axis])
        if own is None:
            return None
        stride.append(own[0])
        offsets[:, axis - 1] = own[1]
        steps = np.arange(positions.shape[axis])
        read = own[0] * steps[None] + own[1][:, None]  # [K, P]
        line = (len(positions), *(n if a == axis else 1 for a, n in enumerate(positions.shape)))
        read = read.reshape(line[0], *line[2:])
        inside = (read >= 0) & (read < shape[axis])
        if not (np.where(found, coordinates[axis] == read, True)).all():
            return None
        expected = expected & inside
    expected[~used] = False
    if not holes and not np.array_equal(expected, found):
        return None
    channels = np.where(used, lowest, -1)
    return Shift(channels=channels, offsets=offsets, stride=tuple(stride))


def _stride_and_offsets(
    coordinate: Array, found: Array, axis: int, length: int
) -> tuple[int, Array] | None:
    """Stride, and offset of each channel, along one axis; None if it is not regular."""
    moved = np.moveaxis(np.where(found, coordinate, -1), axis, 1)  # [K, P, ...]
    line = moved.reshape(*moved.shape[:2], -1).max(axis=2)  # [K, P]
    valid = line >= 0
    pairs = valid[:, 1:] & valid[:, :-1]
    steps = np.diff(line, axis=1)[pairs]
    if len(steps) and (steps != steps[0]).any():
        return None
    stride = int(steps[0]) if len(steps) else length
    if stride < 1:
        return None
    first = np.argmax(valid, axis=1)
    offsets = np.where(valid.any(axis=1), line[np.arange(len(line)), first] - stride * first, 0)
    return stride, offsets


def shift_conv(
    builder: Builder, source: str, shift: Shift, positions: Shape, name: str, *, odd: bool = False
) -> str:
    """The convolution of one-hot weights that a shift describes.

    Args:
        builder: of the graph.
        source: node with an image.
        shift: what it selects.
        positions: spatial shape of the result.
        name: of the node.
        odd: whether even kernels get one more tap, of zeros; formats that know square kernels alone
            take several layers for an even size beside an odd one.
    """
    shape = builder.shapes[source]
    used = shift.channels >= 0
    lows = shift.offsets[used].min(axis=0)
    highs = shift.offsets[used].max(axis=0)
    found = windows(
        tuple(range(int(low), int(high) + 1) for low, high in zip(lows, highs, strict=True)),
        stride=shift.stride,
        lengths=shape[1:],
        positions=positions,
    )
    if found is None:
        raise Unsupported(
            got=f"{name}: a selection that starts outside the image",
            allowed="a selection with elements inside",
            remedy="Rewrite it.",
        )
    size, padding = [one.size for one in found], [one.padding for one in found]
    for axis, length in enumerate(size):
        if odd and length % 2 == 0:
            before, after = padding[axis]
            size[axis], padding[axis] = length + 1, (before, after + 1)
    count = len(shift.channels)
    each = count // shape[0]
    diagonal = count % shape[0] == 0 and np.array_equal(shift.channels, np.arange(count) // each)
    check_weights(name, count, 1 if diagonal else shape[0], *size)
    weight = np.zeros((count, 1 if diagonal else shape[0], *size), np.float32)
    rows = np.flatnonzero(used)
    taps = [
        found[axis].first + shift.offsets[rows, axis] - int(lows[axis]) for axis in range(len(size))
    ]
    columns = np.zeros(len(rows), np.int64) if diagonal else shift.channels[rows]
    weight[(rows, columns, *taps)] = 1
    return builder.add(
        Conv(
            name=name,
            inputs=(source,),
            weight=weight,
            bias=np.zeros(count, np.float32),
            stride=shift.stride,
            padding=tuple(padding),
            dilation=(1,) * len(size),
            groups=shape[0] if diagonal else 1,
        )
    )
