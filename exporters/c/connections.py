"""Each connection as a call of a C function: which one, with which weights and sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.c import functions
from icsnn_deploy.exporters.c.arrange import (
    MapSize,
    conv_taps,
    linear_rows,
    mirrored,
    per_channel_or_neuron,
)
from icsnn_deploy.exporters.c.plan import Connection, Source
from icsnn_deploy.exporters.c.widths import Width, width_of_values
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear


@dataclass(frozen=True, kw_only=True, eq=False)
class ConnectionCall:
    """What the program does for one connection.

    Args:
        kind: name of the function, without types.
        template: of the function.
        weight: in the order of the function; None for an identity.
        sizes: the arguments after the source; "in_c" is left out where spikes are read.
        about: one line for a comment.
    """

    kind: str
    template: str
    weight: Array | None
    sizes: dict[str, int]
    about: str

    @property
    def weight_width(self) -> Width:
        """The type of the weights."""
        assert self.weight is not None, f"{self.kind} has no weights"
        return width_of_values(self.weight, self.kind)


def call_of(connection: Connection, target: MapSize) -> ConnectionCall:
    """The call that adds a connection into an accumulator of size `target`."""
    node, source = connection.node, connection.source
    match node:
        case Conv():
            return _conv(node, source.size, target)
        case Linear():
            return _linear(node, source)
        case ChannelAffine():
            return _scale(node, source)
        case None:
            sizes = {"pixels": source.size.pixels, "in_c": source.size.channels, **_steps(source)}
            about = "as a vector" if source.flattened else "identity"
            return ConnectionCall(
                kind="copy", template=functions.COPY, weight=None, sizes=sizes, about=about
            )


def _conv(node: Conv, source: MapSize, target: MapSize) -> ConnectionCall:
    taps = conv_taps(node)
    _, kernel_h, kernel_w, group_out = taps.shape
    pads = [pair[0] for pair in node.padding]
    stride, dilation = list(node.stride), list(node.dilation)
    if len(pads) == 1:
        pads, stride, dilation = [0, *pads], [1, *stride], [1, *dilation]
    sizes = {
        "in_h": source.height,
        "in_w": source.width,
        "in_c": source.channels,
        "out_h": target.height,
        "out_w": target.width,
        "out_c": target.channels,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "pad_h": pads[0],
        "pad_w": pads[1],
    }
    about = f"{source} -> {target}, kernel {kernel_h} x {kernel_w}"
    if node.groups == 1 and set(stride) == set(dilation) == {1}:
        return ConnectionCall(
            kind="conv_rows",
            template=functions.ROWS,
            weight=mirrored(taps),
            sizes=sizes,
            about=about,
        )
    sizes |= {"stride_h": stride[0], "stride_w": stride[1]}
    sizes |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    about += f", stride {stride[0]} x {stride[1]}"
    if node.groups == 1:
        return ConnectionCall(
            kind="conv_taps", template=functions.TAPS, weight=taps, sizes=sizes, about=about
        )
    sizes |= {"group_in": node.weight.shape[1], "group_out": group_out}
    return ConnectionCall(
        kind="conv_groups",
        template=functions.GROUPS,
        weight=taps,
        sizes=sizes,
        about=f"{about}, {node.groups} groups",
    )


def _linear(node: Linear, source: Source) -> ConnectionCall:
    size = source.size
    sizes = {"pixels": size.pixels, "in_c": size.channels, "outputs": len(node.weight)}
    return ConnectionCall(
        kind="linear",
        template=functions.LINEAR,
        weight=linear_rows(node.weight, size),
        sizes=sizes,
        about=f"{size} -> {len(node.weight)}",
    )


def _scale(node: ChannelAffine, source: Source) -> ConnectionCall:
    size = source.size
    shape = (size.neurons,) if source.flattened else None
    per_neuron = node.scale.size > 1 and node.scale.size == size.neurons and size.pixels > 1
    weight: Array
    if per_neuron:  # in the order (C, P) also of a vector that was a map
        weight = np.ascontiguousarray(node.scale.reshape(size.channels, size.pixels).T)
    else:
        weight = per_channel_or_neuron(node.scale, shape or (size.channels, 1))
        weight = weight[: size.channels]  # of a vector, one value for all
    sizes = {
        "pixels": size.pixels,
        "in_c": size.channels,
        "weight_step": size.channels if per_neuron else 0,
        **_steps(source),
    }
    return ConnectionCall(
        kind="scale",
        template=functions.SCALE,
        weight=weight,
        sizes=sizes,
        about=f"{size}, diagonal",
    )


def _steps(source: Source) -> dict[str, int]:
    size = source.size
    if source.flattened:
        return {"pixel_step": 1, "channel_step": size.pixels}
    return {"pixel_step": size.channels, "channel_step": 1}
