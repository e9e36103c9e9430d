r"""Remove the zero row that the NIR export appends where no square kernel would do.

The export makes [x; 0] of x by six nodes (write/convolutions.py). A convolution of [x; 0] is one of
x with one more zero after its first axis. This holds for any file with these six nodes.

    x -> rows -> pairs -> kept \                       before
                                add -> conv
    x -> rows -> pairs -> kept /
    x -> conv with padding (before, behind + 1)         after
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.exporters.nir.read.restore import MOST_STORED, restore_embedded
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Node, Shape
from icsnn_deploy.passes.pooling import is_window_sum


def without_zero_rows(
    nodes: list[Node], shapes: Mapping[str, Shape], notes: Mapping[str, Mapping[str, Any]]
) -> list[Node]:
    """The nodes, with every such convolution taking x itself, in the noted form.

    Args:
        nodes: in any order.
        shapes: of their results.
        notes: of the export on each node, by name.
    """
    by_name = {node.name: node for node in nodes}
    dropped: set[str] = set()
    for node in nodes:
        if isinstance(node, Conv) and len(node.kernel) == 2:
            found = _origin(by_name, node, shapes)
            if found is not None:
                origin, inner = found
                (before, behind), across = node.padding
                padding = ((before, behind + 1), across)
                conv = replace(node, inputs=(origin,), padding=padding)
                note = notes.get(node.name, {})
                by_name[node.name] = restore_embedded(conv, note, shapes[origin])
                dropped |= inner
    kept = [by_name[node.name] for node in nodes]
    while dropped:  # remove what no other node takes, from the last to the first
        used = {source for node in kept for source in node.inputs}
        gone = {name for name in dropped if name not in used}
        if not gone:
            break
        kept = [node for node in kept if node.name not in gone]
        dropped -= gone
    return kept


def _origin(
    by_name: Mapping[str, Node], conv: Conv, shapes: Mapping[str, Shape]
) -> tuple[str, set[str]] | None:
    """x, and the nodes between it and a convolution of [x; 0]."""
    add = by_name[conv.inputs[0]]
    if not isinstance(add, Add) or len(add.inputs) != 2:
        return None
    origins, inner = set(), {add.name}
    for parity, name in enumerate(add.inputs):
        chain = [by_name[name]]  # kept, pairs, rows
        for _ in range(2):
            chain += [by_name[source] for source in chain[-1].inputs[:1]]
        masks = len(chain) == 3 and all(_masks(node, parity, shapes) for node in chain[::2])
        if not masks or not _sums_pairs(chain[1]):
            return None
        inner |= {node.name for node in chain}
        origins.add(chain[2].inputs[0])
    return (origins.pop(), inner) if len(origins) == 1 else None


def _sums_pairs(node: Node) -> bool:
    """Whether a node is a sum over pairs of rows, with a zero row at both ends."""
    return (
        is_window_sum(node)
        and node.kernel == (2, 1)
        and node.stride == node.dilation == (1, 1)
        and node.padding == ((1, 1), (0, 0))
    )


def _masks(node: Node, parity: int, shapes: Mapping[str, Shape]) -> bool:
    """Whether a node keeps the even (parity 0) or odd (1) rows and sets the others to zero."""
    if not isinstance(node, ChannelAffine) or node.shift.any():
        return False
    shape = shapes[node.name]
    if math.prod(shape) > MOST_STORED:
        return False
    rows = np.arange(shape[1]).reshape(-1, 1) % 2 == parity  # [H, 1]
    return bool((np.broadcast_to(node.scale, shape) == rows).all())
