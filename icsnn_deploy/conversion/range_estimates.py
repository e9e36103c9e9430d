"""Estimate what the results of nodes reach, and the integer steps that they are made of.

The estimates come from the weights alone, with spikes of amplitude 1 and weights of 8 bits.
"""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.interval import Range, range_of
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Population,
    Relu,
)
from icsnn_deploy.passes.small_integers import small_integers

LARGEST_WEIGHT = 127
"""Of 8 bits."""


class Estimate:
    """What a node's result reaches, and the value of one integer step of it, per channel."""

    def __init__(
        self, low: Array, high: Array, unit: Array, *, steady: bool, analog: bool = False
    ) -> None:
        self.ends = (low, high)  # float64, ready to broadcast
        self.unit = unit  # [C, 1, ...]; 0 where the channel is always zero
        self.steady = steady  # the same at every step
        self.analog = analog  # the result of connections, not spikes

    @property
    def range(self) -> Range:
        """As interval arithmetic takes it."""
        return Range(*self.ends, 0)


def estimate(
    node: Node, sources: list[Estimate], shape: tuple[int, ...], reached: float
) -> Estimate:
    """What a node's result reaches, and its integer step.

    Args:
        node: of an IF network.
        sources: the estimates of its inputs.
        shape: of its result, without batch.
        reached: largest magnitude of the samples, of a float input.
    """
    column = (shape[0], *(1,) * (len(shape) - 1))
    ones = np.ones(column)
    match node:
        case Input():
            if node.dtype == "float32":
                return Estimate(
                    -reached * ones, reached * ones, reached / LARGEST_WEIGHT * ones, steady=True
                )
            return Estimate(0 * ones, 255 * ones, ones, steady=True)
        case Relu() | Population():
            return Estimate(0 * ones, ones, ones, steady=False)
        case AvgPool():
            (source,) = sources
            unit = source.unit / np.prod(node.kernel)
            return Estimate(*source.ends, unit, steady=source.steady, analog=source.analog)
        case Flatten():
            (source,) = sources
            copies = shape[0] // len(source.unit)
            low, high, unit = (
                np.repeat(np.broadcast_to(v, (len(source.unit), *v.shape[1:])).reshape(-1), copies)
                for v in (*source.ends, source.unit)
            )
            return Estimate(low, high, unit, steady=source.steady, analog=source.analog)
        case Add():
            found = range_of(node, [source.range for source in sources])
            unit = np.max([np.broadcast_to(source.unit, column) for source in sources], axis=0)
            steady = all(source.steady for source in sources)
            analog = any(source.analog for source in sources)
            return Estimate(found.low, found.high, unit, steady=steady, analog=analog)
        case Conv() | Linear() | ChannelAffine():
            (source,) = sources
            found = range_of(node, [source.range])
            unit = _unit(node, source, column)
            return Estimate(found.low, found.high, unit, steady=source.steady, analog=source.analog)
    return sources[0]


def _unit(node: Conv | Linear | ChannelAffine, source: Estimate, column: tuple[int, ...]) -> Array:
    """The value of one integer step where the largest weight of a channel has 8 bits.

    A channel without weights has the largest step of the others, or none where it is always zero.
    """
    before = source.unit.reshape(-1)
    copied = small_integers(node, column[0])
    if copied is not None:
        used = copied.channel >= 0
        return np.where(used, copied.unit * before[copied.channel], 0.0).reshape(column)
    if isinstance(node, ChannelAffine):
        largest = np.abs(node.scale).reshape(len(node.scale), -1).max(axis=1) * before
        constant = np.abs(node.shift).reshape(len(node.shift), -1).max(axis=1)
    else:
        groups = node.groups if isinstance(node, Conv) else 1
        rows = np.abs(node.weight).reshape(*node.weight.shape[:2], -1).max(axis=2)
        columns = before.reshape(groups, -1).repeat(len(rows) // groups, axis=0)
        largest = (rows * columns).max(axis=1)
        constant = np.abs(node.bias)
    alone = np.where(constant > 0, largest.max() or constant.max(), 0.0)
    steps = np.where(largest > 0, largest, alone) / LARGEST_WEIGHT
    return steps.reshape(-1, *column[1:]) * np.ones(column)
