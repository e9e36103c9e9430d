"""The algebra of affine nodes: ChannelAffine, Conv and Linear, each of the form W x + b.

    scale(conv(x))    = conv'(x)      scale_outputs: rows of W and b scaled
    conv(scale(x))    = conv'(x)      scale_inputs: columns of W scaled, W shift added to b
    second(first(x))  = node(x)       composed: any two, where that is one node
    pool(scale(x))    = scale(pool(x))    moved_behind

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
    """Return whether a parameter is one value per channel, or one in all: alike in space."""
    return all(size == 1 for size in values.shape[1:])


def pure_scale(name: str, source: str, factor: Array) -> ChannelAffine:
    """Return a ChannelAffine without shift.

    Args:
        name: of the node.
        source: what it takes.
        factor: ready to broadcast, as broadcast_shapes allows.
    """
    shift = np.zeros((1,) * factor.ndim, np.float32)
    return ChannelAffine(name=name, inputs=(source,), scale=factor, shift=shift)


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
    """Return second(scale(x)), named after the second, as if it padded with nothing but zeros.

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
        """Input-channel values as each output channel's group sees them, [C_out, C_in/g, 1..]."""
        grouped = _per_channel(values, channels).reshape(second.groups, -1)
        seen = np.repeat(grouped, width_of_group, axis=0)
        return seen.reshape(*weight.shape[:2], *(1,) * len(second.kernel))

    moved = (weight * per_output(shift)).sum(axis=tuple(range(1, weight.ndim)))
    return replace(
        second,
        inputs=scale.inputs,
        weight=weight * per_output(factor),
        bias=second.bias + moved,
    )


def per_row(values: Array, weight: Array) -> Array:
    """Return one value per output channel, ready to broadcast over a weight."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))


def moved_behind(
    node: AvgPool | Flatten, first: Affine, shape: Shape, *, across_padding: bool = False
) -> Affine | None:
    """Return what has to follow node(x) to give node(first(x)), or None where nothing does.

    A mean over positions goes past what treats every position alike, and flattening past a
    ChannelAffine. The inputs are the ones of `first`.

    Args:
        node: to go first.
        first: what it takes.
        shape: of first(x).
        across_padding: take a constant past padded windows, where it is off by up to itself.
    """
    if isinstance(node, Flatten):
        if not isinstance(first, ChannelAffine):
            return None
        return replace(
            first, scale=_per_neuron(first.scale, shape), shift=_per_neuron(first.shift, shape)
        )
    padded = any(n for pair in node.padding for n in pair)
    if isinstance(first, ChannelAffine):
        alike = is_per_channel(first.scale) and is_per_channel(first.shift)
        constant = first.shift.any()
    elif isinstance(first, Conv):
        plain = (*first.kernel, *first.stride, *(1 + n for pair in first.padding for n in pair))
        alike, constant = all(n == 1 for n in plain), first.bias.any()
    else:
        return None
    return first if alike and not (padded and constant and not across_padding) else None


def composed(second: Node, first: Affine, shapes: tuple[Shape, Shape]) -> Node | None:
    """Return one node for second(first(x)), named after the second, or None where there is none.

    Zeros that the second node pads with are zeros, whatever the first would make of what lies
    beyond the border, so before padding the first must be one that keeps zeros, tap by tap.

    A ChannelAffine beside a convolution goes through the product of convolutions, which leaves out
    taps without weight; scale_outputs and scale_inputs keep the kernel as it is.

    Args:
        second: a node of one input.
        first: what it takes.
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
