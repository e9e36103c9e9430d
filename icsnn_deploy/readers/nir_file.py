"""Read a NIR file for a reader: checked first, with the metadata that readers themselves ignore."""

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
class NirPopulation:
    """An IF node of the file, with its metadata."""

    key: str  # name of the node in the file
    name: str  # name of the population in the exported network
    v_threshold: Array  # [*shape]
    v_init: Array  # [*shape], float32; 0 if the file has none
    channels: int  # of the exported population; in a relay file others may follow them


@dataclass(frozen=True, kw_only=True, eq=False)
class NirFile:
    """The contents of a file that a reader can run."""

    reader: str  # name in READERS
    network: Any  # nir.NIRGraph
    header: NirHeader
    input: Input  # without the relay channel of a relay file
    populations: tuple[NirPopulation, ...]  # in topological order
    order: tuple[str, ...]  # all nodes, each after its sources

    @property
    def is_relay(self) -> bool:
        """Whether the initial potentials come from an extra input channel in the first step."""
        return self.header.v_init_encoding == "relay"


def read_file(path: str | os.PathLike[str], reader: str) -> NirFile:
    """Read a file that this package wrote, and check that the reader supports all of it.

    Args:
        path: of the file.
        reader: name in READERS.

    Raises:
        ExportError: the file is missing, hostile or damaged, or the reader does not support it.
    """
    file = Path(path)
    scan(file)
    import nir

    try:
        network = nir.read(file)
        for node in (network, *network.nodes.values()):
            node.metadata = _text(getattr(node, "metadata", None))
    except Exception as error:  # nir checks little itself and raises nearly any type
        raise ExportError(
            f"{file}: not a NIR network ({type(error).__name__}: {error}); write the file again"
        ) from error
    rejections = [
        rejection
        for key, node in network.nodes.items()
        if (rejection := _rejection(key, node, find_reader(reader))) is not None
    ]
    if rejections:
        raise ExportError(rejection_table(f"{file}: {reader} can't run it", rejections))
    try:
        return _describe(network, reader)
    except (GraphError, graphlib.CycleError) as error:
        raise ExportError(f"{file}: {error}") from error


def _text(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata with strings; nir 1.0.4 reads bytes, and gives some node types no metadata."""
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
            node=key,
            got="several thresholds",
            allowed="one threshold per population",
            remedy=remedy,
        )
    return None


def _describe(network: Any, reader: str) -> NirFile:
    header = read_header(network.metadata)
    if header is None:
        raise GraphError("was not written by icsnn-deploy: its time steps and v_init are unknown")
    if header.reset != "subtract":
        raise GraphError(f"reset {header.reset!r}: readers support reset 'subtract' only")
    sources: dict[str, list[str]] = {key: [] for key in network.nodes}
    for source, target in network.edges:
        if source not in sources or target not in sources:
            raise GraphError(f"edge {source!r} to {target!r}: one of these nodes does not exist")
        sources[target].append(source)
    kinds = {key: type(node).__name__ for key, node in network.nodes.items()}
    (first, *more_inputs), (last, *more_outputs) = (
        [key for key, kind in kinds.items() if kind == end] or [""] for end in ("Input", "Output")
    )
    without_source = [key for key, names in sources.items() if not names]
    if more_inputs or more_outputs or without_source != [first] or not last:
        raise GraphError("one input, one output and an edge to every node are needed")
    inner = [key for key in graphlib.TopologicalSorter(sources).static_order() if key != last]
    node = read_input(network.nodes[first], first, header)
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


def _population(key: str, node: Any, header: NirHeader) -> NirPopulation:
    shape: Shape = node.v_threshold.shape
    v_init = np.asarray(node.metadata.get(V_INIT, np.zeros(shape, np.float32)))
    if v_init.shape != shape or v_init.dtype.kind != "f" or not np.isfinite(v_init).all():
        raise GraphError(f"{key}.{V_INIT}: finite numbers of shape {shape} are needed")
    note = header.notes.get(key) or load(node.metadata, key)
    channels = note.get(CHANNELS, shape[0])
    if type(channels) is not int or not 0 < channels <= shape[0]:
        raise GraphError(
            f"{key}: {CHANNELS} {channels!r}; an integer from 1 to {shape[0]} is needed"
        )
    return NirPopulation(
        key=key,
        name=str(note.get("name", key)),
        channels=channels,
        v_threshold=node.v_threshold,
        v_init=v_init.astype(np.float32),
    )
