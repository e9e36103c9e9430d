"""What became of the max poolings of a network: populations, or a requested average pooling."""

from __future__ import annotations

import math

from icsnn_deploy.conversion.report import MaxPoolCost
from icsnn_deploy.graph.graph import Graph

REPLACED = "max_pool_replaced"  # provenance: poolings that became averages


def max_pool_costs(graph: Graph) -> tuple[MaxPoolCost, ...]:
    """The max poolings that became populations, of an ANN or of the network made from it."""
    costs = []
    for pool, names in graph.max_pools.items():
        found = [name for name in names if name in graph]
        neurons = sum(math.prod(graph.shape(name)) for name in found)
        costs.append(MaxPoolCost(name=pool, populations=len(found), neurons=neurons))
    return tuple(costs)


def losses(graph: Graph) -> tuple[str, ...]:
    """Requested changes that make it another network than the trained one, one sentence each."""
    recorded = graph.provenance.get(REPLACED)
    names = recorded if isinstance(recorded, list) else []
    return tuple(
        f"{name}: max pooling replaced by average pooling, as asked; the network is not the one "
        "that was trained"
        for name in names
    )
