"""The network: one immutable, checked, hashed graph for the traced ANN and the IF network alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.limits import check_result, check_time_steps
from icsnn_deploy.graph.nodes import IF, Input, Node, Output, Relu, Shape
from icsnn_deploy.graph.order import topological, walk_back

N = TypeVar("N", bound=Node)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network of nodes, in topological order, with one Input and one Output.

    An ANN holds Relu nodes and has time_steps None; an IF network holds IF nodes and runs for
    time_steps steps, reading out the steps after readout_start. Building one checks names, cycles,
    shapes, values and sizes (limits.py); nodes may be given in any order. Every node must be
    reachable from the input and lead to the output.

    Raises:
        GraphError: names the node, what was got and what is needed.
    """

    nodes: tuple[Node, ...]
    time_steps: int | None = None
    readout_start: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON; not part of the hash

    _by_name: dict[str, Node] = field(init=False, repr=False)
    _shapes: dict[str, Shape] = field(init=False, repr=False)
    _consumers: dict[str, tuple[str, ...]] = field(init=False, repr=False)

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
        self._check_ends()
        self._check_time()

    def _check_ends(self) -> None:
        for wanted in (Input, Output):
            found = [node.name for node in self.nodes if isinstance(node, wanted)]
            if len(found) != 1:
                raise GraphError(f"{len(found)} {wanted.kind} nodes {found}, exactly one is needed")
        for node in self.nodes:
            if not self._consumers[node.name] and not isinstance(node, Output):
                raise GraphError(f"{node.name}: its result is not used; remove the node")
            if self._consumers[node.name] and isinstance(node, Output):
                raise GraphError(f"{node.name}: an output can't be a source")

    def _check_time(self) -> None:
        spiking = [node.name for node in self.nodes if isinstance(node, IF)]
        analog = [node.name for node in self.nodes if isinstance(node, Relu)]
        if self.time_steps is None:
            if spiking:
                raise GraphError(f"{spiking[0]}: an IF population needs a graph with time_steps")
            if self.readout_start:
                raise GraphError("readout_start needs time_steps")
            return
        if isinstance(self.time_steps, bool) or not isinstance(self.time_steps, int):
            raise GraphError(f"time_steps {self.time_steps!r}: an integer >= 1 is needed")
        if isinstance(self.readout_start, bool) or not isinstance(self.readout_start, int):
            raise GraphError(f"readout_start {self.readout_start!r}: an integer >= 0 is needed")
        if self.time_steps < 1 or not 0 <= self.readout_start < self.time_steps:
            raise GraphError(
                f"time_steps {self.time_steps}, readout_start {self.readout_start}: "
                "time_steps >= 1 and 0 <= readout_start < time_steps are needed"
            )
        check_time_steps(self.time_steps)
        if analog:
            raise GraphError(f"{analog[0]}: a Relu in a graph with time_steps; convert it to IF")
        hard = hard_resets(self)
        if hard and len(hard) < len(spiking):
            soft = next(name for name in spiking if name not in hard)
            raise GraphError(
                f"{hard[0]} has a v_reset (hard reset), {soft} has none: all of them or none"
            )

    # What the graph is

    @property
    def input(self) -> Input:
        return self.nodes_of(Input)[0]

    @property
    def output(self) -> Output:
        return self.nodes_of(Output)[0]

    @property
    def steps(self) -> int:
        """time_steps of an IF network; raises GraphError for an ANN."""
        if self.time_steps is None:
            raise GraphError("this graph is an ANN (no time_steps); an IF network is needed")
        return self.time_steps

    @property
    def is_integer(self) -> bool:
        """Whether this is an integer network: integers, but for half-integer v_init and v_reset."""
        if self.time_steps is None or self.input.dtype == "float32":
            return False
        return all(
            bool((value.astype(np.float64) % 1 == 0.5).all())
            if field in ("v_init", "v_reset")
            else value.dtype.kind == "i"
            for node in self.nodes
            for field, value in node.arrays().items()
        )

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def node(self, name: str) -> Node:
        """The node of that name; raises GraphError."""
        try:
            return self._by_name[name]
        except KeyError:
            raise GraphError(f"no node {name!r}; there are {', '.join(self._by_name)}") from None

    def nodes_of(self, *types: type[N]) -> tuple[N, ...]:
        """Nodes of these types, in topological order."""
        return tuple(node for node in self.nodes if isinstance(node, types))

    def shape(self, name: str) -> Shape:
        """Shape of a node's result, without time and batch."""
        return self._shapes[self.node(name).name]

    def source_shapes(self, name: str) -> tuple[Shape, ...]:
        """Shapes of a node's sources, in their order."""
        return tuple(self._shapes[source] for source in self.node(name).inputs)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Nodes that take this node's result; one that takes it twice is listed twice."""
        return tuple(self._by_name[consumer] for consumer in self._consumers[self.node(name).name])

    def ancestors(self, name: str, through: Callable[[Node], bool]) -> tuple[Node, ...]:
        """Return the nodes whose results reach `name`, each once, in topological order.

        The walk goes on from those that `through` admits; the others are where it ends.
        """
        found = {node.name for node in walk_back(self._by_name, self.node(name).inputs, through)}
        return tuple(node for node in self.nodes if node.name in found)

    def constant_nodes(self) -> frozenset[str]:
        """Nodes whose result is the same at every step: those without a spiking source."""
        result: set[str] = set()
        for node in self.nodes:
            if isinstance(node, Input):
                constant = node.encoding == "direct"
            else:
                constant = not isinstance(node, IF) and all(name in result for name in node.inputs)
            if constant:
                result.add(node.name)
        return frozenset(result)

    def readout_nodes(self) -> frozenset[str]:
        """Nodes that change over time and lead to no population: linear in what enters them.

        The mean of their results over time is their result for the mean of what enters.
        """
        steady = self.constant_nodes()
        result: set[str] = set()
        for node in reversed(self.nodes):
            memoryless = not isinstance(node, IF | Input) and node.name not in steady
            if memoryless and all(name in result for name in self._consumers[node.name]):
                result.add(node.name)
        return frozenset(result)

    def last_uses(self) -> dict[str, tuple[str, ...]]:
        """For each node its sources that no node after it takes: nobody needs them from then on."""
        last = {source: node.name for node in self.nodes for source in node.inputs}
        spent: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for source, name in last.items():
            spent[name].append(source)
        return {name: tuple(sources) for name, sources in spent.items()}

    # Graph -> Graph

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """The same graph over other nodes."""
        return replace(self, nodes=tuple(nodes))

    def map(self, change: Callable[[Node], Node]) -> Graph:
        """Each node replaced by change(node)."""
        return self.with_nodes(change(node) for node in self.nodes)

    def replace(self, *nodes: Node) -> Graph:
        """Each given node in the place of the one with its name."""
        new = {self.node(node.name).name: node for node in nodes}
        return self.map(lambda node: new.get(node.name, node))

    # What the graph is called by

    def hash(self) -> str:
        """sha256 over the canonical bytes of everything but the provenance, as hex."""
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


def describe_node(node: Node) -> dict[str, Any]:
    """Kind and plain (not array) fields of a node, as JSON values."""
    plain = {f.name: getattr(node, f.name) for f in fields(node) if f.name not in node.optional}
    return {
        "kind": node.kind,
        **{name: value for name, value in plain.items() if not isinstance(value, np.ndarray)},
    }


def hard_resets(graph: Graph) -> tuple[str, ...]:
    """Names of the populations with hard reset."""
    return tuple(node.name for node in graph.nodes_of(IF) if node.v_reset is not None)


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
