r"""A linear map along each spatial axis: averages over uneven windows, interpolation, and the like.

    y[c, i, j] = sum over g, h of A1[i, g] A2[j, h] x[c, g, h]

Each axis is a depthwise convolution for the rows of A that repeat with a shift, plus a pair of
convolutions, crop and place, for each column or row of A that deviates (borders, uneven windows). A
map to a finer axis is computed in phase layout where its phases repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Builder, Result, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.gather_axis import MAX_PIECES, crop
from icsnn_deploy.conversion.frontend.phases import from_phases, most_phases
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Shape
from icsnn_deploy.passes.window import window

_AT_ONCE = 2**22
"""Values that a map is applied to at once, to find its matrix."""
_MOST_PLACES = 2**23
"""Places of a result; an image of 3,840 x 2,160 has fewer."""
_MOST_ENTRIES = 2**23
"""Entries of the matrix of an axis."""

Apply = Callable[[torch.Tensor], torch.Tensor]


def axis_matrices(context: CallContext, apply: Apply, lengths: Shape) -> tuple[Array, ...]:
    """The matrices of a linear map that treats the axes separately, [S, G] each.

    Args:
        context: the call, for messages.
        apply: the map of tensors [B, 1, *G], float64.
        lengths: G.

    Raises:
        Unsupported: the map is not linear, or does not treat the axes separately.
    """
    axes = len(lengths)
    with torch.no_grad():
        plane = torch.empty((1, 1, *lengths), dtype=torch.float64, device="meta")
        _require_few_places(context, lengths, apply(plane).shape[2:])
        ones = apply(torch.ones((1, 1, *lengths), dtype=torch.float64))[0, 0].numpy()
        best = np.unravel_index(np.abs(ones).argmax(), ones.shape)
        at_once = max(1, _AT_ONCE // max(ones.size, math.prod(lengths)))
        found = []
        for axis, (length, places) in enumerate(zip(lengths, ones.shape, strict=True)):
            shape = [1] * axes
            shape[axis] = length
            line = tuple(slice(None) if a == axis else best[a] for a in range(axes))
            matrix = np.empty((length, places))
            for first in range(0, length, at_once):
                count = min(at_once, length - first)
                basis = torch.from_numpy(np.eye(count, length, first))
                lines = basis.reshape(count, 1, *shape).expand(count, 1, *lengths)
                result = apply(lines.contiguous())[:, 0].numpy()  # [some of G, *S]
                matrix[first : first + count] = result[(slice(None), *line)]
            found.append(matrix.T / (ones[best] if axis else 1))
        probe = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *lengths)))
        wanted = apply(probe)[0, 0].numpy()
    got = probe[0, 0].numpy()
    for axis, matrix in enumerate(found):
        got = np.moveaxis(np.tensordot(matrix, got, (1, axis)), 0, axis)
    if got.shape != wanted.shape or np.abs(got - wanted).max() > 1e-9 * np.abs(wanted).max():
        raise context.unsupported(
            "a map that is not linear, or mixes rows and columns",
            "resizing and pooling that treat rows and columns apart",
        )
    return tuple(np.where(np.abs(matrix) < 1e-12, 0, matrix) for matrix in found)


def _require_few_places(context: CallContext, before: Shape, after: Shape) -> None:
    """Reject a map whose result or whose matrices are too large, before either is computed."""
    if math.prod(after) > _MOST_PLACES:
        raise context.unsupported(
            f"a map to {' x '.join(f'{n:,}' for n in after)} places",
            f"up to {_MOST_PLACES:,} places",
        )
    for length, places in zip(before, after, strict=True):
        if length * places > _MOST_ENTRIES:
            raise context.unsupported(
                f"a map of {length:,} to {places:,} places along an axis",
                f"up to {_MOST_ENTRIES:,} pairs of a place before and one after it",
            )


def map_axes(context: CallContext, source: str, matrices: tuple[Array, ...], name: str) -> Result:
    """The image of a node under a matrix along each axis."""
    builder = context.builder
    lengths = tuple(len(matrix) for matrix in matrices)
    phases = [1] * len(matrices)
    result = source
    for axis, matrix in enumerate(matrices):
        last = axis == len(matrices) - 1
        own = name if last else builder.name(f"{name}.rows")
        room = most_phases(builder.shapes[source][0]) // int(np.prod(phases))
        result, phases[axis] = _along(builder, result, axis, matrix, room, own)
    if all(r == 1 for r in phases):
        return result
    return from_phases(builder.numbering.elements(result), tuple(phases), lengths)


def _along(
    builder: Builder, source: str, axis: int, matrix: Array, most: int, name: str
) -> tuple[str, int]:
    """A node that computes the matrix along one axis, and its phases there, at most `most`."""
    count, length = matrix.shape
    if count == length and np.array_equal(matrix, np.eye(length)):
        return source, 1
    factor = count // length if count % length == 0 else 1
    phases = factor if length > 1 and factor <= most else 1
    split = [matrix[phase::phases] for phase in range(phases)]  # [P, G] each
    return _spread(builder, source, axis, split, name), phases


def _spread(builder: Builder, source: str, axis: int, split: list[Array], name: str) -> str:
    """A node [C * phases, ...] of the matrices, one for each phase."""
    count, length = split[0].shape
    stride = max(1, length // count)
    kernels = [_repeating(matrix, stride) for matrix in split]  # offset -> weight
    rests = [
        matrix - _as_matrix(kernel, stride, matrix.shape)
        for matrix, kernel in zip(split, kernels, strict=True)
    ]
    rest = np.stack([np.where(np.abs(one) < 1e-12, 0, one) for one in rests])  # [r, P, G]
    columns = np.flatnonzero(rest.any(axis=(0, 1)))
    rows = np.flatnonzero(rest.any(axis=(0, 2)))
    if min(len(rows), len(columns)) > MAX_PIECES:
        raise Unsupported(
            got=f"{name}: resizing of {length} to {count} places",
            allowed=f"whole factors, or at most {MAX_PIECES} places along an axis",
            remedy="Resize by a whole factor.",
        )
    parts = []
    if any(kernels):
        own = builder.name(f"{name}.part") if len(rows) else name
        parts.append(_regular(builder, source, axis, kernels, stride, count, own))
    if len(columns) <= len(rows):
        parts += [_column(builder, source, axis, rest, int(g), name) for g in columns]
    else:
        parts += [_row(builder, source, axis, rest, int(i), name) for i in rows]
    if len(parts) == 1:
        return parts[0]
    return builder.add(Add(name=name, inputs=tuple(parts)))


def _repeating(matrix: Array, stride: int) -> dict[int, float]:
    """The row that most rows repeat with a shift of `stride` each: offset -> weight."""
    row = len(matrix) // 2
    taps = np.flatnonzero(matrix[row])
    kernel = {int(g) - stride * row: float(matrix[row, g]) for g in taps}
    same = np.abs(matrix - _as_matrix(kernel, stride, matrix.shape)) < 1e-12
    return kernel if same.all(axis=1).sum() > 1 or len(matrix) == 1 else {}


def _as_matrix(kernel: dict[int, float], stride: int, shape: Shape) -> Array:
    matrix = np.zeros(shape)
    rows = np.arange(shape[0])
    for offset, weight in kernel.items():
        columns = stride * rows + offset
        inside = (columns >= 0) & (columns < shape[1])
        matrix[rows[inside], columns[inside]] = weight
    return matrix


def _on_axis(builder: Builder, source: str, axis: int, value: int) -> list[int]:
    sizes = [1] * (len(builder.shapes[source]) - 1)
    sizes[axis] = value
    return sizes


def _regular(
    builder: Builder,
    source: str,
    axis: int,
    kernels: list[dict[int, float]],
    stride: int,
    count: int,
    name: str,
) -> str:
    """A depthwise convolution with one output per channel and phase."""
    lengths = builder.shapes[source][1:]
    offsets = [offset for kernel in kernels for offset in kernel]
    low, high = min(offsets), max(offsets)
    found = window(range(low, high + 1), stride=stride, length=lengths[axis], positions=count)
    assert found is not None
    weight = np.zeros((len(kernels), found.size))
    for phase, kernel in enumerate(kernels):
        for offset, value in kernel.items():
            weight[phase, found.first + offset - low] = value
    return _depthwise(builder, source, axis, weight, found.padding, name, stride=stride)


def _depthwise(
    builder: Builder,
    source: str,
    axis: int,
    weight: Array,
    padding: tuple[int, int],
    name: str,
    *,
    stride: int = 1,
) -> str:
    """A convolution of each channel along one axis; weights are [results per channel, taps]."""
    channels, *lengths = builder.shapes[source]
    pads: list[tuple[int, int]] = [(0, 0)] * len(lengths)
    pads[axis] = padding
    size = _on_axis(builder, source, axis, weight.shape[1])
    return builder.add(
        Conv(
            name=name,
            inputs=(source,),
            weight=np.tile(weight, (channels, 1)).reshape(-1, 1, *size),
            bias=np.zeros(channels * len(weight), np.float32),
            stride=tuple(_on_axis(builder, source, axis, stride)),
            padding=tuple(pads),
            dilation=(1,) * len(lengths),
            groups=channels,
        )
    )


def _column(builder: Builder, source: str, axis: int, rest: Array, place: int, name: str) -> str:
    """What one place of the source adds to the places of the result."""
    _, count, _ = rest.shape
    used = np.flatnonzero(rest[:, :, place].any(axis=0))
    begin, end = int(used[0]), int(used[-1]) + 1
    cropped = crop(builder, source, axis, place, rest.shape[2], 1, name)
    taps = rest[:, begin:end, place][:, ::-1]  # [r, taps]
    return _placed(builder, cropped, axis, taps, (end - 1, count - begin - 1), name)


def _row(builder: Builder, source: str, axis: int, rest: Array, row: int, name: str) -> str:
    """One place of the result, from all places of the source that it reads."""
    _, count, _ = rest.shape
    weight = rest[:, row]  # [r, G], all of the axis: its result has length 1
    read = _depthwise(builder, source, axis, weight, (0, 0), builder.name(f"{name}.row"))
    return _placed(builder, read, axis, np.ones((1, 1)), (row, count - row - 1), name)


def _placed(
    builder: Builder, source: str, axis: int, taps: Array, padding: tuple[int, int], name: str
) -> str:
    """Taps [results per channel, n] with zero padding; an even number gets one more tap."""
    if taps.shape[1] % 2 == 0:  # odd (see shift_conv)
        taps = np.pad(taps, ((0, 0), (0, 1)))
        padding = (padding[0], padding[1] + 1)
    return _depthwise(builder, source, axis, taps, padding, builder.name(f"{name}.part"))
