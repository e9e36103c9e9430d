"""Embed a convolution in one with symmetric padding, a square kernel and one group.

The type checker of nir 1.0.8 takes the first kernel size for both axes, and weight.shape[1] for
the number of input channels: a non-square kernel gets a wrong output shape, and a grouped
convolution builds but can't be read back. What is left is a dense, square kernel with symmetric
padding; any other convolution is embedded in such a one, with zeros around its taps:

    padding (0, 1), kernel [a b]        ->  padding 1, kernel [0 a b]
    padding (1, 0), kernel [a b]        ->  padding 1, kernel [a b 0]
    padding (0, 1), kernel [a b] at dilation 2  ->  padding 1, kernel [0 a 0 b] at dilation 1
    groups 2                            ->  zeros off the diagonal blocks
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Shape


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Position of the taps in the written kernel: tap k of axis i at offset[i] + step[i] * k."""

    kernel: Shape  # of the written convolution
    padding: Shape  # symmetric
    dilation: Shape
    offset: Shape
    step: Shape

    def slices(self, kernel: Shape) -> tuple[slice, ...]:
        """The part of the written kernel that holds the taps of a kernel of this size."""
        return tuple(
            slice(offset, offset + step * (size - 1) + 1, step)
            for offset, step, size in zip(self.offset, self.step, kernel, strict=True)
        )


def find_embedding(conv: Conv, lengths: Shape, positions: Shape) -> Embedding | None:
    """The smallest square kernel with symmetric padding that gives the same result, if any.

    There is none where one axis needs an even and the other an odd size (stride 1).

    Args:
        conv: the convolution; only its padding before counts, what lies beyond is zero.
        lengths: spatial shape of its input.
        positions: spatial shape of its result.
    """
    axes = range(len(lengths))
    reach = [conv.dilation[i] * (conv.kernel[i] - 1) + 1 for i in axes]
    most = max(reach[i] + abs(conv.padding[i][0] - conv.padding[i][1]) for i in axes) + 1
    for size in range(max(conv.kernel), most + 1):
        fits = [_fit(conv, i, lengths[i], positions[i], size) for i in axes]
        found = [fit for fit in fits if fit is not None]
        if len(found) == len(lengths):
            padding, dilation, offset, step = zip(*found, strict=True)
            return Embedding(
                kernel=(size,) * len(lengths),
                padding=padding,
                dilation=dilation,
                offset=offset,
                step=step,
            )
    return None


def _fit(
    conv: Conv, axis: int, length: int, positions: int, size: int
) -> tuple[int, int, int, int] | None:
    """(padding, dilation, offset, step) on one axis for a written kernel of this size, or None."""
    for dilation in dict.fromkeys((conv.dilation[axis], 1)):
        step = conv.dilation[axis] // dilation
        span = step * (conv.kernel[axis] - 1) + 1
        for offset in range(size - span + 1):
            padding = conv.padding[axis][0] + offset * dilation
            room = length + 2 * padding - dilation * (size - 1) - 1
            if room >= 0 and room // conv.stride[axis] + 1 == positions:
                return padding, dilation, offset, step
    return None


def embed(conv: Conv, embedding: Embedding) -> Array:
    """The weight to write: dense over channels, the taps where the embedding says."""
    per_group = conv.weight.shape[1]
    width = conv.weight.shape[0] // conv.groups
    shape = (conv.weight.shape[0], per_group * conv.groups, *embedding.kernel)
    weight = np.zeros(shape, conv.weight.dtype)
    for group in range(conv.groups):
        rows = slice(group * width, (group + 1) * width)
        columns = slice(group * per_group, (group + 1) * per_group)
        weight[(rows, columns, *embedding.slices(conv.kernel))] = conv.weight[rows]
    return weight


def extract(weight: Array, embedding: Embedding, kernel: Shape, groups: int) -> Array | None:
    """The weight that `embed` was given; None if any value other than its taps is not zero."""
    taps = weight[(slice(None), slice(None), *embedding.slices(kernel))]
    outputs, inputs = taps.shape[:2]
    width, per_group = outputs // groups, inputs // groups
    blocks = [
        taps[group * width : (group + 1) * width, group * per_group : (group + 1) * per_group]
        for group in range(groups)
    ]
    original: Array = np.concatenate(blocks)
    return original if np.count_nonzero(original) == np.count_nonzero(weight) else None
