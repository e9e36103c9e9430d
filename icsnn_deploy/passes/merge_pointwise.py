"""Merge chains of convolutions of which one only selects or pads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv
from icsnn_deploy.passes.convolutions import dense_weight
from icsnn_deploy.passes.edit import GraphEditor
from icsnn_deploy.passes.pooling import is_window_sum


def merge_pointwise(graph: Graph) -> Graph:
    """Merge chains of convolutions of which one is a pointwise (1 x 1) one without bias.

        slice (strided 1x1) -> pad channels (1x1) -> add      before
        shortcut (strided 1x1) -> add                         after

    The padding of a depthwise identity that only pads moves to the convolution after it. Two
    trained layers are not merged.
    """
    editor = GraphEditor(graph)
    kept: dict[str, tuple[Conv, Conv]] = {}
    while _merge_one(editor, kept):
        pass
    return editor.build()


def _merge_one(editor: GraphEditor, kept: dict[str, tuple[Conv, Conv]]) -> bool:
    """Merge the first pair of convolutions that can be merged; return whether there was any.

    Args:
        editor: the network.
        kept: pairs that can't be merged, by the name of the first: not tried again.
    """
    for first in editor.nodes_of(Conv):
        consumers = editor.consumers(first.name)
        if len(consumers) != 1 or not isinstance(consumers[0], Conv):
            continue
        pair = (first, consumers[0])
        if kept.get(first.name) == pair:
            continue
        merged = _merged(*pair)
        if merged is not None:
            editor.replace(merged)
            editor.discard(first.name)
            return True
        kept[first.name] = pair
    return False


def _merged(first: Conv, second: Conv) -> Conv | None:
    """Return second(first(x)) as one convolution, or None."""
    if first.bias.any():
        return None
    if _only_pads(first):
        padding = tuple(
            (a[0] + b[0], a[1] + b[1]) for a, b in zip(first.padding, second.padding, strict=True)
        )
        return replace(second, inputs=first.inputs, padding=padding)
    second_padded = any(n for pair in second.padding for n in pair)
    if not _is_pointwise(second) or second_padded:
        return None
    if not _is_pointwise(first) and any(n != 1 for n in second.stride):
        return None
    if not (_is_selection(first) or _is_selection(second)):
        return None  # two trained layers: the factors may be far smaller than the product
    head = dense_weight(first)  # [M, C_in, *kernel]
    tail = dense_weight(second).reshape(len(second.weight), -1)  # [C_out, M], a kernel of one
    return replace(
        first,
        name=second.name,
        weight=np.tensordot(tail, head, axes=(1, 0)),
        bias=second.bias,
        stride=tuple(a * b for a, b in zip(first.stride, second.stride, strict=True)),
        groups=1,
    )


def _is_pointwise(conv: Conv) -> bool:
    return all(n == 1 for n in conv.kernel)


def _only_pads(conv: Conv) -> bool:
    """Whether a convolution is the identity, apart from its padding."""
    return is_window_sum(conv) and _is_pointwise(conv) and all(n == 1 for n in conv.stride)


def _is_selection(conv: Conv) -> bool:
    """Whether each output is one input or zero: weights 0 or 1, at most one 1 per output."""
    rows = conv.weight.reshape(len(conv.weight), -1)
    return bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) <= 1).all())
