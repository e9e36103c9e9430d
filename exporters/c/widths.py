"""The narrowest C type of every value of an integer network, with the bound that allows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.graph.copied_range import range_of_copies
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.interval import Range, range_of
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add


@dataclass(frozen=True, kw_only=True)
class Width:
    """A C integer type, and the largest magnitude that it has to hold.

    Args:
        bits: 8, 16 or 32.
        reach: largest magnitude, in lattice units.
    """

    bits: int
    reach: int
    signed: bool = True

    @property
    def c_type(self) -> str:
        """The name of the type in C."""
        return f"{'' if self.signed else 'u'}int{self.bits}_t"

    @property
    def bytes(self) -> int:
        """Size of one value in bytes."""
        return self.bits // 8


def width_of(reach: int, what: str, *, least: int = 8) -> Width:
    """The narrowest signed type that holds -reach..reach.

    Args:
        reach: largest magnitude.
        what: node and value, for the message.
        least: bits that the type has at least.

    Raises:
        ExportError: 32 bits do not hold it.
    """
    for bits in (8, 16, 32):
        if bits >= least and reach < 2 ** (bits - 1):
            return Width(bits=bits, reach=reach)
    raise ExportError(
        f"{what} reaches {reach:,}: the C program has registers of 32 bits. Quantize to fewer "
        "bits or take fewer time steps"
    )


def width_of_values(values: Array, what: str, *, least: int = 8) -> Width:
    """The narrowest signed type of all values of an integer array; see width_of."""
    low, high = int(values.min()), int(values.max())
    reach = max(high, -low)
    for bits in (8, 16, 32):
        if bits >= least and -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):
            return Width(bits=bits, reach=reach)
    return width_of(reach, what)


def ranges_of(graph: Graph) -> dict[str, Range]:
    """Range and largest partial sum of every node's result, as the certificate computes them."""
    ranges: dict[str, Range] = {}
    for node in graph.nodes:
        sources = [ranges[name] for name in node.inputs]
        copied = range_of_copies(graph, node, ranges) if isinstance(node, Add) else None
        ranges[node.name] = (copied or range_of(node, sources)).limited()
    return ranges


def input_width(dtype: str) -> Width:
    """The type of the network's input values."""
    limits = np.iinfo(dtype)
    reach = max(int(limits.max), -int(limits.min))
    return Width(bits=limits.bits, reach=reach, signed=limits.min < 0)
