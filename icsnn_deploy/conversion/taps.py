"""Where the taps of a window stand, as a convolution that has them: kernel size, padding, zeros.

A window is given by what it reads: output p takes x[stride * p + offset] for each of its offsets,
which may be negative or reach beyond the end; there x is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.nodes import Shape


@dataclass(frozen=True, kw_only=True)
class Window:
    """Along one axis: a kernel whose tap i reads x[stride * p + dilation * i - padding[0]]."""

    size: int
    dilation: int
    padding: tuple[int, int]
    first: int  # tap of the smallest offset; the ones before it, and behind the last, are zeros


def window(offsets: range, *, stride: int, length: int, positions: int) -> Window | None:
    """The smallest window with taps at these offsets and exactly so many positions.

    Args:
        offsets: what it reads, ascending.
        stride: of the window.
        length: of the axis.
        positions: outputs wanted.

    Returns:
        None where the offsets start inside the axis but not at a multiple of their step, or where
        no number of zeros gives that many positions.
    """
    step = offsets.step if len(offsets) > 1 else 1
    first, rest = (0, 0) if offsets[0] <= 0 else divmod(offsets[0], step)
    if rest:
        return None
    before = max(0, -offsets[0])
    size = first + len(offsets)
    found: list[Window] = []
    # As much behind as before, if that does it: every format can say that.
    for after in dict.fromkeys((before, _missing(size, step, stride, length + before, positions))):
        room = length + before + after
        longest = (room - stride * (positions - 1) - 1) // step + 1
        shortest = -(-(room - stride * positions) // step) + 1  # or there is room for one more
        if size <= longest and shortest <= longest:
            kernel = max(size, shortest)
            padding = (before, after)
            found.append(Window(size=kernel, dilation=step, padding=padding, first=first))
    return min(found, key=lambda one: one.size, default=None)


def _missing(size: int, step: int, stride: int, length: int, positions: int) -> int:
    """Zeros that the axis lacks behind for the last position."""
    return max(0, stride * (positions - 1) + step * (size - 1) + 1 - length)


def windows(
    offsets: tuple[range, ...], *, stride: Shape, lengths: Shape, positions: Shape
) -> tuple[Window, ...] | None:
    """A window for every axis, or None where one has none."""
    axes = zip(offsets, stride, lengths, positions, strict=True)
    found = [window(o, stride=s, length=n, positions=p) for o, s, n, p in axes]
    whole = tuple(one for one in found if one is not None)
    return whole if len(whole) == len(found) else None
