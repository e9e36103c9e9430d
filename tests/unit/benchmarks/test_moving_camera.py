"""The simulated event camera: what it sends follows from what it sees, and from the seed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.events.folder import find_recordings
from icsnn_deploy.events.recording import read_recording


@pytest.fixture(scope="module")
def simulation() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        return importlib.import_module("moving_camera")


def bar() -> Any:
    """A vertical bar: events at its left and right edges."""
    image = np.zeros((1, 8, 8))
    image[:, :, 3:5] = 1
    return image


def test_the_seed_decides_every_event(simulation: Any) -> None:
    camera = simulation.Camera()
    (one,), (same,), (other,) = (camera.record(bar(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert len(one) != len(other) or (one != other).any()


def test_a_camera_without_noise_sees_nothing_in_the_dark(simulation: Any) -> None:
    camera = simulation.Camera(noise=0)
    (events,) = camera.record(np.zeros((1, 8, 8)), 0)
    assert len(events) == 0


def test_every_event_is_a_change_of_one_threshold(simulation: Any) -> None:
    camera = simulation.Camera(noise=0, mismatch=0, threshold=0.4)
    (events,) = camera.record(bar(), 0)
    assert len(events) > 100
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][-1] < simulation.DURATION_US
    # The camera ends where it began: what a pixel sent cancels, up to one threshold.
    total = np.zeros((simulation.SENSOR, simulation.SENSOR), int)
    np.add.at(total, (events["y"], events["x"]), 2 * events["p"].astype(int) - 1)
    assert np.abs(total).max() <= 1
    # Rows in the middle of the bar see the same; far from it nothing changes.
    upper, lower = (np.sort(events[["x", "p"]][events["y"] == y]) for y in (9, 10))
    np.testing.assert_array_equal(upper, lower)
    assert not np.isin(events["x"], [0, simulation.SENSOR - 1]).any()


def test_recordings_are_saved_by_class(simulation: Any, tmp_path: Path) -> None:
    recordings = simulation.Camera().record(np.repeat(bar(), 3, axis=0), 0)
    simulation.save_recordings(tmp_path, recordings, np.array([7, 2, 7]))
    found = find_recordings(str(tmp_path))
    assert found is not None
    assert found.classes == ("2", "7")
    assert len(read_recording(tmp_path / "2" / "00001.npy")) == len(recordings[1])
