"""Fold ChannelAffine nodes into their neighbors."""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Flatten, Linear, Node
from icsnn_deploy.passes.affine import (
    is_per_channel,
    moved_after,
    scale_inputs,
    scale_outputs,
    scale_scale,
)
from icsnn_deploy.passes.edit import GraphEditor


def fold_scales(graph: Graph) -> Graph:
    """Fold each ChannelAffine into the affine node before or after it, if that is exact.

        conv -> scale -> relu            before
        conv' -> relu                    after

        if -> scale -> pool -> conv      before
        if -> pool -> conv'              after

    A ChannelAffine that some of its consumers can't absorb (an identity shortcut into a sum, a
    shift before a padded convolution) is kept for those. Nothing is folded into integer weights.
    """
    editor = GraphEditor(graph)
    kept: dict[str, tuple[Node | bool, ...]] = {}
    while any(_fold_one(editor, scale, kept) for scale in editor.nodes_of(ChannelAffine)):
        pass  # from the start again: folding one may allow folding another
    return editor.build()


def fold_across_padding(graph: Graph, scale: ChannelAffine) -> Graph:
    """Fold a ChannelAffine into the nodes after it, its shift as if no window were padded.

    Only for a small shift: at padded borders the result is off by up to the shift.
    """
    editor = GraphEditor(graph)
    _fold_across(editor, scale)
    return editor.build()


def _fold_one(
    editor: GraphEditor, scale: ChannelAffine, kept: dict[str, tuple[Node | bool, ...]]
) -> bool:
    """Fold a ChannelAffine one place further; return whether that was possible.

    Args:
        editor: the network.
        scale: the node.
        kept: nodes that could not be folded, with all that this depended on: not tried again.
    """
    source = editor.node(scale.inputs[0])
    consumers = editor.consumers(scale.name)
    shared = editor.is_shared(source.name)
    situation = (scale, source, shared, *consumers)
    if kept.get(scale.name) == situation:
        return False
    if not shared:
        merged = _into_source(source, scale)
        if merged is not None:
            editor.replace(merged)
            editor.remove(scale.name)
            return True
    for consumer in dict.fromkeys(consumers):
        absorbed = _into_consumer(editor, scale, consumer)
        if absorbed:
            _bypass(editor, scale, consumer, absorbed)
            return True
    kept[scale.name] = situation
    return False


def _fold_across(editor: GraphEditor, scale: ChannelAffine) -> None:
    for consumer in dict.fromkeys(editor.consumers(scale.name)):
        absorbed = _into_consumer(editor, scale, consumer, across_padding=True)
        if absorbed:
            _bypass(editor, scale, consumer, absorbed)
            moved = absorbed[-1]  # a ChannelAffine after a pooling is folded further
            if isinstance(moved, ChannelAffine):
                _fold_across(editor, moved)


def _bypass(
    editor: GraphEditor, scale: ChannelAffine, consumer: Node, absorbed: tuple[Node, ...]
) -> None:
    """Replace the consumer by `absorbed`; remove the ChannelAffine if it has no other consumer."""
    if not editor.is_shared(scale.name):
        editor.remove(scale.name)
    editor.substitute(consumer.name, absorbed)


def _into_source(source: Node, scale: ChannelAffine) -> Node | None:
    """Return scale(source(x)) as one node under the source's name, or None."""
    match source:
        case ChannelAffine():
            return replace(scale_scale(scale, source), name=source.name)
        case Conv() | Linear() if source.weight.dtype.kind == "i":
            return None
        case Conv() if not (is_per_channel(scale.scale) and is_per_channel(scale.shift)):
            return None
        case Conv() | Linear():
            return scale_outputs(source, scale)
    return None


def _into_consumer(
    editor: GraphEditor, scale: ChannelAffine, consumer: Node, *, across_padding: bool = False
) -> tuple[Node, ...]:
    """Return nodes that compute both from the source of `scale`; none if that is not exact."""
    if consumer.inputs != (scale.name,):
        return ()
    match consumer:
        case Conv() | Linear() if consumer.weight.dtype.kind == "i":
            return ()
        case Linear():
            return (scale_inputs(consumer, scale),)
        case Conv():
            per_channel = is_per_channel(scale.scale) and is_per_channel(scale.shift)
            padded = any(n for pair in consumer.padding for n in pair)
            if not per_channel or (padded and scale.shift.any() and not across_padding):
                return ()  # padded zeros are zero after the shift, not before it
            return (scale_inputs(consumer, scale),)
        case AvgPool() | Flatten():
            shape = editor.shape(scale.name)
            moved = moved_after(consumer, scale, shape, across_padding=across_padding)
            if moved is None:
                return ()
            moved = replace(moved, inputs=(consumer.name,))
            if editor.is_shared(scale.name):
                name = editor.fresh_name(f"{scale.name}_{consumer.name}")
                moved = replace(moved, name=name)
            return (replace(consumer, inputs=scale.inputs), moved)
    return ()
