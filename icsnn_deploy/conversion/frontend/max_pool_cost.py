"""What became of a network's max poolings: neurons that exactness costs, or a loss on request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icsnn_deploy.graph.graph import Graph

MAX_POOLS = "max_pool"  # provenance: for each pooling the rectifiers that it became, its relays
REPLACED = "max_pool_replaced"  # provenance: poolings that became averages


@dataclass(frozen=True, kw_only=True)
class MaxPoolCost:
    """One max pooling as populations of its own."""

    name: str
    populations: int
    neurons: int


def max_pool_costs(graph: Graph) -> tuple[MaxPoolCost, ...]:
    """The poolings that are exact, of an ANN or of the network it became."""
    recorded = graph.provenance.get(MAX_POOLS)
    if not isinstance(recorded, dict):
        return ()
    costs = []
    for pool, names in recorded.items():
        # Provenance may come with a file from elsewhere: only what makes sense is taken.
        wanted = names if isinstance(names, list) else []
        found = [name for name in wanted if isinstance(name, str) and name in graph]
        neurons = sum(math.prod(graph.shape(name)) for name in found)
        costs.append(MaxPoolCost(name=str(pool), populations=len(found), neurons=neurons))
    return tuple(costs)


def losses(graph: Graph) -> tuple[str, ...]:
    """What the network has lost against the trained one, in words."""
    recorded = graph.provenance.get(REPLACED)
    names = recorded if isinstance(recorded, list) else []
    return tuple(
        f"{name}: max pooling replaced by average pooling, as asked; the network is not the one "
        "that was trained"
        for name in names
    )
