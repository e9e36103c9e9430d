"""Where the taps of a window stand, as a convolution that has them: kernel size, padding, zeros.

A window is given by what it reads: output p takes x[stride * p + offset] for each of its offsets,
which may be negative or reach beyond the end; there x is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.graph.nodes import Shape


@dataclass(frozen=True, kw_only=True)
class Window:
    """Along one axis: a kernel whose tap i reads x[stride * p + dilation * i - padding[0]]."""

    size: int
    dilation: int
    padding: tuple[int, int]
    first: int  # tap of the smallest offset; the ones before it, and behind the last, are zeros


def window(offsets: range, *, stride: int, length: int, positions: int) -> Window | None:
    """The smallest window with taps at these offsets and exactly so many positions.

    A kernel of k taps has them where

        stride * (positions - 1) <= length + padding - dilation * (k - 1) - 1 < stride * positions

    Args:
        offsets: what it reads, ascending.
        stride: of the window.
        length: of the axis.
        positions: outputs wanted.

    Returns:
        None where the offsets start inside the axis but not at a multiple of their step.
    """
    step = offsets.step if len(offsets) > 1 else 1
    first, rest = (0, 0) if offsets[0] <= 0 else divmod(offsets[0], step)
    if rest:
        return None
    before = max(0, -offsets[0])
    shortest = -(-(length + before - stride * positions) // step) + 1  # or there is one more
    size = max(first + len(offsets), shortest)
    least = stride * (positions - 1) + step * (size - 1) + 1 - length - before
    # As much behind as before, if that does it: every format can say that.
    after = before if least <= before < least + stride else max(0, least)
    return Window(size=size, dilation=step, padding=(before, after), first=first)


def windows(
    offsets: tuple[range, ...], *, stride: Shape, lengths: Shape, positions: Shape
) -> tuple[Window, ...] | None:
    """A window for every axis, or None where one has none."""
    axes = zip(offsets, stride, lengths, positions, strict=True)
    found = [window(o, stride=s, length=n, positions=p) for o, s, n, p in axes]
    whole = tuple(one for one in found if one is not None)
    return whole if len(whole) == len(found) else None
