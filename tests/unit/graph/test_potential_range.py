"""Bounds of potentials after T steps are those that running the T steps gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.graph.limits import MAX_TIME_STEPS
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.potential_range import largest_potential

numbers = st.integers(-40, 40) | st.integers(-100_000, 100_000)
positive = st.integers(1, 40) | st.integers(1, 100_000)


def pair(values: list[int], shift: float = 0.0) -> tuple[Array, Array]:
    low, high = sorted(values)
    return np.array([[low + shift]]), np.array([[high + shift]])


def stepped(
    start: tuple[Array, Array],
    current: tuple[Array, Array],
    threshold: tuple[Array, Array],
    reset: tuple[Array, Array] | None,
    steps: int,
) -> float:
    """The same by running the steps."""
    low, high = start
    reach = [low, high]
    for _ in range(steps):
        u_low, u_high = low + current[0], high + current[1]
        if reset is None:
            low = np.minimum(u_low, np.maximum(u_low - threshold[1], 0))
            high = np.maximum(u_high - threshold[0], np.minimum(u_high, threshold[1]))
        else:
            low = np.minimum(u_low, reset[0])
            high = np.maximum(np.minimum(u_high, threshold[1]), reset[1])
        reach += [u_low, u_high, low, high]
    return float(max(np.abs(value).max() for value in reach))


@given(
    st.lists(numbers, min_size=2, max_size=2),
    st.lists(numbers, min_size=2, max_size=2),
    st.lists(positive, min_size=2, max_size=2),
    st.none() | st.lists(numbers, min_size=2, max_size=2),
    st.integers(1, 70),
)
def test_it_is_what_running_the_steps_gives(
    start: list[int],
    current: list[int],
    threshold: list[int],
    reset: list[int] | None,
    steps: int,
) -> None:
    values = (
        pair(start, 0.5),
        pair(current),
        pair(threshold),
        None if reset is None else pair(reset, 0.5),
    )
    assert largest_potential(*values, steps=steps) == stepped(*values, steps)


def test_it_is_also_at_the_most_steps() -> None:
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.integers(-500, 500, (2, 4, 1)), axis=0).astype(np.float64)
    smallest, largest = np.sort(rng.integers(1, 300, (2, 4, 1)), axis=0).astype(np.float64)
    spans = ((np.full(1, 0.5), np.full(1, 90.5)), (low, high), (smallest, largest))
    expected = stepped(*spans, None, MAX_TIME_STEPS)
    assert largest_potential(*spans, steps=MAX_TIME_STEPS) == expected
