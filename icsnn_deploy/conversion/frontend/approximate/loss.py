"""What a graph's provenance says of its approximations."""

from __future__ import annotations

from icsnn_deploy.graph.graph import Graph

APPROXIMATED = "approximated"
"""Key of a graph's provenance: the fits of what it approximates (`measures.record_of`)."""


def approximation_losses(graph: Graph) -> tuple[str, ...]:
    """One sentence if calls were approximated, otherwise none."""
    recorded = graph.provenance.get(APPROXIMATED)
    fits = recorded.get("fits") if isinstance(recorded, dict) else None
    if not isinstance(fits, list) or not fits:
        return ()
    calls = "1 call" if len(fits) == 1 else f"{len(fits)} calls"
    return (f"{calls} approximated, as asked; the network is not the one that was trained",)
