"""Connections that only copy or count: weights that are small integers times one unit per channel.

    crop, pad, reorder      one weight per output: the input itself
    sum over a window       equal weights
    bilinear upsampling     (1, 3, 3, 9) / 16

Each output channel reads a single input channel. On the integer lattice the integers are the
weights, exactly, and the unit is part of the next connection: spikes are copied as spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear, Node

_LARGEST_SUM = 64
"""Largest sum of the magnitudes in a row: each doubling costs the next connection one bit."""

_DIVISORS = (1, 2, 3, 4)  # of the smallest weight, where it is no multiple of the unit itself
_TOLERANCE = 1e-6  # float32 weights that are integers times a unit are off by their rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallIntegers:
    """A connection as integers times units.

    Attributes:
        integers: int64, of the shape of the weight; [C] for a ChannelAffine.
        unit: value of one integer step in each output channel, float64 [C], > 0; 1 where the
            channel is always zero.
        channel: the input channel that each output channel reads, int64 [C]; -1 where it is always
            zero.
    """

    integers: Array
    unit: Array
    channel: Array


def small_integers(node: Node, channels: int) -> SmallIntegers | None:
    """The integers and units of a connection that only copies or counts, or None.

    Args:
        node: a Conv, Linear or ChannelAffine (one value per channel) without bias; any other node
            gives None.
        channels: of its result.
    """
    match node:
        case Conv() | Linear() if not node.bias.any():
            return _of_weight(node.weight, node.groups if isinstance(node, Conv) else 1)
        case ChannelAffine() if not node.shift.any() and node.scale.size == len(node.scale):
            scale = np.broadcast_to(node.scale.reshape(-1), (channels,))
            found = _of_weight(scale.reshape(-1, 1), channels)
            return None if found is None else replace(found, integers=found.integers.reshape(-1))
    return None


def common_unit(units: Sequence[Array], used: Sequence[Array]) -> Array | None:
    """A unit of which all given ones are small multiples, channel by channel; None without one.

    Args:
        units: [C] each, > 0.
        used: bool [C] each: the channels that a unit counts for.
    """
    stacked = np.where(np.stack(used), np.stack(units), np.nan)
    some = ~np.isnan(stacked).all(axis=0)
    smallest = np.ones(stacked.shape[1])
    smallest[some] = np.nanmin(stacked[:, some], axis=0)
    found = np.zeros_like(smallest)
    for divisor in _DIVISORS[::-1]:
        ratio = np.where(np.stack(used), stacked / (smallest / divisor), 1.0)
        good = (np.abs(ratio - np.round(ratio)) <= _TOLERANCE * ratio).all(axis=0)
        found = np.where(good & (ratio.max(axis=0) <= _LARGEST_SUM), smallest / divisor, found)
    return found if (found > 0).all() else None


def _of_weight(weight: Array, groups: int) -> SmallIntegers | None:
    """The integers of weights [C_out, C_in / groups, ...], without a bias."""
    outputs, per_group = weight.shape[:2]
    reads: Array = (weight.reshape(outputs, per_group, -1) != 0).any(
        axis=2
    )  # [C_out, C_in / groups]
    if (reads.sum(axis=1) > 1).any():
        return None
    used = reads.any(axis=1)
    first = np.arange(outputs) // (outputs // groups) * per_group
    channel = np.where(used, first + reads.argmax(axis=1), -1)
    rows = weight.reshape(outputs, -1).astype(np.float64)
    magnitudes = np.where(rows != 0, np.abs(rows), np.inf)
    unit = np.where(used, magnitudes.min(axis=1), 1.0)
    integers, divisor = np.zeros_like(rows), np.zeros(outputs)
    for each in _DIVISORS[::-1]:  # the smallest one that fits a row is kept
        scaled = rows / unit[:, None] * each
        whole = np.round(scaled)
        fits = (np.abs(scaled - whole) <= _TOLERANCE * np.abs(scaled)).all(axis=1)
        fits &= np.abs(whole).sum(axis=1) <= _LARGEST_SUM
        integers[fits], divisor[fits] = whole[fits], each
    if not divisor.all():
        return None
    return SmallIntegers(
        integers=integers.astype(np.int64).reshape(weight.shape),
        unit=np.where(used, unit / divisor, 1.0),
        channel=channel,
    )
