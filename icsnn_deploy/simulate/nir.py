"""Read a NIR file back into a graph, trusting nothing but the file, and run it."""

from __future__ import annotations

import graphlib
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError, GraphError, rejection_table
from icsnn_deploy.exporters.nir_metadata import Header, load, read_header
from icsnn_deploy.graph import Graph, unique_name
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import Add, Node, Shape
from icsnn_deploy.simulate.hdf5_scan import scan
from icsnn_deploy.simulate.nir_nodes import read_input, read_node, rejection
from icsnn_deploy.simulate.recording import Record, Recording
from icsnn_deploy.simulate.reference import ReferenceSimulator

MOST_VALUES = 2**27
"""Values of one node's result: 1 GiB in double precision. Paddings could ask for more."""


class NirSimulator:
    """Runs what a NIR file says, by the reference's arithmetic."""

    name = "nir"

    def __init__(self, path: str | os.PathLike[str], *, time_steps: int | None = None) -> None:
        self.graph = read_graph(path, time_steps=time_steps)

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        recording = ReferenceSimulator(self.graph).run(inputs, record)
        return Recording(
            backend=self.name,
            logits=recording.logits,
            spikes=recording.spikes,
            logits_t=recording.logits_t,
            potentials=recording.potentials,
        )


def read_graph(path: str | os.PathLike[str], *, time_steps: int | None = None) -> Graph:
    """The network in a NIR file.

    Names, initial potentials, time steps and encoding come from the metadata that the export
    wrote. A file of other origin has none: its initial potentials are 0, its input is direct, and
    it is read as a network with soft reset that fires at u >= v_threshold.

    Args:
        path: of the file.
        time_steps: for a file that does not say.

    Raises:
        ExportError: not a NIR file, damaged, hostile, or a network that is not one of IF neurons
            and linear connections; names the file.
    """
    file = Path(path)
    scan(file)
    network = _parse(file)
    rejections = [
        found
        for name, node in network.nodes.items()
        if (found := rejection(name, node)) is not None
    ]
    if rejections:
        raise ExportError(
            rejection_table(f"{file}: this network can't be read as an IF network", rejections)
        )
    try:
        return _build(network, read_header(network.metadata, time_steps), file.name)
    except GraphError as error:
        raise ExportError(f"{file}: {error}") from error


def _parse(file: Path) -> Any:
    """What the nir package makes of the file, without its type check: ours follows."""
    import nir

    try:
        with np.errstate(all="ignore"):  # nir computes shapes of whatever sizes the file says
            network = nir.read(file, type_check=False)
    except Exception as error:  # nir checks little itself: nearly any type of exception comes out
        raise ExportError(
            f"{file}: not a NIR network ({type(error).__name__}: {error}); write the file again"
        ) from error
    if not isinstance(network, nir.NIRGraph) or not isinstance(network.nodes, dict):
        raise ExportError(f"{file}: holds a single {type(network).__name__}, no network")
    return network


def _build(network: Any, header: Header, file_name: str) -> Graph:
    sources = _sources(network)
    reading = _Reading(network, sources, header)
    built = {key: reading.read(key) for key in _order(sources)}
    return Graph(
        nodes=tuple(node for key in _appearance(network, sources) for node in built[key]),
        time_steps=header.time_steps,
        readout_start=header.readout_start,
        provenance={"read_from": file_name, "exported_hash": header.graph_hash},
    )


class _Reading:
    """Turns NIR nodes into ours, one after the other, each after its sources."""

    def __init__(self, network: Any, sources: dict[str, list[str]], header: Header) -> None:
        self.nodes = network.nodes
        self.sources = sources
        self.header = header
        self.notes = {
            key: load(getattr(node, "metadata", None), key) for key, node in self.nodes.items()
        }
        self.names = _names(self.notes)
        self.taken = set(self.names.values())
        self.shapes: dict[str, Shape] = {}
        self.sums: dict[tuple[str, ...], str] = {}

    def read(self, key: str) -> list[Node]:
        """Our nodes for the NIR node of this name."""
        node, name = self.nodes[key], self.names[key]
        new: list[Node]
        if type(node).__name__ == "Input":
            if self.sources[key]:
                raise GraphError(f"{name}: an edge leads into the input")
            new = [read_input(node, name, self.header)]
        else:
            new, source = self._source(key)
            shape = self.shapes[self.names[self.sources[key][0]]]
            spare = unique_name(f"{name}.r", self.taken)
            new += read_node(node, name, source, shape, self.notes[key], spare)
        for one in new:
            shape = one.output_shape(*(self.shapes[source] for source in one.inputs))
            if math.prod(shape) > MOST_VALUES:
                raise GraphError(f"{one.name}: a result of shape {shape} is too large")
            self.shapes[one.name] = shape
            self.taken.add(one.name)
        return new

    def _source(self, key: str) -> tuple[list[Node], str]:
        """Name of what enters a node, and the Add that sums it up where it is not built yet."""
        entering = tuple(self.names[source] for source in self.sources[key])
        if not entering:
            raise GraphError(f"{self.names[key]}: no edge leads to it")
        if len(entering) == 1:
            return [], entering[0]
        if entering in self.sums:
            return [], self.sums[entering]
        wish = _name(self.notes[key].get("sum")) or f"{self.names[key]}.sum"
        self.sums[entering] = unique_name(wish, self.taken)
        return [Add(name=self.sums[entering], inputs=entering)], self.sums[entering]


def _sources(network: Any) -> dict[str, list[str]]:
    """The nodes that lead into each node, in the file's order."""
    sources: dict[str, list[str]] = {name: [] for name in network.nodes}
    seen = set()
    for source, target in network.edges:
        if source not in sources or target not in sources:
            raise GraphError(f"edge {source!r} to {target!r}: there is no such node")
        if (source, target) in seen:
            raise GraphError(f"edge {source!r} to {target!r} is there twice")
        seen.add((source, target))
        sources[target].append(source)
    return sources


def _order(sources: dict[str, list[str]]) -> list[str]:
    """The nodes so that each stands after its sources."""
    try:
        return list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1][:8])
        raise GraphError(
            f"the network is recurrent ({cycle}): only feed-forward ones run"
        ) from None


def _appearance(network: Any, sources: dict[str, list[str]]) -> list[str]:
    """The nodes as the edges reach them: HDF5 sorts nodes by name, but keeps the order of edges."""
    targets = [target for _, target in network.edges]
    return list(dict.fromkeys([*(n for n in sources if not sources[n]), *targets]))


def _names(notes: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Our name of each NIR node: the graph's own one where it is noted, valid and given once."""
    noted = {key: name for key, note in notes.items() if (name := _name(note.get("name")))}
    claims = Counter(noted.values())
    names = {key: name for key, name in noted.items() if claims[name] == 1}
    taken = set(names.values())
    for key in notes:
        if key not in names:
            names[key] = unique_name(key, taken)
            taken.add(names[key])
    return names


def _name(wish: Any) -> str | None:
    """A name from the metadata, if it can be one."""
    good = isinstance(wish, str) and 0 < len(wish) <= 1000 and "/" not in wish
    return wish if good else None
