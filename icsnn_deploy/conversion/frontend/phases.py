"""Fine images as coarse ones with more channels, so that a plain convolution computes them.

An image [C, r1 G1, r2 G2] in phase layout is [C r1 r2, G1, G2]: channel (c, p1, p2) holds the
values at (r1 y + p1, r2 x + p2). That is the order of PixelShuffle, and each channel of a
convolution keeps its own phases together, so that groups stay groups. What upsampling, transposed
convolution and PixelShuffle make is computed in this layout.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Builder
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.selecting import check_weights
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Shape
from icsnn_deploy.passes.window import windows

MAX_PHASES = 4
MAX_PHASE_CHANNELS = 256
"""Phases that layers are computed in, at any number of channels, and channels in phase layout up to
which there may be more. A layer in r phases takes r times its arithmetic and r^2 times its weights;
beyond this, a fine image is put together by layers that select (see gather)."""


def most_phases(channels: int) -> int:
    """The phases in which an image of that many channels may be computed."""
    return max(MAX_PHASES, MAX_PHASE_CHANNELS // channels)


def to_phases(elements: Elements, phases: Shape) -> Elements:
    """The elements [C, *S] in phase layout [C * prod(phases), *ceil(S / phases)], zero padded."""
    if all(r == 1 for r in phases):
        return elements
    return elements.map(lambda array: _split(array, phases))


def _split(array: Array, phases: Shape) -> Array:
    rest = [(0, -n % r) for n, r in zip(array.shape[1:], phases, strict=True)]
    padded = np.pad(array, [(0, 0), *rest])
    shape = [len(padded)]
    for n, r in zip(padded.shape[1:], phases, strict=True):
        shape += [n // r, r]  # [C, G1, r1, G2, r2]
    axes = len(phases)
    order = (0, *(2 + 2 * axis for axis in range(axes)), *(1 + 2 * axis for axis in range(axes)))
    split = padded.reshape(shape).transpose(order)
    return split.reshape(-1, *split.shape[1 + axes :])


def from_phases(elements: Elements, phases: Shape, lengths: Shape) -> Elements:
    """The inverse of to_phases, cut to the lengths."""
    if all(r == 1 for r in phases):
        return elements

    def joined(array: Array) -> Array:
        axes = len(phases)
        shape = (-1, *phases, *array.shape[1:])
        order = [0]
        for axis in range(axes):
            order += [1 + axes + axis, 1 + axis]
        split = array.reshape(shape).transpose(order)
        fine = [n * r for n, r in zip(array.shape[1:], phases, strict=True)]
        return split.reshape(-1, *fine)[(slice(None), *(slice(n) for n in lengths))]

    return elements.map(joined)


@dataclass(frozen=True, kw_only=True)
class Taps:
    """What a layer reads along one axis: y[i] = sum_t weight[t] x[...] in phases.

    Args:
        phases_in: r of the input.
        phases_out: r of the result.
        stride: of the coarse convolution.
        reads: for each phase of the result its pairs (t, offset): tap t reads the fine position
            phases_in * stride * Y + offset at the coarse position Y.
    """

    phases_in: int
    phases_out: int
    stride: int
    reads: tuple[tuple[tuple[int, int], ...], ...]


def convolution_taps(size: int, stride: int, padding: int, dilation: int, phases: int) -> Taps:
    """Taps of a convolution: result i reads stride * i + dilation * t - padding."""
    common = int(np.gcd(phases, stride))
    out = phases // common
    reads = tuple(
        tuple((t, stride * q + dilation * t - padding) for t in range(size)) for q in range(out)
    )
    return Taps(phases_in=phases, phases_out=out, stride=stride // common, reads=reads)


def transposed_taps(size: int, stride: int, padding: int, dilation: int, phases: int) -> Taps:
    """Taps of a transposed convolution: position y adds to stride * y + dilation * t - padding."""
    out = phases * stride
    reads = tuple(
        tuple(
            (t, (q + padding - dilation * t) // stride)
            for t in range(size)
            if (q + padding - dilation * t) % stride == 0
        )
        for q in range(out)
    )
    return Taps(phases_in=phases, phases_out=out, stride=1, reads=reads)


def phase_conv(
    builder: Builder,
    source: str,
    weight: Array,
    bias: Array,
    taps: tuple[Taps, ...],
    lengths: Shape,
    *,
    groups: int,
    name: str,
) -> Conv:
    """The convolution on phase layouts.

    Args:
        builder: of the graph.
        source: node with the input in phase layout.
        weight: [O, I / groups, *kernel], of the fine images.
        bias: [O].
        taps: for each axis.
        lengths: of the fine result; positions beyond are computed, too, to fill the phases.
        groups: of the convolution.
        name: of the node.
    """
    offsets = [
        [offset // one.phases_in for reads in one.reads for _, offset in reads] or [0]
        for one in taps
    ]
    found = windows(
        tuple(range(min(own), max(own) + 1) for own in offsets),
        stride=tuple(one.stride for one in taps),
        lengths=builder.shapes[source][1:],
        positions=tuple(-(-n // one.phases_out) for n, one in zip(lengths, taps, strict=True)),
    )
    assert found is not None
    r_out, r_in = (
        tuple(one.phases_out for one in taps),
        tuple(one.phases_in for one in taps),
    )
    outputs, inputs = weight.shape[:2]
    size = tuple(one.size for one in found)
    check_weights(name, outputs, inputs, *r_out, *r_in, *size)
    full = np.zeros((outputs, *r_out, inputs, *r_in, *size))
    for phase in np.ndindex(*r_out):
        reads = [one.reads[q] for one, q in zip(taps, phase, strict=True)]
        for chosen in itertools.product(*reads):
            places = tuple(
                found[axis].first + offset // r_in[axis] - min(offsets[axis])
                for axis, (_, offset) in enumerate(chosen)
            )
            phase_in = tuple(offset % r for (_, offset), r in zip(chosen, r_in, strict=True))
            tap = tuple(t for t, _ in chosen)
            full[(slice(None), *phase, slice(None), *phase_in, *places)] += weight[(..., *tap)]
    return Conv(
        name=name,
        inputs=(source,),
        weight=full.reshape(outputs * int(np.prod(r_out)), inputs * int(np.prod(r_in)), *size),
        bias=np.repeat(bias, int(np.prod(r_out))),
        stride=tuple(one.stride for one in taps),
        padding=tuple(one.padding for one in found),
        dilation=(1,) * len(size),
        groups=groups,
    )


def without_outer_taps(conv: Conv, lengths: Shape) -> Conv:
    """A convolution of stride 1 without the first and last taps that read padding alone.

    Args:
        conv: the convolution; returned as it is where it has another stride.
        lengths: of the image that it reads.
    """
    if any(one != 1 for one in conv.stride):
        return conv
    weight, padding = conv.weight, []
    for axis, (length, (before, after)) in enumerate(zip(lengths, conv.padding, strict=True)):
        size = weight.shape[axis + 2]
        positions = length + before + after - size + 1
        places = np.arange(size)[:, None] + np.arange(positions) - before  # [taps, positions]
        useful = np.flatnonzero(((places >= 0) & (places < length)).any(axis=1))
        begin, end = int(useful[0]), int(useful[-1]) + 1
        weight = weight.take(range(begin, end), axis + 2)
        padding.append((before - begin, after - (size - end)))
    return replace(conv, weight=weight, padding=tuple(padding))
