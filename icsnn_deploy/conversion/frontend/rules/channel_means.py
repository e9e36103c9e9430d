"""Means of several channels of a node at each of its positions, however the model arranges them.

    x.view(n, c, k, h, w).mean(2)    ->    conv 1 x 1: a row for each group of k channels

So a sum of channel groups that lie in several nodes, or in one that was upsampled several times, is
computed where its operands are computed, and what moved them moves the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.kernels import Kernel, convolve, replace_value
from icsnn_deploy.conversion.frontend.selecting import check_weights
from icsnn_deploy.graph.neuron import Array

_LEAST_USED = 0.5
"""Share of the means at all positions that the model uses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Groups:
    """The means that are computed from one node.

    Args:
        source: the node.
        rows: which lines they are (a mask).
        channels: those of each group, [Q, count].
        group: of each line, [rows].
        position: of each line in the image, flat, [rows].
    """

    source: str
    rows: Array
    channels: Array
    group: Array
    position: Array


def channel_means(context: CallContext, lines: Elements, x: Traced) -> Elements | None:
    """The mean along the last axis, where each line is of one node and of one position of it.

    Args:
        context: the call.
        lines: [..., count].
        x: the tensor whose values they are.

    Returns:
        The means [...]; None where the lines are of another kind.
    """
    *shape, count = lines.shape
    flat = lines.ids.reshape(-1, count)
    if lines.constants is not None or not flat.all():
        return None
    every = [
        _groups(context.builder, source, flat, mask)
        for source, mask in context.builder.numbering.sources(flat)
    ]
    ids = np.zeros(len(flat), np.int64)
    complete = [one for one in every if one is not None]
    if len(complete) < len(every):
        return None
    for groups in complete:
        ids[groups.rows] = _means(context, groups, x)
    return Elements(ids.reshape(shape))


def _groups(builder: Builder, source: str, flat: Array, mask: Array) -> _Groups | None:
    """The groups of one node; None where its lines reach into others, or over its positions."""
    rows = np.asarray(mask.any(axis=1))
    _, *grid = builder.shapes[source]
    if not grid or not mask[rows].all():
        return None
    channels, position = np.divmod(flat[rows] - builder.numbering.first(source), math.prod(grid))
    if (position != position[:, :1]).any():
        return None
    found, group = np.unique(channels, axis=0, return_inverse=True)
    group, place = group.reshape(-1), position[:, 0]
    used = len(np.unique(group * math.prod(grid) + place))
    if used < _LEAST_USED * len(found) * math.prod(grid):
        return None
    return _Groups(source=source, rows=rows, channels=found, group=group, position=place)


def _means(context: CallContext, groups: _Groups, x: Traced) -> Array:
    """The element numbers of the means of one node's groups."""
    builder, (count, width) = context.builder, groups.channels.shape
    channels, *grid = builder.shapes[groups.source]
    check_weights(context.path, count, channels)
    matrix = np.zeros((count, channels), np.float32)
    np.add.at(matrix, (np.arange(count)[:, None], groups.channels), np.float32(1 / width))
    kernel = Kernel.at_each_position(matrix, np.zeros(count, np.float32), len(grid))
    inner = context.on((x.shape[0], count, *grid))
    whole = replace_value(x, groups.source, (x.shape[0], channels, *grid))
    made = builder.numbering.elements_of(convolve(inner, whole, kernel))
    found: Array = made.ids.reshape(count, -1)[groups.group, groups.position]
    return found
