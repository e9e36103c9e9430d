"""Export to NIR, the Neuromorphic Intermediate Representation.

Profile "spec" keeps the network's own operations and writes every field of the NIR text. Profile
"portable" uses the few operations that other readers run correctly (see portable/), and leaves out
v_reset, which readers before NIR 1.0.5 do not know and later ones take as 0.
"""

from __future__ import annotations

import io
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.metadata import KEY, NirProfile, VInitEncoding, describe
from icsnn_deploy.exporters.nir.parts import index_arrays, without_parts
from icsnn_deploy.exporters.nir.portable.portable import Portable, to_portable
from icsnn_deploy.exporters.nir.portable.relay import relayed
from icsnn_deploy.exporters.nir.write.builder import NirBuilder
from icsnn_deploy.exporters.nir.write.nodes import write_node
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine

if TYPE_CHECKING:
    import nir


def to_nir(
    graph: Graph, profile: NirProfile = "spec", v_init_encoding: VInitEncoding = "metadata"
) -> nir.NIRGraph:
    """Build the NIR graph of a network; it passes NIR's type check.

    Soft reset, initial potentials and time are not part of NIR. The metadata holds them, and lists
    each as a loss against the NIR specification.

    Args:
        graph: an IF network.
        profile: which operations to use.
        v_init_encoding: where initial potentials are stored; "relay" needs profile portable.

    Raises:
        ExportError: an ANN, an operation that NIR can't express, or a value that float32 can't.
    """
    import nir

    if graph.time_steps is None:
        raise ExportError("this graph is an ANN; convert it to an IF network before NIR export")
    form = _form(without_parts(graph), profile, v_init_encoding)
    rejections = _rejections(form.graph)
    if rejections:
        raise ExportError(rejection_table("this network can't be written as NIR", rejections))
    builder = NirBuilder(form.graph, profile, form.notes)
    for node in form.graph.nodes:
        write_node(builder, node)
    text = describe(
        graph,
        [*form.losses, *builder.losses],
        [*form.rewritten, *builder.rewritten],
        written=form.graph,
        profile=profile,
        v_init_encoding=v_init_encoding,
        notes=builder.notes,
        extra=form.header,
    )
    metadata = {KEY: text, **index_arrays(graph)}
    _check_types(builder)
    return nir.NIRGraph(builder.nodes, builder.edges, metadata=metadata, type_check=False)


def _check_types(builder: NirBuilder) -> None:
    """NIR's own check, which completes types that depend on sources."""
    import nir

    class Checked(nir.NIRGraph):  # type: ignore[misc]
        @cached_property
        def inputs(self) -> dict[str, nir.NIRNode]:
            """The check asks for them once for each edge, and looks through all nodes each time."""
            return {name: node for name, node in self.nodes.items() if isinstance(node, nir.Input)}

    try:
        Checked(builder.nodes, builder.edges, metadata={}, type_check=True)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise ExportError(f"NIR's type check refuses this network: {error}") from error


def _form(graph: Graph, profile: NirProfile, v_init_encoding: VInitEncoding) -> Portable:
    """The network as the profile writes it."""
    if profile == "spec":
        if v_init_encoding != "metadata":
            raise ExportError("v_init_encoding 'relay' needs profile 'portable'")
        return Portable(graph=graph, rewritten=(), losses=())
    form = to_portable(graph)
    return form if v_init_encoding == "metadata" else relayed(form)


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    profile: NirProfile = "spec",
    v_init_encoding: VInitEncoding = "metadata",
) -> None:
    """Write the network to a NIR file; the same graph gives the same bytes.

    Args:
        graph: an IF network.
        path: of the file; an existing one is replaced once the new file is complete.
        profile: which operations to use.
        v_init_encoding: where initial potentials are stored; "relay" needs profile portable.

    Raises:
        ExportError: as `to_nir`, or the file can't be written.
    """
    import nir

    target = Path(path)
    network: Any = to_nir(graph, profile, v_init_encoding)
    if profile == "portable":
        network = _WithoutReset(network)
    # In memory first: HDF5 crashes the process when the disk is full.
    content = io.BytesIO()
    # uncompressed: gzip saves a tenth of the size and takes fifteen times as long
    nir.write(content, network, compression=None)
    try:
        with atomic_write(target) as draft:
            draft.write_bytes(content.getbuffer())
    except OSError as error:
        raise ExportError(f"{target}: can't be written ({error})") from error


class _WithoutReset:
    """A NIR graph as NIR's writer takes it, without v_reset."""

    def __init__(self, network: nir.NIRGraph) -> None:
        self.network = network

    def to_dict(self) -> dict[str, Any]:
        content: dict[str, Any] = self.network.to_dict()
        for node in content["nodes"].values():
            node.pop("v_reset", None)
        return content


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
        if isinstance(node, ChannelAffine) and node.shift.any() and len(graph.shape(node.name)) > 3:
            found.append(
                Rejection(
                    node=node.name,
                    got=f"a shift of shape {node.shift.shape}",
                    allowed="a shift on at most two spatial axes",
                    remedy="Move the shift into the bias of the connection before it.",
                )
            )
        for field, value in node.parameters().items():
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
