"""Correct the execution order of nirtorch's older GraphExecutor, which norse and sinabs use.

It runs the nodes depth first, so that a node after a join may run before all sources of the join
are computed, and sums only those that are (no upstream thread on this is known; its successor
`nir_to_torch` waits for them). In topological order every sum is complete. It also silently drops
nodes that the reader has no module for; here that is an error.
"""

from __future__ import annotations

from typing import Any

from icsnn_deploy.errors import ExportError
from icsnn_deploy.readers.nir_file import NirFile


def put_in_order(executor: Any, file: NirFile) -> None:
    """Set the execution order of a GraphExecutor to the file's topological order.

    Raises:
        ExportError: the executor does not run a node of the file.
    """
    nodes = {node.name: node for node in executor.graph.node_list}
    dropped = [
        key
        for key in file.order
        if key not in nodes or (nodes[key].elem is None and key != file.order[-1])
    ]
    if dropped:
        raise ExportError(
            f"{', '.join(dropped)}: the reader has no module for it. Use another reader"
        )
    executor.execution_order = [nodes[key] for key in file.order]
