"""Events become the spikes of T steps: of equal duration, or with equal numbers of events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.errors import DataError
from icsnn_deploy.events.binning import EventBinning, EventBins
from icsnn_deploy.events.recording import Events, as_events


def events(t: list[Any], x: Any = 0, y: Any = 0, p: Any = 1) -> Events:
    columns = {"x": x, "y": y, "p": p}
    whole = {key: np.broadcast_to(value, len(t)).astype(int) for key, value in columns.items()}
    return as_events({"t": np.array(t), **whole}, "a.npz")


def steps(t: list[Any], time_steps: int, bins: EventBins = "duration") -> list[int]:
    binning = EventBinning(time_steps=time_steps, shape=(2, 1, 1), bins=bins)
    found: list[int] = binning.step_of(events(t)).tolist()
    return found


def test_steps_of_equal_duration_by_hand() -> None:
    assert steps([100, 101, 102, 103, 104, 105, 106, 107], 4) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert steps([0, 1, 99], 4) == [0, 0, 3]
    assert steps([7], 4) == [0]
    assert steps([5, 5, 5], 2) == [0, 0, 0]


def test_steps_with_equal_numbers_of_events_by_hand() -> None:
    assert steps([0, 1, 2, 900, 901, 902], 3, "count") == [0, 0, 1, 1, 2, 2]
    assert steps([0, 1], 4, "count") == [0, 2]


def test_times_in_seconds_and_of_any_size() -> None:
    assert steps([0.0, 0.3, 0.6, 0.9], 3) == [0, 1, 2, 2]
    assert steps([0, 2**61], 8) == [0, 7]


@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20),
    st.integers(1, 12),
    st.sampled_from(["duration", "count"]),
)
def test_every_event_has_a_step_and_they_ascend(t: list[int], count: int, bins: EventBins) -> None:
    found = steps(t, count, bins)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] < count
    first, last = min(t), max(t)
    if bins == "duration":
        assert found == [(at - first) * count // (last - first + 1) for at in sorted(t)]


def test_a_spike_is_a_pixel_with_at_least_one_event() -> None:
    found = events([0, 1, 2, 9], x=[1, 1, 2, 0], y=[0, 0, 1, 1], p=[1, 1, 0, 1])
    spikes = EventBinning(time_steps=2, shape=(2, 2, 3)).spikes(found)
    assert spikes.shape == (2, 2, 2, 3)
    assert spikes.dtype == np.uint8
    expected = np.zeros((2, 2, 2, 3), np.uint8)
    expected[0, 1, 0, 1] = expected[0, 0, 1, 2] = expected[1, 1, 1, 0] = 1
    np.testing.assert_array_equal(spikes, expected)
    one = EventBinning(time_steps=2, shape=(1, 2, 3)).spikes(found)
    np.testing.assert_array_equal(one, expected.max(axis=1, keepdims=True))


def test_events_outside_the_input_are_refused() -> None:
    binning = EventBinning(time_steps=2, shape=(2, 2, 3))
    with pytest.raises(DataError, match=r"a\.npz: an event at x = 3, y = 0, outside the 3 x 2"):
        binning.spikes(events([0, 1], x=[0, 3]), "a.npz")
    with pytest.raises(DataError, match="y = 2"):
        binning.spikes(events([0], y=2))


@pytest.mark.parametrize(
    ("shape", "bins", "message"),
    [
        ((3, 4, 4), "duration", r"shape \[3, 4, 4\]: \[2, H, W\]"),
        ((2, 4), "duration", r"\[2, H, W\]"),
        ((2, 4, 4), "gaps", "'gaps': duration or count"),
    ],
)
def test_other_inputs_and_ways_are_refused(shape: Any, bins: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        EventBinning(time_steps=2, shape=shape, bins=bins)
