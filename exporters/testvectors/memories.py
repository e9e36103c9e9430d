"""Every file of the test vectors: its values, the width and sign of a word, the order of addresses.

The network's parameters are known before it runs, and so are the shapes and widths of all that is
recorded: the certificate bounds them. The size of the folder can be told before it is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import ExportError, LatticeError
from icsnn_deploy.exporters.expected import ExpectedRun, steps_for_tests
from icsnn_deploy.exporters.testvectors.hex_words import line_bytes, word_bits
from icsnn_deploy.graph.certificate import Bound, certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Shape,
)

_KINDS = (Input, Conv, Linear, ChannelAffine, Flatten, Add, IF, Output)


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """One file: a memory whose words are the values of an array.

    Args:
        file: its name.
        node: the node that it belongs to.
        role: what of the node it holds: a parameter, "values" or "spikes" of the input, "spikes",
            "current" and "v" of a population, "current" and "sum" of the output.
        axes: names of the array's axes; the address counts the last one fastest.
        shape: of the array.
        bits: width of a word.
        signed: whether words are two's complement; otherwise they are unsigned.
        values: integers of a parameter; None: recorded when the network runs.
    """

    file: str
    node: str
    role: str
    axes: tuple[str, ...]
    shape: Shape
    bits: int
    signed: bool
    values: Array | None = None

    @property
    def words(self) -> int:
        """Number of words."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.words * line_bytes(self.bits)


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorPlan:
    """All files of a network's test vectors.

    Args:
        graph: an integer network.
        samples: number of samples.
        steps: time steps that are recorded, the first ones.
        bounds: what each population and the output can reach, by name.
        spikes_only: whether currents and potentials of the populations are left out.
        parameters: files of weights, biases, thresholds and initial potentials.
        records: files of what happens for the samples.
    """

    graph: Graph
    samples: int
    steps: int
    bounds: dict[str, Bound]
    spikes_only: bool
    parameters: tuple[Memory, ...]
    records: tuple[Memory, ...]

    @property
    def memories(self) -> tuple[Memory, ...]:
        """All files."""
        return self.parameters + self.records

    @property
    def bytes(self) -> int:
        """Size of all files of words."""
        return sum(memory.bytes for memory in self.memories)

    def sizes(self) -> dict[str, int]:
        """Size of the files of parameters, and of each role of the records, in bytes."""
        found = {"parameters": sum(memory.bytes for memory in self.parameters)}
        for memory in self.records:
            found[memory.role] = found.get(memory.role, 0) + memory.bytes
        return found


def plan_vectors(graph: Graph, samples: int, *, spikes_only: bool) -> VectorPlan:
    """List the files of a network's test vectors.

    Args:
        graph: the network.
        samples: number of samples.
        spikes_only: without currents and potentials of the populations.

    Raises:
        ExportError: the network is no integer network, or has a node that README.md does not
            explain.
    """
    try:
        certificate = certify(graph)
    except LatticeError as error:
        raise ExportError(f"test vectors hold integers: {error}") from error
    for node in graph.nodes:
        if not isinstance(node, _KINDS):
            raise ExportError(f"{node.name}: test vectors have no rule for {node.kind!r}")
    bounds = {bound.layer: bound for bound in certificate.bounds}
    stems = file_stems([node.name for node in graph.nodes])
    parameters = [
        memory for node in graph.nodes for memory in _parameters(graph, node, stems[node.name])
    ]
    steps = steps_for_tests(graph)
    records = list(_records(graph, stems, bounds, (samples, steps), spikes_only=spikes_only))
    return VectorPlan(
        graph=graph,
        samples=samples,
        steps=steps,
        bounds=bounds,
        spikes_only=spikes_only,
        parameters=tuple(parameters),
        records=tuple(records),
    )


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """The beginning of file names for each node, unique also where capitals do not count."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:60].lstrip(".-") or "node"
        unique, number = plain, 2
        while unique.lower() in taken:
            unique, number = f"{plain}_{number}", number + 1
        taken.add(unique.lower())
        found[name] = unique
    return found


def recorded(memory: Memory, run: ExpectedRun, graph: Graph, inputs: Array) -> Array:
    """The values of a file of `records`, in its order of axes.

    Args:
        memory: the file.
        run: of the samples on the reference.
        graph: the network.
        inputs: the samples, [N, *shape] or [T, N, *shape].
    """
    if memory.node == graph.input.name:
        steps = inputs
    elif memory.role == "sum":
        return run.logit_sums
    else:
        of_role = {"spikes": run.spikes, "current": run.currents, "v": run.potentials}
        steps = of_role[memory.role][memory.node]
    if "step" not in memory.axes:
        return steps
    return np.moveaxis(steps, 1, 0)  # [T, N, *shape] -> [N, T, *shape]


def _parameters(graph: Graph, node: Node, stem: str) -> Iterator[Memory]:
    """The files of a node's parameters; half integers are rounded down."""
    for field, values in node.parameters().items():
        if field in node.half_integers:
            values = np.floor(values)
        axes, values = _arranged(graph, node, field, values.astype(np.int64))
        yield Memory(
            file=f"{stem}.{field}.hex",
            node=node.name,
            role=field,
            axes=axes,
            shape=values.shape,
            bits=word_bits(int(values.min()), int(values.max())),
            signed=True,
            values=values,
        )


def _arranged(graph: Graph, node: Node, field: str, values: Array) -> tuple[tuple[str, ...], Array]:
    """Names of the axes of a parameter, and its values without axes of length 1 that broadcast."""
    match node:
        case Conv() | Linear() if field == "bias":
            return ("output channel",), values
        case Conv():
            kernel = ("ky", "kx")[-len(node.kernel) :]
            return ("output channel", "input channel", *kernel), values
        case Linear():
            return ("output channel", "input channel"), values
    shape = graph.shape(node.name)
    if values.shape == shape:
        return _axes(shape), values
    return ("channel",), np.broadcast_to(values.reshape(-1), (shape[0],))


def _records(
    graph: Graph,
    stems: dict[str, str],
    bounds: dict[str, Bound],
    counts: tuple[int, int],
    *,
    spikes_only: bool,
) -> Iterator[Memory]:
    """The files of inputs, spikes, currents, potentials and the readout.

    Args:
        graph: the network.
        stems: beginnings of file names.
        bounds: of populations and the output.
        counts: samples and steps.
        spikes_only: see plan_vectors.
    """
    samples, steps = counts

    def record(node: Node, role: str, bits: int, *, signed: bool = True) -> Memory:
        shape, per_step = graph.shape(node.name), role != "sum"
        if isinstance(node, Input):
            per_step = node.is_timed
        return Memory(
            file=f"{stems[node.name]}.{role}.hex",
            node=node.name,
            role=role,
            axes=("sample", *(("step",) if per_step else ()), *_axes(shape)),
            shape=(samples, *((steps,) if per_step else ()), *shape),
            bits=bits,
            signed=signed,
        )

    def reach(node: Node) -> int:
        potential = bounds[node.name].potential
        return word_bits(-potential, potential)

    if graph.input.is_timed:
        yield record(graph.input, "spikes", 1, signed=False)
    else:
        limits = np.iinfo(graph.input.dtype)
        yield record(graph.input, "values", limits.bits, signed=limits.min < 0)
    for node in graph.nodes_of(IF):
        yield record(node, "spikes", 1, signed=False)
        if not spikes_only:
            yield record(node, "current", word_bits(*bounds[node.name].current))
            yield record(node, "v", reach(node))
    yield record(graph.output, "current", word_bits(*bounds[graph.output.name].current))
    yield record(graph.output, "sum", reach(graph.output))


def _axes(shape: Shape) -> tuple[str, ...]:
    """Names of the axes of a node's result."""
    usual = {1: ("channel",), 2: ("channel", "x"), 3: ("channel", "y", "x")}
    others = (f"axis {number}" for number in range(1, len(shape)))
    return usual.get(len(shape), ("channel", *others))
