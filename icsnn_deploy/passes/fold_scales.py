"""Fold diagonal connections into their neighbors, and merge pointwise convolutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.graph import Graph, rewire
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Flatten, Linear, Node


def fold_scales(graph: Graph) -> Graph:
    """Fold each Scale into the affine node before or after it, where that is exact.

        conv -> scale -> relu            before
        conv' -> relu                    after

        if -> scale -> pool -> conv      before
        if -> pool -> conv'              after

    A Scale that some of its consumers can't absorb (an identity shortcut into a sum, a shift in
    front of a padded convolution) is kept for those.
    """
    changed = True
    while changed:
        changed = False
        for scale in graph.nodes_of(ChannelAffine):
            after = _fold_one(graph, scale)
            if after is not None:
                graph, changed = after, True
                break
    return graph


def _fold_one(graph: Graph, scale: ChannelAffine) -> Graph | None:
    """The graph with one Scale folded one place further, or None if it has to stay."""
    source = graph.node(scale.inputs[0])
    if isinstance(source, (Conv, Linear, ChannelAffine)) and len(graph.consumers(source.name)) == 1:
        merged = _after(source, scale)
        if merged is not None:
            return graph.replace(merged).remove(scale.name)
    for consumer in dict.fromkeys(graph.consumers(scale.name)):
        absorbed = _before(graph, scale, consumer)
        if absorbed is not None:
            return _bypass(graph, scale, consumer, absorbed)
    return None


def fold_across_padding(graph: Graph, scale: ChannelAffine) -> Graph:
    """Fold a Scale into what is behind it, its shift as if no window were padded.

    Only for a small shift: at padded borders the result is off by up to the shift.
    """
    for consumer in dict.fromkeys(graph.consumers(scale.name)):
        absorbed = _before(graph, scale, consumer, across_padding=True)
        if absorbed is not None:
            graph = _bypass(graph, scale, consumer, absorbed)
            moved = absorbed[-1]  # behind a pooling the Scale goes on
            if isinstance(moved, ChannelAffine):
                graph = fold_across_padding(graph, moved)
    return graph


def _bypass(
    graph: Graph, scale: ChannelAffine, consumer: Node, absorbed: tuple[Node, ...]
) -> Graph:
    """Put `absorbed` for the consumer; drop the Scale once nobody takes it."""
    others = [node for node in graph.consumers(scale.name) if node.name != consumer.name]
    replaced = {scale.name, consumer.name} if not others else {consumer.name}
    kept = [node for node in graph.nodes if node.name not in replaced]
    last = absorbed[-1].name
    renamed = {consumer.name: last} if last != consumer.name else {}
    return graph.with_nodes([*(rewire(node, renamed) for node in kept), *absorbed])


def _after(source: Conv | Linear | ChannelAffine, scale: ChannelAffine) -> Node | None:
    """scale(source(x)) as one node, or None where it isn't one."""
    factor, shift = scale.scale.astype(np.float64), scale.shift.astype(np.float64)
    if isinstance(source, ChannelAffine):
        return replace(source, scale=source.scale * factor, shift=source.shift * factor + shift)
    channels = len(source.bias)
    if isinstance(source, Conv) and not (_is_per_channel(factor) and _is_per_channel(shift)):
        return None
    factor, shift = _per_channel(factor, channels), _per_channel(shift, channels)
    rows = factor.reshape(-1, *(1,) * (source.weight.ndim - 1))
    return replace(source, weight=source.weight * rows, bias=source.bias * factor + shift)


def _before(
    graph: Graph, scale: ChannelAffine, consumer: Node, *, across_padding: bool = False
) -> tuple[Node, ...] | None:
    """Nodes that do scale and consumer together and take the Scale's source, or None."""
    source = scale.inputs
    if consumer.inputs != (scale.name,):
        return None
    factor, shift = scale.scale.astype(np.float64), scale.shift.astype(np.float64)
    pure = not shift.any()
    if isinstance(consumer, Linear):
        columns = np.broadcast_to(factor, graph.shape(scale.name))
        bias = consumer.bias + consumer.weight.astype(np.float64) @ np.broadcast_to(
            shift, graph.shape(scale.name)
        )
        return (replace(consumer, inputs=source, weight=consumer.weight * columns, bias=bias),)
    if isinstance(consumer, Flatten):
        # The scale moves behind the flatten, a value a feature.
        shape = graph.shape(scale.name)
        moved = replace(
            scale,
            inputs=(consumer.name,),
            scale=np.broadcast_to(factor, shape).reshape(-1),
            shift=np.broadcast_to(shift, shape).reshape(-1),
        )
        return _swapped(graph, scale, consumer, moved)
    if not _is_per_channel(factor) or not _is_per_channel(shift):
        return None
    padded = isinstance(consumer, (Conv, AvgPool)) and any(n for p in consumer.padding for n in p)
    if padded and not pure and not across_padding:
        return None  # padded zeros are zero after the shift, not before it
    if isinstance(consumer, AvgPool):
        return _swapped(graph, scale, consumer, replace(scale, inputs=(consumer.name,)))
    if isinstance(consumer, Conv):
        return (_absorb_before(consumer, source, factor, shift),)
    return None


def _swapped(
    graph: Graph, scale: ChannelAffine, consumer: Node, moved: ChannelAffine
) -> tuple[Node, ...]:
    """The consumer first and the Scale behind it; only if the Scale has no other consumer."""
    if len(graph.consumers(scale.name)) > 1:
        moved = replace(moved, name=graph.fresh_name(f"{scale.name}_{consumer.name}"))
    return (replace(consumer, inputs=scale.inputs), moved)


def _absorb_before(conv: Conv, source: tuple[str, ...], factor: Array, shift: Array) -> Conv:
    """conv(factor * x + shift) as one convolution; no padding unless shift is 0."""
    channels = conv.weight.shape[1] * conv.groups
    width = conv.weight.shape[0] // conv.groups
    axes = (1,) * len(conv.kernel)

    def per_output(values: Array) -> Array:
        """Input-channel values as each output channel's group sees them, [C_out, C_in/g, 1..]."""
        grouped = _per_channel(values, channels).reshape(conv.groups, -1)
        return np.repeat(grouped, width, axis=0).reshape(*conv.weight.shape[:2], *axes)

    weight = conv.weight.astype(np.float64)
    moved = (weight * per_output(shift)).sum(axis=tuple(range(1, weight.ndim)))
    return replace(conv, inputs=source, weight=weight * per_output(factor), bias=conv.bias + moved)


def _is_per_channel(values: Array) -> bool:
    return all(n == 1 for n in values.shape[1:])


def _per_channel(values: Array, channels: int) -> Array:
    return np.broadcast_to(values.reshape(-1), (channels,))


def merge_pointwise(graph: Graph) -> Graph:
    """Merge chains of convolutions of which one is a pointwise (1 x 1) one without bias.

        slice (strided 1x1) -> pad channels (1x1) -> add      before
        shortcut (strided 1x1) -> add                         after

    A depthwise identity that only pads gives its padding to the convolution after it.
    """
    merged: Graph | None = graph
    while merged is not None:
        graph, merged = merged, _merge_one(merged)
    return graph


def _merge_one(graph: Graph) -> Graph | None:
    """The graph with one pair of convolutions merged, or None if there is no pair."""
    for first in graph.nodes_of(Conv):
        consumers = graph.consumers(first.name)
        if len(consumers) != 1 or not isinstance(consumers[0], Conv):
            continue
        merged = _merge(first, consumers[0])
        if merged is not None:
            return graph.with_nodes(
                merged if node.name == merged.name else node
                for node in graph.nodes
                if node.name != first.name
            )
    return None


def _merge(first: Conv, second: Conv) -> Conv | None:
    """second(first(x)) as one convolution, or None."""
    if first.bias.any():
        return None
    if _is_pad(first):
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
        return None  # two trained layers: keep the factors, they may be far smaller
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


def _is_pad(conv: Conv) -> bool:
    """An identity that does nothing but pad."""
    depthwise = conv.groups == conv.weight.shape[0] and conv.weight.shape[1] == 1
    plain = all(n == 1 for n in conv.stride)
    return depthwise and plain and _is_pointwise(conv) and bool((conv.weight == 1).all())


def _is_selection(conv: Conv) -> bool:
    """Each output is one input or nothing: all weights 0 or 1, at most a single 1 a row."""
    rows = conv.weight.reshape(len(conv.weight), -1)
    return bool(np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) <= 1).all())


def dense_weight(conv: Conv) -> Array:
    """The weights without groups, [C_out, C_in, *kernel], float64."""
    outputs, per_group = conv.weight.shape[:2]
    width = outputs // conv.groups
    dense = np.zeros((outputs, per_group * conv.groups, *conv.kernel))
    for group in range(conv.groups):
        rows = slice(group * width, (group + 1) * width)
        dense[rows, group * per_group : (group + 1) * per_group] = conv.weight[rows]
    return dense
