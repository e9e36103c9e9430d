"""Each connection as a call of a C function: which one, with which weights and sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.c import block_functions, functions
from icsnn_deploy.exporters.c.arrange import (
    MapSize,
    blocks_of,
    conv_taps,
    linear_rows,
    mirrored,
    per_channel_or_neuron,
)
from icsnn_deploy.exporters.c.plan import MOST_TOGETHER, Accumulator, Connection, Source
from icsnn_deploy.exporters.c.widths import Width, width_of_values
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear

LANES = (64, 32, 16)
"""Output channels of a block, the first that divides those of the connection."""

MOST_NEAR = 2**14
"""Weights of a tap that stay in the nearest cache, as 16 bits."""

MOST_CACHED = 2**16
"""Weights that stay near a processor from one spike to the next: a connection with more is run in
blocks, all steps at once."""

MOST_WIDE_SUMS = 2**18
"""Bytes of 32-bit sums, of all steps, for which a connection with fewer weights is run in blocks,
too: blocks add 8-bit weights in 16 bits first."""

_MOST_TAPS = 64  # pixels of a map that a Linear reads in blocks
_MOST_CHANNELS = 8192  # of them, so that the weights of a tap fit a stack


@dataclass(frozen=True, kw_only=True, eq=False)
class ConnectionCall:
    """What the program does for one connection.

    Args:
        kind: name of the function, without types.
        template: of the function.
        weight: in the order of the function; None for an identity.
        sizes: the arguments after the source; "in_c" is left out where spikes are read.
        about: one line for a comment.
        lanes: output channels of a block; 0 for a connection that is run step by step.
    """

    kind: str
    template: str
    weight: Array | None
    sizes: dict[str, int]
    about: str
    lanes: int = 0

    @property
    def weight_width(self) -> Width:
        """The type of the weights."""
        assert self.weight is not None, f"{self.kind} has no weights"
        return width_of_values(self.weight, self.kind)


def call_of(connection: Connection, target: Accumulator) -> ConnectionCall:
    """The call that adds a connection into an accumulator."""
    node, source = connection.node, connection.source
    match node:
        case Conv():
            return _conv(node, source, target)
        case Linear():
            return _linear(node, source, target)
        case ChannelAffine():
            return _scale(node, source)
        case None:
            sizes = {"pixels": source.size.pixels, "in_c": source.size.channels, **_steps(source)}
            about = "as a vector" if source.flattened else "identity"
            return ConnectionCall(
                kind="copy", template=functions.COPY, weight=None, sizes=sizes, about=about
            )


def runs_in_blocks(target: Accumulator) -> bool:
    """Whether a connection of the accumulator is run in blocks, for all steps at once."""
    return any(call_of(part, target).lanes for part in target.connections)


def _conv(node: Conv, source: Source, target: Accumulator) -> ConnectionCall:
    taps = conv_taps(node)
    _, kernel_h, kernel_w, group_out = taps.shape
    pads = [pair[0] for pair in node.padding]
    stride, dilation = list(node.stride), list(node.dilation)
    if len(pads) == 1:
        pads, stride, dilation = [0, *pads], [1, *stride], [1, *dilation]
    sizes = {
        **_map_sizes(source.size, target.size),
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "pad_h": pads[0],
        "pad_w": pads[1],
    }
    about = f"{source.size} -> {target.size}, kernel {kernel_h} x {kernel_w}"
    if source.window != (1, 1):
        about += f" on sums of {source.window[0]} x {source.window[1]}"
    steps = {"stride_h": stride[0], "stride_w": stride[1]}
    steps |= {"dilation_h": dilation[0], "dilation_w": dilation[1]}
    lanes = _lanes(taps, source, target) if node.groups == 1 else 0
    plain = node.groups == 1 and set(stride) == set(dilation) == {1}
    if not plain:
        about += f", stride {stride[0]} x {stride[1]}"
    if lanes:
        return _blocks(taps, lanes, {**sizes, **steps}, about)
    if plain:
        return ConnectionCall(
            kind="conv_rows",
            template=functions.ROWS,
            weight=mirrored(taps),
            sizes=sizes,
            about=about,
        )
    sizes |= steps
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


def _map_sizes(source: MapSize, target: MapSize) -> dict[str, int]:
    return {
        "in_h": source.height,
        "in_w": source.width,
        "in_c": source.channels,
        "out_h": target.height,
        "out_w": target.width,
        "out_c": target.channels,
    }


def _lanes(taps: Array, source: Source, target: Accumulator) -> int:
    """Output channels of a block; 0: not in blocks. taps: [C_in, ky, kx, C_out]."""
    fitting = [lanes for lanes in LANES if taps.shape[-1] % lanes == 0]
    near = [lanes for lanes in fitting if len(taps) * lanes <= MOST_NEAR]
    lanes = next(iter(near + fitting[::-1]), 0)
    if target.role != "population" or source.values is not None:
        return 0
    narrow = width_of_values(taps, target.name).bits == 8
    sums = 4 * target.size.neurons * MOST_TOGETHER
    wide = target.sum_width.bits == 32 and narrow and sums <= MOST_WIDE_SUMS
    return lanes if taps.size > MOST_CACHED or (wide and lanes > LANES[-1]) else 0


def _blocks(taps: Array, lanes: int, sizes: dict[str, int], about: str) -> ConnectionCall:
    return ConnectionCall(
        kind=f"conv_blocks{lanes}",
        template=block_functions.BLOCKS,
        weight=blocks_of(taps, lanes),
        sizes=sizes,
        about=about,
        lanes=lanes,
    )


def _linear(node: Linear, source: Source, target: Accumulator) -> ConnectionCall:
    size = source.size
    rows = linear_rows(node.weight, size)
    about = f"{size} -> {len(node.weight)}"
    # [P, C, F] -> [C, H, W, F]: a convolution whose kernel is the map
    taps = rows.reshape(size.height, size.width, *rows.shape[1:]).transpose(2, 0, 1, 3)
    lanes = (
        _lanes(taps, source, target)
        if size.pixels <= _MOST_TAPS and size.channels <= _MOST_CHANNELS
        else 0
    )
    if lanes:
        sizes = {
            **_map_sizes(size, target.size),
            "kernel_h": size.height,
            "kernel_w": size.width,
            **dict.fromkeys(("pad_h", "pad_w"), 0),
            **dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w"), 1),
        }
        return _blocks(taps, lanes, sizes, about)
    return ConnectionCall(
        kind="linear",
        template=functions.LINEAR,
        weight=rows,
        sizes={"pixels": size.pixels, "in_c": size.channels, "outputs": len(node.weight)},
        about=about,
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
