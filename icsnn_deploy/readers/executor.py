"""nirtorch's older GraphExecutor, which norse and sinabs load through, put in order.

It runs the nodes depth first: behind a join, a node runs before all that it sums are there, and
sums what is (no upstream thread on this is known; `nir_to_torch`, its successor, waits).
Sorted topologically, every sum is whole. A node that the reader has no module for is left out
without a word, and its input goes nowhere: that is an error here.
"""

from __future__ import annotations

from typing import Any

from icsnn_deploy.errors import ExportError
from icsnn_deploy.readers.nir_file import NirFile


def put_in_order(executor: Any, file: NirFile) -> None:
    """Sort what a GraphExecutor runs, from the file's input to its output.

    Raises:
        ExportError: a node of the file that it does not run.
    """
    nodes = {node.name: node for node in executor.graph.node_list}
    dropped = [
        key
        for key in file.order
        if key not in nodes or (nodes[key].elem is None and key != file.order[-1])
    ]
    if dropped:
        raise ExportError(f"{', '.join(dropped)}: the reader has no module for it")
    executor.execution_order = [nodes[key] for key in file.order]
