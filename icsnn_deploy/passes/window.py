"""Find the kernel size, dilation and padding of a window with given taps.

A window is given by the offsets that it reads: output p reads x[stride * p + offset] for each of
them. Offsets may be negative or beyond the end; there x is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.graph.nodes import Shape


@dataclass(frozen=True, kw_only=True)
class Window:
    """One axis of a kernel whose tap i reads x[stride * p + dilation * i - padding[0]]."""

    size: int
    dilation: int
    padding: tuple[int, int]
    first: int  # tap of the smallest offset; taps before it, and after the last, are zeros


def window(offsets: range, *, stride: int, length: int, positions: int) -> Window | None:
    """The smallest window with taps at these offsets and exactly this number of positions.

    A kernel of k taps has that number if

        stride * (positions - 1) <= length + padding - dilation * (k - 1) - 1 < stride * positions

    Args:
        offsets: that the window reads, ascending.
        stride: of the window.
        length: of the axis.
        positions: number of outputs.

    Returns:
        the window; None if the offsets start inside the axis but not at a multiple of their step.
    """
    step = offsets.step if len(offsets) > 1 else 1
    first, rest = (0, 0) if offsets[0] <= 0 else divmod(offsets[0], step)
    if rest:
        return None
    before = max(0, -offsets[0])
    shortest = -(-(length + before - stride * positions) // step) + 1  # or there is one more
    size = max(first + len(offsets), shortest)
    least = stride * (positions - 1) + step * (size - 1) + 1 - length - before
    # Symmetric if possible, because every format supports that.
    after = before if least <= before < least + stride else max(0, least)
    return Window(size=size, dilation=step, padding=(before, after), first=first)


def windows(
    offsets: tuple[range, ...], *, stride: Shape, lengths: Shape, positions: Shape
) -> tuple[Window, ...] | None:
    """The windows of all axes, or None if one axis has none."""
    axes = zip(offsets, stride, lengths, positions, strict=True)
    candidates = [window(o, stride=s, length=n, positions=p) for o, s, n, p in axes]
    exact = tuple(candidate for candidate in candidates if candidate is not None)
    return exact if len(exact) == len(candidates) else None
