"""Find out from the graph whether a node's result is never negative."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import assert_never

from icsnn_deploy.conversion.frontend.builder import Function
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
)


def is_nonnegative(
    nodes: Mapping[str, Node], name: str, functions: Mapping[str, Function] | None = None
) -> bool:
    """Whether a node's result is at least zero for every input of the network.

    Args:
        nodes: of the network, by name.
        name: the node.
        functions: of the network's activations, where they are known.
    """
    known = {} if functions is None else functions
    waiting, seen = [name], {name}
    while waiting:
        here = waiting.pop()
        node = nodes.get(here)
        positive = here in known and bool((known[here].f.limits()[0] >= 0).all())
        if node is None or isinstance(node, Relu) or positive:
            continue  # the placeholder of a rejected operator counts as one
        if not _keeps_sign(node):
            return False
        waiting += [source for source in node.inputs if source not in seen]
        seen.update(node.inputs)
    return True


def _keeps_sign(node: Node) -> bool:
    """Whether the result of a node is nonnegative for nonnegative inputs."""
    match node:
        case Conv() | Linear():
            return bool((node.weight >= 0).all() and (node.bias >= 0).all())
        case ChannelAffine():
            return bool((node.scale >= 0).all() and (node.shift >= 0).all())
        case Add() | AvgPool() | Flatten():
            return True
        case Input() | Relu() | Population() | Output():
            return False
        case _:
            assert_never(node)
