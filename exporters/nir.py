"""Export to NIR, the Neuromorphic Intermediate Representation (profile "spec")."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir_draft import Draft
from icsnn_deploy.exporters.nir_metadata import KEY, describe
from icsnn_deploy.exporters.nir_nodes import write_node
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import AvgPool, Scale

if TYPE_CHECKING:
    import nir


def to_nir(graph: Graph) -> nir.NIRGraph:
    """The network as a NIR graph that passes NIR's type check.

    Soft reset, initial potential and time are not part of NIR: they stand in the metadata, which
    also lists every such loss against the letter of the NIR text.

    Args:
        graph: an IF network.

    Raises:
        ExportError: an ANN, an operation that NIR can't express, or a value that float32 can't.
    """
    import nir

    if graph.time_steps is None:
        raise ExportError("this graph is an ANN; convert it to an IF network before NIR export")
    rejections = _rejections(graph)
    if rejections:
        raise ExportError(rejection_table("this network can't be written as NIR", rejections))
    draft = Draft(graph)
    for node in graph.nodes:
        write_node(draft, node)
    metadata = {KEY: describe(graph, draft.losses, draft.rewritten)}
    try:
        return nir.NIRGraph(draft.nodes, draft.edges, metadata=metadata, type_check=True)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise ExportError(f"NIR's type check refuses this network: {error}") from error


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the network to a NIR file; the same graph gives the same bytes.

    Args:
        graph: an IF network.
        path: of the file, replaced at once when the new one is complete.

    Raises:
        ExportError: as `to_nir`, or the file can't be written.
    """
    import nir

    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    network = to_nir(graph)
    try:
        # uncompressed: gzip saves a tenth of the size and takes fifteen times as long
        nir.write(temporary, network, compression=None)
        os.replace(temporary, target)
    except OSError as error:
        raise ExportError(f"{target}: can't be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _rejections(graph: Graph) -> list[Rejection]:
    """Everything in the network that has no NIR form."""
    found = []
    for node in graph.nodes:
        if isinstance(node, AvgPool) and len(node.kernel) > 2:
            found.append(
                Rejection(
                    node=node.name,
                    got=f"pooling over {len(node.kernel)} axes",
                    allowed="one or two axes",
                    remedy="Pool over two axes at most.",
                )
            )
        if isinstance(node, Scale) and node.shift.any() and len(graph.shape(node.name)) > 3:
            found.append(
                Rejection(
                    node=node.name,
                    got=f"a shift of shape {node.shift.shape}",
                    allowed="a shift on at most two spatial axes",
                    remedy="Move the shift into the bias of the connection before it.",
                )
            )
        for field, value in node.arrays().items():
            if not _fits_float32(value):
                found.append(
                    Rejection(
                        node=node.name,
                        got=f"{field} of type {value.dtype}",
                        allowed="integers that float32 holds exactly",
                        remedy="Quantize to fewer bits.",
                    )
                )
    return found


def _fits_float32(value: Array) -> bool:
    """Whether every value survives as float32."""
    if value.dtype.kind == "f":
        return True
    single = value.astype(np.float32)
    # 2**63 itself is beyond int64: the comparison must not overflow
    return bool((single < 2.0**63).all()) and np.array_equal(single.astype(np.int64), value)
