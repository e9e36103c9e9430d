"""A NIR file as a reader gets it: looked through first, with what the reader will not ask for."""

from __future__ import annotations

import graphlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError, GraphError, Rejection, rejection_table
from icsnn_deploy.exporters.nir.metadata import CHANNELS, V_INIT, NirHeader, load, read_header
from icsnn_deploy.exporters.nir.portable.reader_limits import Reader, find_reader
from icsnn_deploy.exporters.nir.read.hdf5_scan import scan
from icsnn_deploy.exporters.nir.read.nodes import read_input
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Shape


@dataclass(frozen=True, kw_only=True)
class Population:
    """What the metadata says about an IF node."""

    key: str  # the node's name in the file
    name: str  # the population's in the network that was exported
    v_threshold: Array  # [*shape]
    v_init: Array  # [*shape], float32; 0 where the file has none
    channels: int  # its own, which come first; a relay file adds some for others


@dataclass(frozen=True, kw_only=True, eq=False)
class NirFile:
    """A file that a reader can run."""

    reader: str  # name of READERS
    network: Any  # nir.NIRGraph
    header: NirHeader
    input: Input  # without the channel of a relay file
    populations: tuple[Population, ...]  # in topological order
    order: tuple[str, ...]  # all nodes, each after its sources

    @property
    def is_relay(self) -> bool:
        """Whether the first step's extra input channel carries the initial potentials."""
        return self.header.v_init_encoding == "relay"


def read_file(path: str | os.PathLike[str], reader: str) -> NirFile:
    """Read a file that this package wrote, and see that a reader holds all of it.

    Args:
        path: of the file.
        reader: name of READERS.

    Raises:
        ExportError: no such file, hostile, damaged, or a network that the reader can't hold.
    """
    file = Path(path)
    scan(file)
    import nir

    try:
        network = nir.read(file)
        for node in (network, *network.nodes.values()):
            node.metadata = _text(getattr(node, "metadata", None))
    except Exception as error:  # nir checks little itself: nearly any type of exception comes out
        raise ExportError(
            f"{file}: not a NIR network ({type(error).__name__}: {error}); write the file again"
        ) from error
    rejections = [
        found
        for key, node in network.nodes.items()
        if (found := _rejection(key, node, find_reader(reader))) is not None
    ]
    if rejections:
        raise ExportError(rejection_table(f"{file}: {reader} can't hold it", rejections))
    try:
        return _describe(network, reader)
    except (GraphError, graphlib.CycleError) as error:
        raise ExportError(f"{file}: {error}") from error


def _text(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata with text for the bytes of nir 1.0.4, which has none for some types of nodes."""
    return {
        key: value.decode() if isinstance(value, bytes) else value
        for key, value in (metadata or {}).items()
    }


def _rejection(key: str, node: Any, reader: Reader) -> Rejection | None:
    kind = type(node).__name__
    remedy = "Export with --profile portable."
    if kind not in reader.holds:
        allowed = ", ".join(sorted(reader.holds))
        return Rejection(node=key, got=kind, allowed=allowed, remedy=remedy)
    if kind != "IF":
        return None
    if np.any(node.r != 1) or np.any(getattr(node, "v_reset", 0)):
        return Rejection(node=key, got="r or v_reset", allowed="r = 1, v_reset = 0", remedy=remedy)
    if reader.one_threshold and np.unique(node.v_threshold).size != 1:
        return Rejection(
            node=key, got="several thresholds", allowed="one threshold a population", remedy=remedy
        )
    return None


def _describe(network: Any, reader: str) -> NirFile:
    header = read_header(network.metadata)
    if header is None:
        raise GraphError("was not written by icsnn-deploy: nothing says its time steps and v_init")
    if header.reset != "subtract":
        raise GraphError(f"reset {header.reset!r}: readers are set to 'subtract' here")
    sources: dict[str, list[str]] = {key: [] for key in network.nodes}
    for source, target in network.edges:
        if source not in sources or target not in sources:
            raise GraphError(f"edge {source!r} to {target!r}: there is no such node")
        sources[target].append(source)
    kinds = {key: type(node).__name__ for key, node in network.nodes.items()}
    (entry, *more), (last, *others) = (
        [key for key, kind in kinds.items() if kind == wanted] or [""]
        for wanted in ("Input", "Output")
    )
    orphans = [key for key, before in sources.items() if not before]
    if more or others or orphans != [entry] or not last:
        raise GraphError("one input, one output and an edge to every node are needed")
    inner = [key for key in graphlib.TopologicalSorter(sources).static_order() if key != last]
    node = read_input(network.nodes[entry], entry, header)
    if header.v_init_encoding == "relay":
        shape = (node.shape[0] - 1, *node.shape[1:])
        node = Input(name=node.name, shape=shape, dtype=node.dtype, encoding=node.encoding)
    return NirFile(
        reader=reader,
        network=network,
        header=header,
        input=node,
        populations=tuple(
            _population(key, network.nodes[key], header) for key in inner if kinds[key] == "IF"
        ),
        order=(*inner, last),
    )


def _population(key: str, node: Any, header: NirHeader) -> Population:
    shape: Shape = node.v_threshold.shape
    v_init = np.asarray(node.metadata.get(V_INIT, np.zeros(shape, np.float32)))
    if v_init.shape != shape or v_init.dtype.kind != "f" or not np.isfinite(v_init).all():
        raise GraphError(f"{key}.{V_INIT}: finite numbers of shape {shape} are needed")
    note = header.notes.get(key) or load(node.metadata, key)
    channels = note.get(CHANNELS, shape[0])
    if type(channels) is not int or not 0 < channels <= shape[0]:
        raise GraphError(f"{key}: {channels!r} channels of its own, 1 to {shape[0]} are possible")
    return Population(
        key=key,
        name=str(note.get("name", key)),
        channels=channels,
        v_threshold=node.v_threshold,
        v_init=v_init.astype(np.float32),
    )
