"""Inline shortcuts: a shortcut's spikes are carried along the main path in extra channels.

    p -- conv1 -- IF -- conv2 --+-- IF        p -- conv1 ---- IF ---- conv2 -- IF
    |                           |       ->          copies -- IF --- shortcut
    +-------- shortcut ---------+

Some readers run nodes depth first, which computes a join before its shortcut. A copy is a neuron
that fires when p does: its current is the threshold or 0, its potential starts at half the
threshold and stays there. A shortcut that is a 1 x 1 convolution or a matrix can be inlined; if all
are, the network becomes a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.nir.portable.find_unportable import MAX_WEIGHTS
from icsnn_deploy.exporters.nir.portable.portable import main_path_first
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    AnyPopulation,
    Conv,
    Linear,
    Node,
    Output,
    Population,
    Shape,
)
from icsnn_deploy.passes.affine import is_per_channel
from icsnn_deploy.passes.edit import rewire


@dataclass(frozen=True, kw_only=True)
class Join:
    """A join whose shortcut was inlined; all but the stride are names."""

    sum: str  # of the Add
    shortcut: str  # of the shortcut's connection
    connection: str  # of the last connection of the main path, which computes both now
    source: str  # of the node where the paths part
    stride: Shape  # of the shortcut; empty for a matrix


def inline_shortcuts(graph: Graph) -> tuple[Graph, tuple[Join, ...]]:
    """Inline the shortcuts of a portable network with private connections, where possible.

    Returns:
        the network, and its joins in the order in which they were inlined.
    """
    joins: list[Join] = []
    edits = _Edits()
    for add in graph.nodes_of(Add):
        if edits.concern(graph, add):
            graph, edits = edits.applied(graph), _Edits()
        join = _find(graph, add)
        if join is not None:
            _inline(graph, join, edits)
            joins.append(join)
    return main_path_first(edits.applied(graph)), tuple(joins)


def restore_shortcuts(graph: Graph, joins: Sequence[Join]) -> Graph:
    """Restore the shortcuts of a network: the inverse of `inline_shortcuts`.

    Raises:
        GraphError: the network has no such path.
    """
    edits = _Edits()
    for join in reversed(joins):
        if edits.concern_path(graph, join.connection, join.source):
            graph, edits = edits.applied(graph), _Edits()
        _restore(graph, join, edits)
    return main_path_first(edits.applied(graph))


class _Edits:
    """Edits of joins that have no node in common, so that one graph is built for many of them."""

    def __init__(self) -> None:
        self.changed: dict[str, Node] = {}
        self.removed: set[str] = set()
        self.added: list[Node] = []
        self.renamed: dict[str, str] = {}  # what nodes take, and what they take instead

    def concern(self, graph: Graph, add: Add) -> bool:
        """Whether they have a part in the paths into a sum, up to where these part."""
        if len(add.inputs) != 2:
            return False
        connection, shortcut = add.inputs
        if shortcut in self.changed or shortcut in self.removed:
            return True
        sources = graph.node(shortcut).inputs
        return bool(sources) and self.concern_path(graph, connection, sources[0])

    def concern_path(self, graph: Graph, connection: str, source: str) -> bool:
        """Whether they have a part in a path."""
        name = connection
        while name != source:
            if name in self.changed or name in self.removed:
                return True
            node = graph.node(name)
            if not isinstance(node, (Conv, Linear, Population)):
                return False
            name = node.inputs[0]
        return False

    def applied(self, graph: Graph) -> Graph:
        """The graph with the edits."""
        nodes = [
            rewire(self.changed.get(node.name, node), self.renamed)
            for node in graph.nodes
            if node.name not in self.removed
        ]
        return graph.with_nodes([*nodes, *self.added])


def _find(graph: Graph, add: Add) -> Join | None:
    """The join of a sum, if its second source is a shortcut that can be inlined; else None."""
    consumers = graph.consumers(add.name)
    if len(add.inputs) != 2 or len(consumers) != 1:
        return None
    if not isinstance(consumers[0], (Population, Output)):
        return None
    connection, shortcut = (graph.node(name) for name in add.inputs)
    if not _is_pointwise(shortcut):
        return None
    join = Join(
        sum=add.name,
        shortcut=shortcut.name,
        connection=connection.name,
        source=shortcut.inputs[0],
        stride=shortcut.stride if isinstance(shortcut, Conv) else (),
    )
    path = _path(graph, join)
    if not path or not all(_can_carry(graph, node) for node in path):
        return None
    spiking = isinstance(graph.node(join.source), Population)
    if not spiking and any(isinstance(node, Population) for node in path):
        return None  # a copy is a spike
    strides = [node.stride for node in path if isinstance(node, Conv)]
    total = tuple(int(n) for n in np.prod(strides, axis=0)) if strides else ()
    width = graph.shape(join.source)[0]
    return join if total == join.stride and _fits(path, width) else None


def _path(graph: Graph, join: Join) -> list[Node]:
    """The nodes after `source` up to `connection`, each with the next one as its only consumer.

    Empty if there is no such path, or if it is the connection alone.
    """
    nodes: list[Node] = []
    name = join.connection
    while name != join.source:
        node = graph.node(name)
        if not isinstance(node, (Conv, Linear, Population)) or graph.is_shared(name):
            return []
        nodes.append(node)
        name = node.inputs[0]
    return nodes[::-1] if len(nodes) > 1 and isinstance(nodes[0], (Conv, Linear)) else []


def _is_pointwise(node: Node) -> bool:
    if not isinstance(node, Conv):
        return isinstance(node, Linear)
    return all(size == 1 for size in node.kernel) and not np.any(node.padding)


def _can_carry(graph: Graph, node: Node) -> bool:
    """Whether a node can carry copies: one v_init per channel, or a tap on the same pixel."""
    if isinstance(node, Population):
        return is_per_channel(node.v_init)
    if not isinstance(node, Conv):
        return True
    (shape,), result = graph.source_shapes(node.name), graph.shape(node.name)
    inside = (
        stride * (positions - 1) < length
        for stride, positions, length in zip(node.stride, result[1:], shape[1:], strict=True)
    )
    return _tap(node) is not None and all(inside)


def _tap(node: Conv | Linear) -> Shape | None:
    """The kernel index that reads pixel stride * p at output position p; None if there is none."""
    if isinstance(node, Linear):
        return ()
    tap = []
    for axis, (before, _) in enumerate(node.padding):
        index, off = divmod(before, node.dilation[axis])
        if off or index >= node.kernel[axis]:
            return None
        tap.append(index)
    return tuple(tap)


def _fits(path: Sequence[Node], width: int) -> bool:
    """Whether all weights stay within MAX_WEIGHTS."""
    return all(
        (node.weight.shape[0] + width) * (node.weight.shape[1] + width) * node.weight[0, 0].size
        <= MAX_WEIGHTS
        for node in path
        if isinstance(node, (Conv, Linear))
    )


def _inline(graph: Graph, join: Join, edits: _Edits) -> None:
    width = graph.shape(join.source)[0]
    # add_private_connections has moved its bias.
    shortcut = graph.node(join.shortcut).arrays()["weight"]
    path = _path(graph, join)
    changed = edits.changed
    for node, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(node, Population):
            changed[node.name] = _with_copies(node, width, graph.shape(node.name))
        elif isinstance(node, (Conv, Linear)):
            amount = (
                float(following.v_threshold.max()) if isinstance(following, Population) else 1.0
            )
            pointwise = shortcut.reshape(shortcut.shape[:2]) if following is None else None
            first = node.inputs[0] == join.source
            changed[node.name] = _extended(node, width, amount, pointwise, first=first)
    edits.renamed[join.sum] = join.connection
    edits.removed |= {join.sum, join.shortcut}


def _with_copies(node: AnyPopulation, width: int, shape: Shape) -> AnyPopulation:
    """A population with `width` more channels, whose potentials start at half the threshold."""
    threshold = float(node.v_threshold.max())
    ones = (1,) * (len(shape) - 1)
    own = np.broadcast_to(node.v_init.reshape(-1), (shape[0],)).astype(np.float32)
    copies = np.full(width, threshold / 2, np.float32)
    return replace(
        node,
        v_threshold=np.full((1, *ones), threshold, np.float32),
        v_init=np.concatenate([own, copies]).reshape(-1, *ones),
    )


def _extended(
    node: Conv | Linear, width: int, amount: float, shortcut: Array | None, *, first: bool
) -> Conv | Linear:
    """A connection that passes `width` copies on, or applies the shortcut's weights to them.

    Args:
        node: a connection of the main path.
        width: channels of the source.
        amount: weight of a copy.
        shortcut: [O, width] at the end of the path; else None.
        first: whether its input is the source itself, which has no copies yet.
    """
    outputs, inputs, *kernel = node.weight.shape
    columns = inputs if first else inputs + width
    rows = outputs + (width if shortcut is None else 0)
    weight = np.zeros((rows, columns, *kernel), np.float32)
    weight[:outputs, :inputs] = node.weight
    tap = _tap(node) or ()
    block: Array = np.eye(width, dtype=np.float32) * amount if shortcut is None else shortcut
    start = 0 if first else inputs
    top = outputs if shortcut is None else 0
    taps: tuple[Any, ...] = (slice(top, rows), slice(start, start + width), *tap)
    weight[taps] = block
    bias = np.zeros(rows, np.float32)
    bias[:outputs] = node.bias
    return replace(node, weight=weight, bias=bias)


def _restore(graph: Graph, join: Join, edits: _Edits) -> None:
    width = graph.shape(join.source)[0]
    path = _path(graph, join)
    if not path:
        raise GraphError(f"{join.sum}: no main path from {join.source} to {join.connection}")
    edits.changed |= {node.name: _without_copies(node, width, join) for node in path}
    last = path[-1]
    if not isinstance(last, (Conv, Linear)):
        raise GraphError(f"{join.connection}: a connection is needed at the end of a main path")
    tap = _tap(last)
    if tap is None:
        raise GraphError(f"{join.connection}: no kernel tap at which a shortcut could be")
    rows, columns = last.weight.shape[:2]
    taps: tuple[Any, ...] = (slice(0, rows), slice(columns - width, columns), *tap)
    weight: Array = last.weight[taps]
    bias = np.zeros(len(weight), np.float32)
    shortcut: Node = Linear(name=join.shortcut, inputs=(join.source,), weight=weight, bias=bias)
    if isinstance(last, Conv):
        axes = len(last.kernel)
        shortcut = Conv(
            name=join.shortcut,
            inputs=(join.source,),
            weight=weight.reshape(*weight.shape, *(1,) * axes),
            bias=bias,
            stride=join.stride,
            padding=((0, 0),) * axes,
            dilation=(1,) * axes,
        )
    add = Add(name=join.sum, inputs=(join.connection, join.shortcut))
    edits.renamed[join.connection] = join.sum
    edits.added += [shortcut, add]


def _without_copies(node: Node, width: int, join: Join) -> Node:
    """A node of the main path without the channels that `inline_shortcuts` added."""
    if isinstance(node, Population):
        if len(node.v_init) <= width:
            raise GraphError(f"{node.name}: {len(node.v_init)} channels, more than {width} needed")
        return replace(node, v_init=node.v_init[:-width])
    if not isinstance(node, (Conv, Linear)):
        raise GraphError(f"{node.name} ({node.kind}): not allowed on a main path")
    rows = len(node.weight) - (0 if node.name == join.connection else width)
    columns = node.weight.shape[1] - (0 if node.inputs[0] == join.source else width)
    if rows < 1 or columns < 1:
        raise GraphError(f"{node.name}: weights of {node.weight.shape}, too few for {width} copies")
    return replace(node, weight=node.weight[:rows, :columns], bias=node.bias[:rows])
