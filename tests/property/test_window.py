"""The window of a convolution that reads given offsets, against reading them one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.passes.window import window, windows


def offsets() -> st.SearchStrategy[range]:
    def between(start: int, step: int, count: int) -> range:
        return range(start, start + step * (count - 1) + 1, step)

    return st.builds(between, st.integers(-4, 5), st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=300, deadline=None)
@given(offsets(), st.integers(1, 4), st.integers(1, 9), st.integers(1, 6))
def test_a_window_reads_its_offsets_and_is_the_smallest(
    wanted: range, stride: int, length: int, positions: int
) -> None:
    step = wanted.step if len(wanted) > 1 else 1
    found = window(wanted, stride=stride, length=length, positions=positions)
    if wanted[0] > 0 and wanted[0] % step:
        assert found is None
        return
    assert found is not None
    x = np.arange(1, length + 1)
    before, after = found.padding
    padded = np.concatenate([np.zeros(before, int), x, np.zeros(after, int)])

    def count(size: int, room: int) -> int:
        return (room - found.dilation * (size - 1) - 1) // stride + 1

    assert count(found.size, len(padded)) == positions
    for p in range(positions):
        for tap, offset in enumerate(wanted, start=found.first):
            place = stride * p + offset
            inside = x[place] if 0 <= place < length else 0
            assert padded[stride * p + found.dilation * tap] == inside
    smaller = range(found.first + len(wanted), found.size)
    enough = range(length + before, length + before + 40)
    assert not any(count(size, room) == positions for size in smaller for room in enough)


def test_padding_is_even_where_that_is_as_small() -> None:
    (found,) = windows((range(-1, 2),), stride=(2,), lengths=(8,), positions=(4,)) or ()
    assert (found.size, found.padding) == (3, (1, 1))


def test_all_axes_or_none() -> None:
    fits, not_on_the_grid = range(3), range(1, 4, 2)
    arguments = {"stride": (1, 1), "lengths": (5, 5), "positions": (3, 2)}
    assert windows((fits, fits), **arguments) is not None
    assert windows((fits, not_on_the_grid), **arguments) is None
