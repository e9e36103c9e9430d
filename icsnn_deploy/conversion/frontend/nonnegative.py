"""Find out from the graph whether a node's result is never negative."""

from __future__ import annotations

from collections.abc import Mapping

from icsnn_deploy.conversion.frontend.concatenation import Concatenation
from icsnn_deploy.graph.nodes import Add, AvgPool, ChannelAffine, Conv, Flatten, Linear, Node, Relu


def is_nonnegative(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether a node's result is at least zero for every input of the network.

    Args:
        nodes: of the network, by name.
        name: the node.
    """
    waiting, seen = [name], {name}
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or isinstance(node, Relu):
            continue  # the placeholder of a rejected operator counts as one
        if not _keeps_sign(node):
            return False
        waiting += [source for source in node.inputs if source not in seen]
        seen.update(node.inputs)
    return True


def _keeps_sign(node: Node) -> bool:
    """Whether the result of a linear node is nonnegative for nonnegative inputs."""
    if isinstance(node, (Conv, Linear)):
        return bool((node.weight >= 0).all() and (node.bias >= 0).all())
    if isinstance(node, ChannelAffine):
        return bool((node.scale >= 0).all() and (node.shift >= 0).all())
    return isinstance(node, (Add, AvgPool, Concatenation, Flatten))
