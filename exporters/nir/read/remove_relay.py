"""Take the relay out of a network that was read from a file, where the file bears it out.

What is left is believed only if putting a relay into it gives every number of the file again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.nir.portable.inline_shortcuts import (
    Join,
    inline_shortcuts,
    restore_shortcuts,
)
from icsnn_deploy.exporters.nir.portable.private_connections import missing_connections
from icsnn_deploy.exporters.nir.portable.relay import (
    carrier_of,
    connections,
    find_tap,
    relay_size,
    with_relay,
)
from icsnn_deploy.graph.graph import Graph, describe_node
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
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


def without_relay(graph: Graph, joins: Sequence[Any]) -> Graph:
    """The portable network without its relay: with its own channels, shortcuts and v_init.

    Args:
        graph: as the file has it, with the encoding and input type of the original network.
        joins: the inlined shortcuts that the file lists, unchecked.

    Raises:
        GraphError: `with_relay` does not make this graph of any network.
    """
    bare = _stripped(graph)
    restored = bare.map(lambda node: _with_v_init(graph, bare, node))
    if missing_connections(restored):
        sink, source = missing_connections(restored)[0]
        raise GraphError(f"{sink}: a relay needs a connection of its own from {source}")
    try:
        again = with_relay(restored)
    except ExportError as error:
        raise GraphError(f"this is no network with a relay: {error}") from error
    _check_same(graph, again)
    bent = restore_shortcuts(restored, [_join(value) for value in joins])
    _check_same(restored, inline_shortcuts(bent)[0])
    return bent


def _join(value: Any) -> Join:
    """Read a join from the metadata; raises GraphError."""
    names = ("sum", "shortcut", "connection", "source")
    if not isinstance(value, dict) or set(value) != {*names, "stride"}:
        raise GraphError(f"joins: an object of {', '.join(names)} and stride is needed")
    stride = value["stride"]
    if not all(isinstance(value[name], str) for name in names) or not isinstance(stride, list):
        raise GraphError("joins: names and a list of strides are needed")
    if not all(type(size) is int and 1 <= size < 2**31 for size in stride):
        raise GraphError("joins: strides are integers from 1 on")
    return Join(**{name: value[name] for name in names}, stride=tuple(stride))


def _stripped(graph: Graph) -> Graph:
    """Without the last channel of the input, of each population and of the nodes between them."""
    ends = set(connections(graph, graph.output))
    extra: dict[str, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        shapes = graph.source_shapes(node.name)
        before = extra[node.inputs[0]] if node.inputs else 0
        nodes.append(_bare(node, before, rows=0 if node.name in ends else 1))
        extra[node.name] = relay_size(node, shapes, before)
    return graph.with_nodes(nodes)


def _bare(node: Node, before: int, *, rows: int) -> Node:
    """A node without its relay: a connection loses `before` inputs and `rows` outputs."""
    match node:
        case Input():
            return replace(node, shape=(_fewer(node, node.shape[0], 1), *node.shape[1:]))
        case Conv() | Linear():
            outputs = _fewer(node, node.weight.shape[0], rows)
            inputs = _fewer(node, node.weight.shape[1], before)
            return replace(node, weight=node.weight[:outputs, :inputs], bias=node.bias[:outputs])
        case Population():
            one = np.ones((1,) * node.v_threshold.ndim, np.float32)
            return replace(node, v_threshold=one * node.v_threshold.max(), v_init=0 * one)
        case Add() | Flatten() | Output():
            return node
        case AvgPool() | ChannelAffine() | Relu():
            raise GraphError(f"{node.name} ({node.kind}): has no place in a network with a relay")
        case _:
            assert_never(node)


def _fewer(node: Node, size: int, by: int) -> int:
    if size <= by:
        raise GraphError(f"{node.name}: {size} channels, with a relay more than {by} are needed")
    return size - by


def _with_v_init(graph: Graph, bare: Graph, node: Node) -> Node:
    """A population with the initial potentials that the relay's weights give it."""
    if not isinstance(node, Population):
        return node
    shape = bare.shape(node.name)
    carrier = carrier_of(bare, connections(bare, node))
    weights = _relay_weights(graph, bare, carrier) if carrier else np.zeros(shape[0], np.float32)
    return replace(node, v_init=weights.reshape(-1, *(1,) * (len(shape) - 1)))


def _relay_weights(graph: Graph, bare: Graph, name: str) -> Array:
    """The weights from the relay to each channel of a connection, [C]."""
    written, node = graph.node(name), bare.node(name)
    tap: Shape = ()
    if isinstance(node, Conv):
        found = find_tap(node, bare.source_shapes(name)[0][1:], bare.shape(name)[1:])
        tap = found or (0,) * len(node.kernel)
    outputs, inputs = node.arrays()["weight"].shape[:2]
    weights: Array = written.arrays()["weight"][(slice(0, outputs), inputs, *tap)]
    return weights


def _check_same(graph: Graph, again: Graph) -> None:
    """Raise GraphError unless adding a relay to the restored network gives the file's nodes."""
    for node in graph.nodes:
        if node.name not in again:
            raise GraphError(f"{node.name}: has no place in a network with a relay")
        other = again.node(node.name)
        if isinstance(node, Input):
            same = isinstance(other, Input) and node.shape == other.shape
        else:
            same = describe_node(node) == describe_node(other) and _same_values(node, other)
        if not same:
            raise GraphError(
                f"{node.name}: the file's v_init_encoding is 'relay', but this node is not as a "
                "relay needs it; the file was changed, export the network again"
            )


def _same_values(node: Node, other: Node) -> bool:
    mine, others = node.arrays(), other.arrays()
    return mine.keys() == others.keys() and all(
        _equal(mine[field], others[field]) for field in mine
    )


def _equal(one: Array, other: Array) -> bool:
    """Whether two arrays are equal after broadcasting single values."""
    return (one.shape == other.shape or 1 in (one.size, other.size)) and bool((one == other).all())
