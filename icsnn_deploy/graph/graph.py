"""The network: one immutable, checked, hashed graph for the traced ANN and the IF network alike.

A Graph is a tuple of nodes (see nodes.py). Each node names its sources, and the graph sorts, checks
and indexes them:

    >>> import numpy as np
    >>> from icsnn_deploy.graph.graph import Graph
    >>> from icsnn_deploy.graph.nodes import IF, Input, Linear, Output
    >>> one = np.ones(1, np.float32)
    >>> hidden = Linear(name="fc1", inputs=("x",), weight=np.eye(3, 2), bias=np.zeros(3))
    >>> neurons = IF(name="if1", inputs=("fc1",), v_threshold=one, v_init=0.5 * one)
    >>> last = Linear(name="fc2", inputs=("if1",), weight=np.eye(2, 3), bias=np.zeros(2))
    >>> ends = (Input(name="x", shape=(2,)), Output(name="y", inputs=("fc2",)))
    >>> graph = Graph(nodes=(*ends, hidden, neurons, last), time_steps=4)
    >>> [node.name for node in graph.nodes], graph.shape("if1")
    (['x', 'fc1', 'if1', 'fc2', 'y'], (3,))

Nothing changes a graph or a node: a rewrite makes a new graph (`replace`, `map`, `with_nodes`, and
the functions of `icsnn_deploy.passes`). `hash` names a network by its nodes, parameters and times.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar, cast, overload

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.checks import check_ends, check_output_unit, check_records, check_time
from icsnn_deploy.graph.limits import check_result
from icsnn_deploy.graph.node import BaseNode
from icsnn_deploy.graph.nodes import IF, Input, Node, Output, Population, Shape
from icsnn_deploy.graph.order import topological, walk_back
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.notebook import object_html

N1 = TypeVar("N1", bound=BaseNode)
N2 = TypeVar("N2", bound=BaseNode)
N3 = TypeVar("N3", bound=BaseNode)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network of nodes, in topological order, with one Input and one Output.

    An ANN has Relu nodes and time_steps None; an IF network has populations instead and runs for
    time_steps steps, reading out the steps after readout_start. Creating a graph checks names,
    cycles, shapes, values and sizes (limits.py); nodes may be given in any order. Every node must
    be reachable from the input and lead to the output.

    The hash covers nodes, time_steps and readout_start, and none of the fields below them.

    Attributes:
        nodes: in topological order.
        time_steps: T, number of steps; None for an ANN.
        readout_start: t0; the logits are the mean over the steps t in (t0, T].
        output_unit: the logit that 1 at the output stands for, > 0; one number per part of the
            output where their units differ; None where nothing is recorded (see inputs.logit_unit).
        calibrated_steps: the T at which calibration compared the network with the ANN, each >= 1;
            empty where nothing is recorded.
        max_pools: for each max pooling of the trained model, the names of the Relu or IF nodes that
            replace it. Names of nodes that were removed later may remain.
        tasks: of outputs whose task is not the one that their shape tells, by name (see
            arrangement.output_tasks).
        provenance: where the network comes from, as JSON values. No computation depends on it.

    Raises:
        GraphError: names the node, what was got and what is needed.
    """

    nodes: tuple[Node, ...]
    time_steps: int | None = None
    readout_start: int = 0
    output_unit: float | tuple[float, ...] | None = None
    calibrated_steps: tuple[int, ...] = ()
    max_pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    _by_name: dict[str, Node] = field(init=False)
    _shapes: dict[str, Shape] = field(init=False)
    _consumers: dict[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        nodes = topological(tuple(self.nodes))
        consumers: dict[str, list[str]] = {node.name: [] for node in nodes}
        shapes: dict[str, Shape] = {}
        for node in nodes:
            for source in node.inputs:
                consumers[source].append(node.name)
            shapes[node.name] = node.output_shape(*(shapes[source] for source in node.inputs))
            check_result(node.name, shapes[node.name])
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "_by_name", {node.name: node for node in nodes})
        object.__setattr__(self, "_shapes", shapes)
        object.__setattr__(self, "_consumers", {k: tuple(v) for k, v in consumers.items()})
        check_ends(nodes, self._consumers)
        check_time(nodes, self.time_steps, self.readout_start)
        check_output_unit(self.output_unit, len(self.output.parts))
        check_records(self.calibrated_steps, self.max_pools, self.tasks, self.provenance)
        if isinstance(self.output_unit, (tuple, list)):
            object.__setattr__(self, "output_unit", tuple(map(float, self.output_unit)))
        pools = {pool: tuple(names) for pool, names in self.max_pools.items()}
        object.__setattr__(self, "calibrated_steps", tuple(self.calibrated_steps))
        object.__setattr__(self, "max_pools", pools)
        object.__setattr__(self, "tasks", dict(self.tasks))

    # What the graph is

    @property
    def input(self) -> Input:
        """The only Input node."""
        return self.nodes_of(Input)[0]

    @property
    def output(self) -> Output:
        """The only Output node."""
        return self.nodes_of(Output)[0]

    @property
    def steps(self) -> int:
        """time_steps of an IF network; raises GraphError for an ANN."""
        if self.time_steps is None:
            raise GraphError("this graph is an ANN (no time_steps); an IF network is needed")
        return self.time_steps

    @cached_property
    def is_integer(self) -> bool:
        """Whether this is an integer network: integers, but for a node's half_integers."""
        if self.time_steps is None or self.input.dtype == "float32":
            return False
        return all(node.is_integer for node in self.nodes)

    def __repr__(self) -> str:
        """One line, whatever the size of the network."""
        kind = "ANN"
        if self.time_steps is not None:
            kind = f"{'integer' if self.is_integer else 'IF'} network, T = {self.time_steps}"
        neurons = sum(math.prod(self.shape(node.name)) for node in self.nodes_of(Population))
        spiking = f", {neurons:,} neurons" if self.time_steps is not None else ""
        return (
            f"<Graph: {kind}, {len(self.nodes)} nodes{spiking}, input {list(self.input.shape)} "
            f"{self.input.dtype}, output {list(self.shape(self.output.name))}>"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: a row per node."""
        rows = (
            (
                node.name,
                node.kind,
                ", ".join(node.inputs),
                " x ".join(map(str, self.shape(node.name))),
                sum(value.size for value in node.parameters().values()) or "",
            )
            for node in self.nodes
        )
        columns = ("node", "kind", "from", "shape", "parameters")
        return object_html(repr(self), columns, rows, count=len(self.nodes))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def node(self, name: str) -> Node:
        """The node of that name; raises GraphError."""
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(f"no node {name!r}; there are {', '.join(self._by_name)}") from None

    @overload
    def nodes_of(self, one: type[N1], /) -> tuple[N1, ...]: ...

    @overload
    def nodes_of(self, one: type[N1], two: type[N2], /) -> tuple[N1 | N2, ...]: ...

    @overload
    def nodes_of(
        self, one: type[N1], two: type[N2], three: type[N3], /
    ) -> tuple[N1 | N2 | N3, ...]: ...

    def nodes_of(self, *types: type[Any]) -> tuple[Any, ...]:
        """Nodes of these types or their subclasses, in topological order."""
        return tuple(node for node in self.nodes if isinstance(node, types))

    def population(self, name: str) -> Population:
        """The population of that name; raises GraphError."""
        node = self.node(name)
        if not isinstance(node, Population):
            raise GraphError(f"{name}: a population is needed, this is a {node.kind}")
        return node

    def shape(self, name: str) -> Shape:
        """Shape of a node's result, without time and batch."""
        return self._shapes[self.node(name).name]

    def source_shapes(self, name: str) -> tuple[Shape, ...]:
        """Shapes of a node's sources, in their order."""
        return tuple(self._shapes[source] for source in self.node(name).inputs)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Nodes that take this node's result; one that takes it twice is listed twice."""
        return tuple(self._by_name[consumer] for consumer in self._consumers[self.node(name).name])

    def is_shared(self, name: str) -> bool:
        """Whether this node is taken more than once."""
        return len(self._consumers[self.node(name).name]) > 1

    def ancestors(self, name: str, through: Callable[[Node], bool]) -> tuple[Node, ...]:
        """Return the nodes whose results reach `name`, each once, in topological order.

        The search continues to the sources of a node for which `through` is true, and stops at the
        others, which are part of the result.
        """
        found = {node.name for node in walk_back(self._by_name, self.node(name).inputs, through)}
        return tuple(node for node in self.nodes if node.name in found)

    def constant_nodes(self) -> frozenset[str]:
        """Nodes whose result is the same at every step: no spikes reach them."""
        result: set[str] = set()
        for node in self.nodes:
            changes = node.is_timed if isinstance(node, Input) else isinstance(node, Population)
            if not changes and result.issuperset(node.inputs):
                result.add(node.name)
        return frozenset(result)

    def readout_nodes(self) -> frozenset[str]:
        """Nodes after the last populations whose result changes over time.

        They are linear: the mean of their results over time is their result for the mean of what
        enters, so that they can run once instead of at every step.
        """
        constant = self.constant_nodes()
        result: set[str] = set()
        for node in reversed(self.nodes):
            memoryless = not isinstance(node, Population | Input) and node.name not in constant
            if memoryless and all(name in result for name in self._consumers[node.name]):
                result.add(node.name)
        return frozenset(result)

    def last_uses(self) -> dict[str, tuple[str, ...]]:
        """For each node the sources that no later node takes: they can be freed after it."""
        last = {source: node.name for node in self.nodes for source in node.inputs}
        spent: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for source, name in last.items():
            spent[name].append(source)
        return {name: tuple(sources) for name, sources in spent.items()}

    # Graph -> Graph

    def with_nodes(self, nodes: Iterable[BaseNode]) -> Graph:
        """A graph of other nodes; all other fields stay as they are."""
        return replace(self, nodes=cast(tuple[Node, ...], tuple(nodes)))  # checked on creation

    def map(self, change: Callable[[Node], BaseNode]) -> Graph:
        """A graph with change(node) in the place of each node."""
        return self.with_nodes(change(node) for node in self.nodes)

    def replace(self, *nodes: BaseNode) -> Graph:
        """A graph with each given node in the place of the one of its name."""
        new: dict[str, BaseNode] = {self.node(node.name).name: node for node in nodes}
        if all(self._fits_in_place(node) for node in new.values()):
            return self._with_parameters(cast(dict[str, Node], new))
        return self.map(lambda node: new.get(node.name, node))

    def _fits_in_place(self, node: BaseNode) -> bool:
        """Whether only parameters differ from the node of that name, so that no check can fail."""
        before = self._by_name[node.name]
        same = type(node) is type(before) and node.inputs == before.inputs
        if not same or isinstance(node, (Input, Output)):
            return False
        if isinstance(before, IF) and isinstance(node, IF):
            same = (node.v_reset is None) == (before.v_reset is None)
        return same and node.output_shape(*self.source_shapes(node.name)) == self.shape(node.name)

    def _with_parameters(self, new: Mapping[str, Node]) -> Graph:
        """This graph, checked and sorted as it is, with other nodes that fit in place."""
        result = copy.copy(self)
        result.__dict__.pop("is_integer", None)
        nodes = tuple(new.get(node.name, node) for node in self.nodes)
        object.__setattr__(result, "nodes", nodes)
        object.__setattr__(result, "_by_name", {**self._by_name, **new})
        return result

    # Identity

    def hash(self) -> str:
        """sha256 over the canonical bytes of nodes, time_steps and readout_start, as hex."""
        digest = hashlib.sha256()
        head = {"time_steps": self.time_steps, "readout_start": self.readout_start}
        digest.update(_canonical(head))
        for node in self.nodes:
            digest.update(_canonical(describe_node(node)))
            for name, value in sorted(node.arrays().items()):
                little = value.astype(value.dtype.newbyteorder("<"), copy=False)
                digest.update(_canonical([name, value.dtype.name, list(value.shape)]))
                digest.update(little.tobytes())
        return digest.hexdigest()


def describe_node(node: BaseNode) -> dict[str, Any]:
    """Kind and plain (not array) fields of a node, as JSON values."""
    values = {field.name: getattr(node, field.name) for field in fields(node)}
    plain = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    absent = {name for name in node.optional if not plain.get(name)}
    return {
        "kind": node.kind,
        **{name: value for name, value in plain.items() if name not in absent},
    }


def hard_resets(graph: Graph) -> tuple[str, ...]:
    """Names of the populations with hard reset."""
    return tuple(node.name for node in graph.nodes_of(IF) if node.v_reset is not None)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
