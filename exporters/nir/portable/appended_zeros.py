"""Append zeros to an input, where its own convolution can't have a square kernel.

At stride 1, a kernel of size K with padding p on both sides makes L + 2 p - K + 1 places of L. So K
is odd where the length changes by an even number, else even; a convolution that needs both has no
square kernel. It has one on an input with more zeros, which two taps at distance e, with padding e,
append to either side of an axis:

    kernel [0 1]    a b c -> a b c 0 .. 0    e zeros after
    kernel [1 0]    a b c -> 0 .. 0 a b c    e zeros before

The zeros take the place of the padding that one side has more of, and make the kernel's size fit:

    x -> conv                                kernel (1, 2), padding ((0, 1), (0, 1))
    x -> two taps, e = (2, 1) -> conv        kernel (2, 2), no padding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from icsnn_deploy.exporters.nir.kernels import Embedding
from icsnn_deploy.graph.nodes import Conv, Shape


@dataclass(frozen=True)
class Zeros:
    """Zeros beside an image, on one side of each axis."""

    counts: Shape  # at least 1
    before: tuple[bool, ...]  # the side: before the image, or after it


def find_zeros(conv: Conv) -> tuple[Zeros, Embedding]:
    """The zeros to append, and the smallest square kernel that does the rest.

    Args:
        conv: of stride 1.
    """
    axes = range(len(conv.kernel))
    reach = [conv.dilation[i] * (conv.kernel[i] - 1) + 1 for i in axes]
    excess = [before - after for before, after in conv.padding]
    # an axis gets at least one zero: more padding on one side, or a tap that reads it
    size = max(reach[i] + (excess[i] == 0) for i in axes)
    zeros = Zeros(
        counts=tuple(abs(excess[i]) + size - reach[i] for i in axes),
        before=tuple(more > 0 for more in excess),
    )
    embedding = Embedding(
        kernel=(size,) * len(reach),
        padding=tuple(min(pair) for pair in conv.padding),
        dilation=(1,) * len(reach),
        offset=tuple(size - reach[i] if zeros.before[i] else 0 for i in axes),
        step=conv.dilation,
    )
    return zeros, embedding


def append_zeros(name: str, source: str, zeros: Zeros, channels: int, *, integer: bool) -> Conv:
    """The convolution that appends zeros to each channel of an image.

    Args:
        name: of the node.
        source: name of its input.
        zeros: to append.
        channels: of the input.
        integer: whether it is part of an integer network.
    """
    axes = len(zeros.counts)
    weight = np.zeros((channels, channels, *(2,) * axes), np.int8 if integer else np.float32)
    tap = tuple(0 if before else 1 for before in zeros.before)
    diagonal: tuple[Any, ...] = (np.arange(channels), np.arange(channels), *tap)
    weight[diagonal] = 1
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.zeros(channels, weight.dtype),
        stride=(1,) * axes,
        padding=tuple((count, count) for count in zeros.counts),
        dilation=zeros.counts,
    )
