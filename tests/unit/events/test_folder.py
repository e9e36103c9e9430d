"""Folders of recordings, with and without a folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import DataError
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.folder import bin_recordings, find_recordings, map_recordings

BINNING = EventBinning(time_steps=3, shape=(2, 4, 5))


def record(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    largest = {"t": 1000, "x": 5, "y": 4, "p": 2}
    columns: dict[str, Any] = {key: rng.integers(0, most, 30) for key, most in largest.items()}
    np.savez(path, **columns)


def test_recordings_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        record(tmp_path / f"{name}.npz", ord(name))
    (tmp_path / "readme.txt").write_text("not a recording")
    found = find_recordings(str(tmp_path))
    assert found is not None
    assert [path.name for path in found.paths] == ["a.npz", "b.npz", "c.npz"]
    assert found.labels is None
    assert [path.name for path in found.first(2).paths] == ["a.npz", "b.npz"]
    with pytest.raises(DataError, match="--limit 0"):
        found.first(0)


def test_folders_of_classes_take_turns_and_give_the_labels(tmp_path: Path) -> None:
    for name in ("one/a", "one/b", "one/c", "two/a", "zero/a", "zero/b"):
        record(tmp_path / f"{name}.npz", 0)
    (tmp_path / ".cache").mkdir()
    record(tmp_path / "two" / ".b.npz", 0)
    found = find_recordings(str(tmp_path))
    assert found is not None
    assert found.classes == ("one", "two", "zero")
    names = [f"{path.parent.name}/{path.stem}" for path in found.paths]
    assert names == ["one/a", "two/a", "zero/a", "one/b", "zero/b", "one/c"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 0, 2, 0]


def test_values_by_name_become_those_of_the_samples_in_turn(tmp_path: Path) -> None:
    for name in ("one/a", "one/b", "one/c", "two/a", "zero/a", "zero/b"):
        record(tmp_path / f"{name}.npz", 0)
    found = find_recordings(str(tmp_path))
    assert found is not None
    assert found.in_order(np.arange(6)).tolist() == [0, 3, 4, 1, 5, 2]
    with pytest.raises(DataError, match="5 labels for 6 recordings"):
        found.in_order(np.arange(5))


def test_a_class_without_recordings_is_refused_because_labels_would_shift(tmp_path: Path) -> None:
    record(tmp_path / "b" / "a.npz", 0)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"a: no recordings .* each folder is a class"):
        find_recordings(str(tmp_path))


def test_files_beside_folders_of_classes_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "a" / "a.npz", 0)
    for name in ("labels.npy", "stray.npz"):
        record(tmp_path / "stray.npz", 0)
        (tmp_path / "stray.npz").rename(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}: beside folders of recordings \(a\)"):
            find_recordings(str(tmp_path))
        (tmp_path / name).unlink()


def test_one_file_is_a_set_of_one(tmp_path: Path) -> None:
    record(tmp_path / "a.npz", 0)
    found = find_recordings(str(tmp_path / "a.npz"))
    assert found is not None
    assert len(found) == 1


def test_arrays_and_missing_paths_are_no_recordings(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 2, 2, 4, 5), np.uint8))
    for spec in (tmp_path, tmp_path / "a.npy", f"{tmp_path}/x.npz:images", tmp_path / "none"):
        assert find_recordings(str(spec)) is None


def test_other_arrays_among_recordings_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "a.npz", 0)
    np.save(tmp_path / "b.npy", np.zeros((3, 2, 2, 4, 5), np.uint8))
    with pytest.raises(DataError, match=r"b\.npy: no recording"):
        find_recordings(str(tmp_path))


def test_a_mapped_set_equals_the_one_in_memory(tmp_path: Path) -> None:
    for name in "abcd":
        record(tmp_path / f"{name}.npz", ord(name))
    found = find_recordings(str(tmp_path))
    assert found is not None
    mapped = map_recordings(found.paths, BINNING)
    assert mapped.shape == (3, 4, 2, 4, 5)
    assert mapped.dtype == np.uint8
    np.testing.assert_array_equal(mapped, bin_recordings(found.paths, BINNING))


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    record(tmp_path / "a.npz", 0)
    nine, one = np.array([9]), np.array([1])
    np.savez(tmp_path / "b.npz", t=nine, x=nine, y=nine, p=one)
    found = find_recordings(str(tmp_path))
    assert found is not None
    with pytest.raises(DataError, match=r"b\.npz: an event at x = 9, y = 9"):
        map_recordings(found.paths, BINNING)
