"""Units of connections that are not rounded: a channel has the unit of the one it copies."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Conv, Linear
from icsnn_deploy.lattice.shared_units import per_channel
from icsnn_deploy.passes.small_integers import small_integers


class CopiedUnits:
    """The units of copies, in topological order.

    Args:
        graph: as lattice.prepare leaves it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.used: dict[str, Array] = {}  # channels that are not always zero, bool [C]

    def of_connection(self, node: Conv | Linear, unit: Array) -> Array:
        """The unit of each channel that a connection copies; the largest where it is zero.

        Args:
            node: an exact connection.
            unit: of its source, ready to broadcast.
        """
        shape = self.graph.shape(node.name)
        found = small_integers(node, shape[0])
        if found is None:
            raise LatticeError(f"{node.name}: integer weights that mix input channels")
        before = self.graph.shape(node.inputs[0])[0]
        source = np.broadcast_to(per_channel(unit).reshape(-1), (before,))
        used = found.channel >= 0
        if node.inputs[0] in self.used:
            used &= self.used[node.inputs[0]][found.channel]
        self.used[node.name] = used
        taken = np.where(used, source[found.channel], source.max())
        return taken.reshape(-1, *(1,) * (len(shape) - 1))

    def of_sum(self, node: Add, units: list[Array]) -> Array:
        """The unit of each channel of a sum: that of the summand that is not zero there.

        Args:
            node: an exact sum.
            units: of its summands, ready to broadcast.
        """
        shape = self.graph.shape(node.name)
        every = np.ones(shape[0], bool)
        used = [self.used.get(name, every) for name in node.inputs]
        columns = [np.broadcast_to(per_channel(unit).reshape(-1), shape[:1]) for unit in units]
        parts = [np.where(u, column, 0.0) for u, column in zip(used, columns, strict=True)]
        total = np.max(parts, axis=0)
        self.used[node.name] = np.any(used, axis=0)
        joined: Array = np.where(total > 0, total, columns[0].max())
        return joined.reshape(-1, *(1,) * (len(shape) - 1))
