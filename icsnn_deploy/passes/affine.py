"""The algebra of affine nodes: ChannelAffine, Conv and Linear, each of the form W x + b.

    scale(conv(x))    = conv'(x)      scale_outputs: rows of W and b scaled
    conv(scale(x))    = conv'(x)      scale_inputs: columns of W scaled, W shift added to b
    second(first(x))  = node(x)       composed: any two, if one node can compute both
    pool(scale(x))    = scale(pool(x))    moved_after

Products are taken in float64 and rounded once, when the new node stores them as float32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Flatten, Linear, Node, Shape
from icsnn_deploy.passes.convolutions import compose_convolutions, depthwise

Affine = Conv | Linear | ChannelAffine


def is_per_channel(values: Array) -> bool:
    """Return whether a parameter is one value per channel, or one value: constant in space."""
    return all(size == 1 for size in values.shape[1:])


def pure_scale(name: str, source: str, factor: Array) -> ChannelAffine:
    """Return a ChannelAffine without shift, of real numbers.

    Args:
        name: of the node.
        source: name of its input.
        factor: broadcastable to the input.
    """
    shift = np.zeros((1,) * factor.ndim, np.float32)
    scale = factor.astype(np.float64)  # integers would stand for a node of the lattice
    return ChannelAffine(name=name, inputs=(source,), scale=scale, shift=shift)


def dense(scale: ChannelAffine, shape: Shape) -> Conv | Linear:
    """Return a ChannelAffine, one value per channel, as a matrix or a dense 1 x 1 convolution.

    Args:
        scale: the node.
        shape: of its input.
    """
    weight = np.diag(_per_channel(scale.scale, shape[0]))
    bias = _per_channel(scale.shift, shape[0])
    if len(shape) == 1:
        return Linear(name=scale.name, inputs=scale.inputs, weight=weight, bias=bias)
    ones = (1,) * (len(shape) - 1)
    return Conv(
        name=scale.name,
        inputs=scale.inputs,
        weight=weight.reshape(shape[0], shape[0], *ones),
        bias=bias,
        stride=ones,
        padding=((0, 0),) * len(ones),
        dilation=ones,
    )


def scale_scale(second: ChannelAffine, first: ChannelAffine) -> ChannelAffine:
    """Return second(first(x)), named after the second."""
    factor, shift = _double(second.scale), _double(second.shift)
    return replace(
        second,
        inputs=first.inputs,
        scale=first.scale * factor,
        shift=first.shift * factor + shift,
    )


def scale_outputs(first: Conv | Linear, scale: ChannelAffine) -> Conv | Linear:
    """Return scale(first(x)), one value per channel, named after the first."""
    channels = len(first.bias)
    factor = _per_channel(_double(scale.scale), channels)
    shift = _per_channel(_double(scale.shift), channels)
    weight = first.weight * per_row(factor, first.weight)
    return replace(first, weight=weight, bias=first.bias * factor + shift)


def scale_inputs(second: Conv | Linear, scale: ChannelAffine) -> Conv | Linear:
    """Return second(scale(x)), named after the second, as if padding were applied after scaling.

    Args:
        second: a Linear, or a Conv; with padding it is exact only for a shift of 0.
        scale: for a Conv one value per channel.
    """
    factor, shift, weight = _double(scale.scale), _double(scale.shift), _double(second.weight)
    if isinstance(second, Linear):
        width = (weight.shape[1],)
        bias = second.bias + weight @ np.broadcast_to(shift, width)
        weight = weight * np.broadcast_to(factor, width)
        return replace(second, inputs=scale.inputs, weight=weight, bias=bias)
    channels = weight.shape[1] * second.groups
    width_of_group = len(weight) // second.groups

    def per_output(values: Array) -> Array:
        """Input-channel values for each output channel's group, [C_out, C_in/g, 1..]."""
        grouped = _per_channel(values, channels).reshape(second.groups, -1)
        repeated = np.repeat(grouped, width_of_group, axis=0)
        return repeated.reshape(*weight.shape[:2], *(1,) * len(second.kernel))

    moved = (weight * per_output(shift)).sum(axis=tuple(range(1, weight.ndim)))
    return replace(
        second,
        inputs=scale.inputs,
        weight=weight * per_output(factor),
        bias=second.bias + moved,
    )


def per_row(values: Array, weight: Array) -> Array:
    """Return one value per output channel, broadcastable to a weight."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))


def moved_after(
    node: AvgPool | Flatten, first: Affine, shape: Shape, *, across_padding: bool = False
) -> Affine | None:
    """Return g so that g(node(x)) = node(first(x)), or None if there is none.

    A mean over positions commutes with nodes that treat every position equally, flattening with a
    ChannelAffine. The result's inputs are those of `first`.

    Args:
        node: the pooling or flattening.
        first: the node before it.
        shape: of first(x).
        across_padding: move a constant past padded windows, too, with an error of up to itself.
    """
    if isinstance(node, Flatten):
        if not isinstance(first, ChannelAffine):
            return None
        return replace(
            first, scale=_per_neuron(first.scale, shape), shift=_per_neuron(first.shift, shape)
        )
    padded = any(n for pair in node.padding for n in pair)
    if isinstance(first, ChannelAffine):
        uniform = is_per_channel(first.scale) and is_per_channel(first.shift)
        constant = first.shift.any()
    elif isinstance(first, Conv):
        sizes = (*first.kernel, *first.stride, *(1 + n for pair in first.padding for n in pair))
        uniform, constant = all(n == 1 for n in sizes), first.bias.any()
    else:
        return None
    return first if uniform and not (padded and constant and not across_padding) else None


def composed(second: Node, first: Affine, shapes: tuple[Shape, Shape]) -> Node | None:
    """Return one node for second(first(x)), named after the second, or None if there is none.

    The second node pads with zeros, not with results of the first beyond its border. So if it pads,
    the first node must map zeros to zeros, tap by tap.

    A ChannelAffine with a convolution is composed like two convolutions, which removes taps without
    weight; scale_outputs and scale_inputs keep the kernel unchanged.

    Args:
        second: a node with one input.
        first: the node before it.
        shapes: of x, and of first(x).
    """
    match first, second:
        case ChannelAffine(), ChannelAffine():
            return scale_scale(second, first)
        case ChannelAffine(), Linear():
            return scale_inputs(second, first)
        case Linear(), Linear():
            weight = _double(second.weight)
            return replace(
                second,
                inputs=first.inputs,
                weight=weight @ first.weight,
                bias=second.bias + weight @ first.bias,
            )
        case Linear(), ChannelAffine():
            return replace(scale_outputs(first, second), name=second.name)
        case ChannelAffine(), Conv() if is_per_channel(first.scale) and is_per_channel(first.shift):
            return compose_convolutions(second, _as_conv(first, shapes[1]), shapes)
        case Conv(), Conv():
            return compose_convolutions(second, first, shapes)
        case Conv(), ChannelAffine() if is_per_channel(second.scale) and is_per_channel(
            second.shift
        ):
            return compose_convolutions(_as_conv(second, shapes[1]), first, shapes)
    return None


def _as_conv(scale: ChannelAffine, shape: Shape) -> Conv:
    """A ChannelAffine, one value per channel, as a convolution."""
    factor, shift = (_per_channel(_double(v), shape[0]) for v in (scale.scale, scale.shift))
    return depthwise(scale, factor, shift, ((0, 0),) * (len(shape) - 1))


def _per_channel(values: Array, channels: int) -> Array:
    return np.broadcast_to(values.reshape(-1), (channels,))


def _per_neuron(values: Array, shape: Shape) -> Array:
    """One value per neuron, [F], float64."""
    return np.broadcast_to(_double(values), shape).reshape(-1)


def _double(values: Array) -> Array:
    return values.astype(np.float64)
