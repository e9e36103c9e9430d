"""Undo what the NIR export had to rewrite.

The export notes in a node's metadata what the node was in the graph. The note is applied only if
the numbers in the file confirm it; otherwise the operation is read as it is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.nir.kernels import Embedding, extract
from icsnn_deploy.exporters.nir.notes import SHAPES, TYPES
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Linear, Node, Population, Shape

INTEGERS = ("int8", "int16", "int32", "int64")
MOST_STORED = 2**22


def restore_conv(conv: Conv, about: Mapping[str, Any], shape: Shape) -> Node:
    """The node that a convolution was written for: another convolution, a 1-D pooling, a scale.

    Args:
        conv: as the file has it.
        about: the node's note.
        shape: of its input.
    """
    original = restore_embedded(conv, about, shape)
    diagonal = original.groups == shape[0] == original.weight.shape[0]
    if not diagonal or any(size != 1 for size in original.dilation):
        return original
    if about.get("was") == "avg_pool" and not original.bias.any() and len(original.kernel) == 1:
        if (original.weight == np.float32(1 / original.kernel[0])).all():
            return AvgPool(
                name=original.name,
                inputs=original.inputs,
                kernel=original.kernel,
                stride=original.stride,
                padding=original.padding,
            )
    elif about.get("was") == "scale" and _is_pointwise(original):
        per_channel = (shape[0], *(1,) * (len(shape) - 1))
        return ChannelAffine(
            name=original.name,
            inputs=original.inputs,
            scale=original.weight.reshape(per_channel),
            shift=original.bias.reshape(per_channel),
        )
    return original


def restore_embedded(conv: Conv, about: Mapping[str, Any], shape: Shape) -> Conv:
    """The convolution that was embedded in this one, if the note has one that fits.

    Args:
        conv: as the file has it.
        about: the node's note.
        shape: of its input.
    """
    return _unembedded(conv, about.get("conv"), shape) or conv


def restore_linear(linear: Linear, about: Mapping[str, Any]) -> Node:
    """The scale that a diagonal matrix was written for, if the note says so."""
    weight = linear.weight
    square = weight.shape[0] == weight.shape[1]
    if about.get("was") != "scale" or not square:
        return linear
    diagonal = np.diagonal(weight)
    if np.count_nonzero(diagonal) != np.count_nonzero(weight):
        return linear
    return ChannelAffine(name=linear.name, inputs=linear.inputs, scale=diagonal, shift=linear.bias)


def restore_stored(node: Node, about: Mapping[str, Any]) -> Node:
    """The node with the types and shapes of the note for its arrays, where no value changes."""
    types, shapes = about.get(TYPES), about.get(SHAPES)
    changes: dict[str, Any] = {}
    for field, array in node.arrays().items():
        value = array
        if isinstance(shapes, dict) and isinstance(node, (Population, ChannelAffine)):
            value = _of_shape(value, shapes.get(field))
        if isinstance(types, dict):
            value = _of_type(value, types.get(field))
        if value is not array:
            changes[field] = value
    return replace(node, **changes) if changes else node


def _of_shape(array: Array, noted: Any) -> Array:
    """The array with the noted axes of length one, if its values allow it."""
    try:
        shape = _integers(noted, array.ndim, 1)
        part = array[tuple(slice(1) if size == 1 else slice(None) for size in shape)]
        if math.prod(shape) <= MOST_STORED and (part == array).all():
            return np.broadcast_to(part, shape).copy()
    except ValueError:
        pass
    return array


def _of_type(array: Array, noted: Any) -> Array:
    """The array in the noted type, if that holds its values."""
    if noted not in INTEGERS or not (np.abs(array) <= 2.0**62).all():
        return array
    limits, doubles = np.iinfo(noted), array.astype(np.float64)
    whole = (doubles == np.rint(doubles)) & (doubles >= limits.min) & (doubles <= limits.max)
    return array.astype(noted) if whole.all() else array


def _is_pointwise(conv: Conv) -> bool:
    unmoved = all(pair == (0, 0) for pair in conv.padding) and all(s == 1 for s in conv.stride)
    return unmoved and all(size == 1 for size in conv.kernel)


def _unembedded(conv: Conv, note: Any, shape: Shape) -> Conv | None:
    """The convolution in the note, if writing it gives exactly the one in the file."""
    axes = len(conv.kernel)
    try:
        kernel, dilation = _integers(note["kernel"], axes, 1), _integers(note["dilation"], axes, 1)
        offset = _integers(note["offset"], axes, 0)
        padding = tuple(_integers(pair, 2, 0) for pair in note["padding"])
        (groups,) = _integers([note["groups"]], 1, 1)
    except (KeyError, TypeError, ValueError):
        return None
    if len(padding) != axes or conv.weight.shape[0] % groups or conv.weight.shape[1] % groups:
        return None
    embedding = Embedding(
        kernel=conv.kernel,
        padding=tuple(before for before, _ in conv.padding),
        dilation=conv.dilation,
        offset=offset,
        step=tuple(d // written for d, written in zip(dilation, conv.dilation, strict=True)),
    )
    for i in range(axes):
        first = offset[i] * embedding.dilation[i] - embedding.padding[i]
        last = offset[i] + embedding.step[i] * (kernel[i] - 1)
        steps_fit = embedding.step[i] >= 1 and embedding.step[i] * conv.dilation[i] == dilation[i]
        if not steps_fit or first != -padding[i][0] or last >= conv.kernel[i]:
            return None
    weight = extract(conv.weight, embedding, kernel, groups)
    if weight is None:
        return None
    original = Conv(
        name=conv.name,
        inputs=conv.inputs,
        weight=weight,
        bias=conv.bias,
        stride=conv.stride,
        padding=tuple((pair[0], pair[1]) for pair in padding),
        dilation=dilation,
        groups=groups,
    )
    try:
        same = original.output_shape(shape) == conv.output_shape(shape)
    except GraphError:
        return None
    return original if same else None


def _integers(value: Any, count: int, least: int) -> Shape:
    """A list of `count` integers as a tuple; raises ValueError for anything else."""
    if not isinstance(value, list) or len(value) != count:
        raise ValueError
    if not all(type(entry) is int and least <= entry < 2**31 for entry in value):
        raise ValueError
    return tuple(value)
