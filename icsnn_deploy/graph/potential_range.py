"""The range of a population's potential after any number of steps, without running them.

With soft reset, a current of at least i_low and at most i_high, and thresholds from `smallest` to
`largest`, the least and the largest potential after a step are

    low'  = k(low + i_low, 0, largest),   high' = k(high + i_high, largest, smallest)
    k(u, c, w) = max(u - w, min(u, c))

Below c a potential moves by the current alone, above c + w by the current minus w, and between them
it becomes c. It passes from one of these to another a few times at most; between, it moves in steps
of one size, which are taken together. With hard reset,

    low' = min(low + i_low, r_low),   high' = max(min(high + i_high, largest), r_high)

The maps are monotone, so that each potential only rises or only falls over the steps: its extremes
are at the first and at the last.
"""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.neuron import Array

Span = tuple[Array, Array]
"""Least and largest values, of arrays that broadcast."""


def largest_potential(
    start: Span, current: Span, threshold: Span, reset: Span | None = None, *, steps: int
) -> float:
    """The largest magnitude of u and v over the steps, v_init included.

    Args:
        start: of v_init.
        current: of one step, the same at every step.
        threshold: of v_threshold, > 0.
        reset: of v_reset; None: soft reset.
        steps: T >= 1.
    """

    def after(count: int) -> Span:
        if count == 0:
            return start
        if reset is None:
            zero = np.zeros_like(threshold[1])
            return (
                after_soft(start[0], current[0], zero, threshold[1], count),
                after_soft(start[1], current[1], threshold[1], threshold[0], count),
            )
        return (
            after_hard_low(start[0], current[0], reset[0], count),
            after_hard_high(start[1], current[1], threshold[1], reset[1], count),
        )

    reach = 0.0
    for count in {0, steps - 1}:
        for before, added, then in zip(after(count), current, after(count + 1), strict=True):
            reach = max(reach, *(float(np.abs(v).max()) for v in (before, before + added, then)))
    return reach


def after_soft(x: Array, current: Array, c: Array, w: Array, steps: int) -> Array:
    """x' = k(x + current, c, w), `steps` times; float64 arrays that broadcast, w > 0."""
    x, current, c, w = np.broadcast_arrays(x, current, c, w)
    x = x.astype(np.float64)
    left = np.full(x.shape, steps, np.int64)
    while left.any():
        u = x + current
        below, above = u < c, u >= c + w
        move = np.where(below, current, current - w)
        # The distance to the border that it moves towards; none where it moves away from both.
        distance = np.where(below, c - u, u - (c + w))
        towards = np.where(below, current, w - current)
        together = np.where(towards > 0, distance / np.where(towards > 0, towards, 1), np.inf)
        count = np.clip(np.floor(together), 1, left)
        moved = x + count * move
        fixed = (x == c) & ~below & ~above  # it stays there
        x = np.where(left == 0, x, np.where(below | above, moved, c))
        taken = np.where(fixed, left, np.where(below | above, count, 1)).astype(np.int64)
        left = left - np.minimum(taken, left)
    return x


def after_hard_low(x: Array, current: Array, reset: Array, steps: int) -> Array:
    """x' = min(x + current, reset), `steps` >= 1 times."""
    least: Array = np.minimum(x + steps * current, reset + np.minimum((steps - 1) * current, 0))
    return least


def after_hard_high(x: Array, current: Array, largest: Array, reset: Array, steps: int) -> Array:
    """x' = max(min(x + current, largest), reset), `steps` >= 1 times."""

    def moved(start: Array, count: int) -> Array:
        """Without the reset: it rises to `largest`, or falls from there."""
        result: Array = np.minimum(
            start + count * current, largest + np.minimum((count - 1) * current, 0)
        )
        return result

    risen: Array = np.maximum(moved(x, steps), reset)
    return np.maximum(risen, moved(reset, steps - 1)) if steps > 1 else risen
