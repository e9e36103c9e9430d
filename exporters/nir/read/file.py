"""Read a NIR file of any origin into a graph, checking everything in it."""

from __future__ import annotations

import graphlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError, GraphError, rejection_table
from icsnn_deploy.exporters.nir.metadata import (
    NirHeader,
    Reset,
    foreign_header,
    load,
    read_header,
)
from icsnn_deploy.exporters.nir.parts import with_parts
from icsnn_deploy.exporters.nir.read.hdf5_scan import scan
from icsnn_deploy.exporters.nir.read.nodes import NodePlace, read_input, read_node, rejection
from icsnn_deploy.exporters.nir.read.remove_relay import without_relay
from icsnn_deploy.exporters.nir.read.sums import Sums, in_order, names_of, without_unused
from icsnn_deploy.exporters.nir.read.zero_rows import without_zero_rows
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.limits import check_result
from icsnn_deploy.graph.nodes import Encoding, InputDtype, Node, Shape
from icsnn_deploy.passes.edit import unique_name


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The network in a NIR file that icsnn-deploy wrote.

    Names, initial potentials, time steps and encoding come from the metadata that the export wrote.

    Raises:
        ExportError: not a NIR file, damaged, hostile, one of other origin, or a network that is not
            one of IF neurons and linear connections; names the file.
    """
    return _read(Path(path), _own_header)


def from_nir(
    path: str | os.PathLike[str],
    *,
    reset: Reset | None = None,
    time_steps: int | None = None,
    encoding: Encoding | None = None,
    input_dtype: InputDtype | None = None,
) -> Graph:
    """The network in any NIR file of IF neurons and linear connections.

    A file written by another program does not state how many steps it runs, nor clearly how its
    neurons reset. A file written by icsnn-deploy states both, and the arguments must agree with
    it. Initial potentials are 0 where the file has none. A resistance r other than 1 becomes a
    ChannelAffine before the population: v[t] = v[t-1] + r I[t].

    Args:
        path: of the file.
        reset: "subtract", v -= v_threshold (the text of NIR up to 1.0.4); or "v_reset",
            v = v_reset (from 1.0.5 on; 0 where the file has none). Needed for files by others:
            take what the network was trained with. Both texts fire at v > v_threshold, this package
            at >=. With "v_reset" the threshold is only compared, and the next larger float32 does
            exactly the same on float32 potentials. With "subtract" it is taken as it is: a
            potential that equals its threshold fires, where v > v_threshold would not.
        time_steps: T; needed for files by others.
        encoding: of the input, "direct" where the file does not say.
        input_dtype: of the input, "float32" where the file does not say.

    Raises:
        ExportError: not a NIR file, damaged, hostile, a network that is not one of IF neurons and
            linear connections (all that can't be read at once), or an argument that is missing or
            does not agree with the file; names the file.
    """
    wanted = {
        "reset": reset,
        "time_steps": time_steps,
        "encoding": encoding,
        "input_dtype": input_dtype,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    return _read(Path(path), lambda found: _agreed(found, given))


def _own_header(found: NirHeader | None) -> NirHeader:
    if found is None:
        raise GraphError(
            "the file does not say how it runs (it was not written by icsnn-deploy); read it with "
            "from_nir or icsnn import, which take the reset and the time steps"
        )
    return found


def _agreed(found: NirHeader | None, given: Mapping[str, Any]) -> NirHeader:
    """The header of the file, which must agree with the arguments given; else made of them."""
    if found is None:
        return foreign_header(given)
    for name, value in given.items():
        stated = getattr(found, name)
        if value != stated:
            raise GraphError(
                f"{name} {value!r} is asked for, but the file, which icsnn-deploy wrote, states "
                f"{stated!r}; leave it out"
            )
    return found


def _read(file: Path, header_of: Callable[[NirHeader | None], NirHeader]) -> Graph:
    scan(file)
    network = _parse(file)
    try:
        header = header_of(read_header(network.metadata))
        rejections = [
            found
            for name, node in network.nodes.items()
            if (found := rejection(name, node, header.reset)) is not None
        ]
        if not rejections:
            return _build(network, header, file.name)
    except GraphError as error:
        raise ExportError(f"{file}: {error}{_batch_axis(network)}") from error
    raise ExportError(
        rejection_table(f"{file}: this network can't be read as an IF network", rejections)
    )


def _batch_axis(network: Any) -> str:
    """What to do about an input whose first axis may be a batch of one; empty without one."""
    for name, node in network.nodes.items():
        stated = getattr(node, "input_type", None)
        if type(node).__name__ != "Input" or not isinstance(stated, Mapping):
            continue
        shape = np.asarray(stated.get("input")).reshape(-1).tolist()[:16]
        if len(shape) > 1 and shape[0] == 1:
            return (
                f". The shape of {str(name)[:100]!r}, {shape}, may count a batch axis: write the "
                f"file with {shape[1:]}"
            )
    return ""


def _parse(file: Path) -> Any:
    """Parse the file with the nir package, without its type check: this reader checks itself."""
    import nir

    try:
        with np.errstate(all="ignore"):  # nir computes shapes from any size in the file
            network = nir.read(file, type_check=False)
    except Exception as error:  # nir checks little itself and raises nearly any type
        raise ExportError(
            f"{file}: not a NIR network ({type(error).__name__}: {error}); write the file again"
        ) from error
    if not isinstance(network, nir.NIRGraph) or not isinstance(network.nodes, dict):
        raise ExportError(f"{file}: holds a single {type(network).__name__}, no network")
    return network


def _build(network: Any, header: NirHeader, file_name: str) -> Graph:
    sources = _sources(network)
    reading = _Reading(network, sources, header)
    built = {key: reading.read(key) for key in _order(sources)}
    nodes = [node for key in _appearance(network, sources) for node in built[key]]
    about = {reading.names[key]: note for key, note in reading.notes.items()}
    nodes = without_zero_rows(nodes, reading.shapes, about)
    graph = Graph(
        nodes=in_order(without_unused(nodes, reading.multiples), header.order),
        time_steps=header.time_steps,
        readout_start=header.readout_start,
        provenance={"read_from": file_name, "exported_hash": header.graph_hash},
    )
    if header.v_init_encoding == "relay":
        graph = without_relay(graph, header.joins)
    return with_parts(graph, header.parts)


class _Reading:
    """Turns NIR nodes into graph nodes, each after its sources."""

    def __init__(self, network: Any, sources: dict[str, list[str]], header: NirHeader) -> None:
        self.nodes = network.nodes
        self.sources = sources
        self.header = header
        self.notes = {
            key: header.notes.get(key) or load(getattr(node, "metadata", None), key)
            for key, node in self.nodes.items()
        }
        self.names = names_of(self.notes)
        self.taken = set(self.names.values())
        self.shapes: dict[str, Shape] = {}
        self.targets: dict[str, list[str]] = {key: [] for key in sources}
        for target, before in sources.items():
            for source in before:
                self.targets[source].append(target)
        self.sums = Sums(network.nodes, sources, self.notes, self.names, self.taken)
        self.multiples = frozenset(self.names[key] for key in self.sums.multiples)

    def read(self, key: str) -> list[Node]:
        """The graph nodes for the NIR node of this name."""
        node, name = self.nodes[key], self.names[key]
        new: list[Node]
        if type(node).__name__ == "Input":
            if self.sources[key]:
                raise GraphError(f"{name}: an edge leads into the input")
            new = [read_input(node, name, self.header)]
        else:
            new, source = self.sums.entering(key)
            shape = self.shapes[self.names[self.sources[key][0]]]
            spare = unique_name(f"{name}.r", self.taken)
            after = tuple(self.nodes[target] for target in self.targets[key])
            place = NodePlace(name=name, source=source, shape=shape, after=after, spare=spare)
            new += read_node(node, place, self.notes[key], self.header.reset)
        for one in new:
            shape = one.output_shape(*(self.shapes[source] for source in one.inputs))
            check_result(one.name, shape)
            self.shapes[one.name] = shape
            self.taken.add(one.name)
        return new


def _sources(network: Any) -> dict[str, list[str]]:
    """The sources of each node, in the file's order."""
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
    """The nodes in an order that has each after its sources; raises GraphError for a cycle."""
    try:
        return list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1][:8])
        raise GraphError(
            f"the network is recurrent ({cycle}): only feed-forward ones run"
        ) from None


def _appearance(network: Any, sources: dict[str, list[str]]) -> list[str]:
    """The nodes in the order of the edges: HDF5 sorts nodes by name, but keeps edges in order."""
    targets = [target for _, target in network.edges]
    return list(dict.fromkeys([*(n for n in sources if not sources[n]), *targets]))
