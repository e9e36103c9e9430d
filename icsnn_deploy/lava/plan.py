"""Plan a network for Lava: the connections between populations, and their delays.

Lava's connections delay by one step, so a population d connections after the input gets the first
step of an image d steps late. If paths of different length join, the shorter ones get a delay line,
so that a population gets everything that belongs to one step at the same time:

    offset(input) = 0;   offset(target) = 1 + max offset(sources)
    delay(source -> target) = offset(target) - 1 - offset(source)

The nodes between populations are affine. So a target's current is the sum of one linear connection
per source and of one constant, which collects all biases on the paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.backends.reference import evaluate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    LINEAR_NODES,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
    Shape,
)

_VALUES_AT_ONCE = 2**20  # sent through a connection at a time to compute its matrix
_SLACK = 1 + 1e-6  # for the rounding of magnitudes beyond 2^24, which nodes store as float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """The linear part of all paths from one source to one target."""

    source: str  # the input or a population
    target: str  # a population or the output
    shape_in: Shape
    shape_out: Shape
    nodes: tuple[Node, ...]  # without biases, in topological order; the last is the result
    delay: int  # steps, in addition to Lava's own step
    reach: float  # bound of |every partial sum| on the paths, for the largest input

    @property
    def name(self) -> str:
        """The connection's name, which no node can have."""
        return f"connection/{self.source}/{self.target}"

    def __call__(self, x: Array) -> Array:
        """Apply the connection to a batch, like the reference simulator: [B, *shape_out]."""
        values = {self.source: x}
        for node in self.nodes:
            values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
        return values[self.nodes[-1].name] if self.nodes else x

    def matrix(self) -> Array:
        """The connection as one matrix [targets, sources], in float64 or int64."""
        count = int(np.prod(self.shape_in))
        integer = all(a.dtype.kind == "i" for node in self.nodes for a in node.arrays().values())
        kind = np.int64 if integer else np.float64
        chunk = max(1, _VALUES_AT_ONCE // count)
        columns = []
        for first in range(0, count, chunk):
            units = np.eye(min(chunk, count - first), count, first, kind)
            columns.append(self(units.reshape(-1, *self.shape_in)).reshape(len(units), -1))
        return np.concatenate(columns).T


@dataclass(frozen=True, kw_only=True, eq=False)
class LavaPlan:
    """A network as connections between populations, with their timing."""

    graph: Graph
    offsets: Mapping[str, int]  # steps, of the input, each population and the output
    connections: tuple[Connection, ...]
    bias: Mapping[str, Array]  # constant current of each target, [*shape], float64 or int64

    @property
    def latency(self) -> int:
        """Delay of the output, in steps."""
        return self.offsets[self.graph.output.name]

    def incoming(self, target: str) -> tuple[Connection, ...]:
        """The connections into a target."""
        return tuple(c for c in self.connections if c.target == target)

    def reach(self, target: str) -> float:
        """Bound of |current| of a target, and of every partial sum on the paths to it."""
        total = sum(connection.reach for connection in self.incoming(target))
        return total + float(np.abs(self.bias[target]).max())


def make_plan(graph: Graph) -> LavaPlan:
    """Plan an IF network."""
    sources = {graph.input.name, *(node.name for node in graph.nodes_of(Population))}
    direct = _direct_sources(graph, sources)
    offsets = {graph.input.name: 0}
    targets = [node for node in graph.nodes if isinstance(node, (Population, Output))]
    for target in targets:
        offsets[target.name] = 1 + max(offsets[name] for name in direct[target.inputs[0]])
    connections = [
        _connection(graph, direct, source, target, offsets)
        for target in targets
        for source in sorted(direct[target.inputs[0]], key=list(offsets).index)
    ]
    return LavaPlan(
        graph=graph,
        offsets=offsets,
        connections=tuple(connections),
        bias=_biases(graph, targets),
    )


def _direct_sources(graph: Graph, sources: set[str]) -> dict[str, frozenset[str]]:
    """For each node, the sources that reach it without another source in between."""
    direct: dict[str, frozenset[str]] = {}
    for node in graph.nodes:
        if node.name in sources:
            direct[node.name] = frozenset({node.name})
        else:
            direct[node.name] = frozenset().union(*(direct[name] for name in node.inputs))
    return direct


def _connection(
    graph: Graph,
    direct: Mapping[str, frozenset[str]],
    source: str,
    target: Node,
    offsets: Mapping[str, int],
) -> Connection:
    nodes = _linear_part(graph, direct, source, target.name)
    return Connection(
        source=source,
        target=target.name,
        shape_in=graph.shape(source),
        shape_out=graph.shape(target.name),
        nodes=nodes,
        delay=offsets[target.name] - 1 - offsets[source],
        reach=_reach(nodes, source, graph.shape(source), _largest(graph.node(source))),
    )


def _linear_part(
    graph: Graph, direct: Mapping[str, frozenset[str]], source: str, target: str
) -> tuple[Node, ...]:
    """The nodes on the paths from a source to a target, without biases and other sources' terms."""
    nodes: list[Node] = []
    alias: dict[str, str] = {}  # a sum with a single term left is replaced by that term
    for node in graph.ancestors(target, lambda node: isinstance(node, LINEAR_NODES)):
        if node.name == source or source not in direct[node.name]:
            continue
        terms = tuple(alias.get(name, name) for name in node.inputs if source in direct[name])
        if isinstance(node, Add) and len(terms) == 1:
            alias[node.name] = terms[0]
        else:
            nodes.append(_without_bias(replace(node, inputs=terms)))
    return tuple(nodes)


def _without_bias(node: Node) -> Node:
    match node:
        case Conv() | Linear():
            return replace(node, bias=np.zeros_like(node.bias))
        case ChannelAffine():
            return replace(node, shift=np.zeros_like(node.shift))
        case AvgPool() | Flatten() | Add() | Input() | Relu() | Population() | Output():
            return node
        case _:
            assert_never(node)


def _largest(source: Node) -> float:
    """Largest |value| that a source sends."""
    if isinstance(source, Population) or (isinstance(source, Input) and source.is_timed):
        return 1.0
    if isinstance(source, Input) and source.dtype != "float32":
        limits = np.iinfo(source.dtype)
        return float(max(abs(int(limits.min)), int(limits.max)))
    return float("inf")


def _reach(nodes: tuple[Node, ...], source: str, shape: Shape, largest: float) -> float:
    """Bound of |every partial sum|: the connection with absolute weights, on the largest input.

    All its terms have one sign, so the result bounds each partial sum in any order.
    """
    if not np.isfinite(largest):
        return largest
    values = {source: np.full((1, *shape), largest)}
    reach = largest
    for node in nodes:
        magnitudes: dict[str, Any] = {n: np.abs(a.astype(float)) for n, a in node.arrays().items()}
        absolute = replace(node, **magnitudes)
        values[node.name] = evaluate(absolute, *(values[name] for name in node.inputs))
        reach = max(reach, float(values[node.name].max()))
    return reach * _SLACK


def _biases(graph: Graph, targets: Sequence[Node]) -> dict[str, Array]:
    """The current of each target when all sources send zeros."""
    kind = np.int64 if graph.is_integer else np.float64
    values: dict[str, Array] = {}
    for node in graph.nodes:
        if isinstance(node, LINEAR_NODES):
            values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
        else:
            values[node.name] = np.zeros((1, *graph.shape(node.name)), kind)
    return {target.name: values[target.inputs[0]][0] for target in targets}
