"""Samples and labels in files, and whether they fit."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.samples import open_labels, open_samples
from tests.support.evaluating import data


def test_a_folder_of_arrays_is_one_data_set(tmp_path: Path) -> None:
    x, y = data(tmp_path, 10)
    for kind in ("npy", "npz"):
        folder = tmp_path / kind
        folder.mkdir()
        for number, (start, stop) in enumerate([(0, 3), (3, 4), (4, 10)]):
            if kind == "npy":
                np.save(folder / f"part{number}.npy", x[start:stop])
            else:
                np.savez(folder / f"part{number}.npz", x=x[start:stop], y=y[start:stop])
    for spec in (f"{tmp_path}/npy", f"{tmp_path}/npz:x", f"{tmp_path}/x.npy"):
        given = open_samples(spec)
        assert len(given) == 10
        for start, stop in [(0, 10), (2, 5), (3, 4), (9, 10)]:
            np.testing.assert_array_equal(given.read(start, stop), x[start:stop])
    np.testing.assert_array_equal(open_labels(f"{tmp_path}/npz:y"), y)


def test_pixels_become_channels_first(tmp_path: Path) -> None:
    from icsnn_deploy.data import Normalization

    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 2), np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels)
    two = Normalization(mean=(0.5, 0.5), std=(1.0, 1.0))
    found = open_samples(f"{tmp_path}/a.npz:x", normalization=two).read(1, 4)
    np.testing.assert_array_equal(found, np.moveaxis(pixels[1:4], 3, 1))
    with pytest.raises(DataError, match="C = 1 channels"):
        open_samples(f"{tmp_path}/a.npz:x", normalization=Normalization(mean=(0.5,), std=(1.0,)))


def test_files_that_do_not_fit_each_other(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((2, 4), np.float32))
    with pytest.raises(DataError, match=r"b\.npy: float32 samples \[4\]"):
        open_samples(str(tmp_path))


@pytest.mark.parametrize("spec", ["", "nothing.npy", "x.npz", "empty", "empty:x", "a" * 5000])
def test_names_that_are_no_data(tmp_path: Path, spec: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        open_samples(str(tmp_path / spec) if spec and len(spec) < 99 else spec)


@pytest.mark.parametrize("y", [[0.0, 1.0, 2.0], [[0, 1, 2]], [True, False], 3])
def test_files_that_hold_no_labels(tmp_path: Path, y: Any) -> None:
    np.save(tmp_path / "y.npy", np.array(y))
    with pytest.raises(DataError, match=r"y\.npy: .*; integers \[N\] are needed"):
        open_labels(str(tmp_path / "y.npy"))


def test_labels_of_several_types(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2], np.uint64))
    np.save(tmp_path / "b.npy", np.array([3, -1], np.int64))
    found = open_labels(str(tmp_path))
    assert (found.tolist(), found.dtype.name) == ([1, 2, 3, -1], "int64")


@pytest.mark.parametrize("axis", [0, 1])
def test_a_blank_sample_is_as_those_of_the_file(tmp_path: Path, axis: int) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 4, 5), np.uint8))
    found = open_samples(f"{tmp_path}/x.npy", axis=axis, whole=True)
    blank, first = found.blank(), found.read(0, 1)
    assert (blank.shape, blank.dtype, blank.max()) == (first.shape, first.dtype, 0)


@pytest.mark.parametrize("shape", [(1,) * 70, (4, 2**40), (2, 0, 2**62, 2**62), (4, 3)])
def test_a_shape_that_the_array_of_an_archive_can_not_have(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """The header alone is read here; what it declares is compared with what is there."""
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue() + bytes(4 if 0 not in shape else 0))
    with pytest.raises(DataError, match=r"a\.npz: not a readable array file"):
        open_samples(f"{tmp_path}/a.npz:x")
