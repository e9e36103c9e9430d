"""Arrays, images and labels from files, and the normalization of pixels."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.data import (
    Normalization,
    array_shape,
    as_samples,
    check_finite,
    check_labels,
    load_archive,
    load_array,
    load_images,
    load_labels,
)
from icsnn_deploy.errors import DataError

RGB = Normalization(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_an_array_of_an_npz(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(2))
    found = load_array(f"{tmp_path}/data.npz:images")
    assert np.array_equal(found, images)
    assert found.dtype == np.uint8
    np.savez_compressed(tmp_path / "small.npz", images=images)
    assert np.array_equal(load_array(f"{tmp_path}/small.npz:images"), images)


def test_an_npy_is_mapped_not_read(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "data.npy", images)
    found = load_array(f"{tmp_path}/data.npy")
    assert np.array_equal(found, images)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable


def test_a_colon_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "run:1"
    folder.mkdir()
    np.save(folder / "data.npy", np.arange(3))
    np.savez(folder / "data.npz", a=np.arange(4))
    assert load_array(f"{folder}/data.npy").tolist() == [0, 1, 2]
    assert load_array(f"{folder}/data.npz:a").tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="name one of its arrays"):
        load_array(f"{folder}/data.npz")


def test_a_missing_name_lists_the_names(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros(1), labels=np.zeros(1))
    listed = f"it holds {path}:images, {path}:labels"
    for spec, wanted in [(f"{path}:image", "no array 'image'"), (f"{path}", "name one of its")]:
        with pytest.raises(DataError) as caught:
            load_array(spec)
        assert wanted in str(caught.value)
        assert listed in str(caught.value)


@pytest.mark.parametrize("name", ["data.txt", "data", "data.csv:x", "data.npy:x", ":", ""])
def test_other_kinds_of_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"give FILE\.npz:array or FILE\.npy"):
        load_array(f"{tmp_path}/{name}" if name else "")


@pytest.mark.parametrize("name", ["none.npy", "none.npz:x", f"{'n' * 300}.npy"])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no such file|File name too long"):
        load_array(f"{tmp_path}/{name}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "data.npz").mkdir()
    with pytest.raises(DataError, match="no such file"):
        load_array(f"{tmp_path}/data.npz:x")


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    objects = np.array([Touches(touched)], dtype=object)
    np.savez(tmp_path / "data.npz", x=objects)
    np.save(tmp_path / "data.npy", objects)
    (tmp_path / "raw.npy").write_bytes(objects.dumps())
    for spec in ("data.npz:x", "data.npy", "raw.npy"):
        with pytest.raises(DataError, match="without pickles"):
            load_array(f"{tmp_path}/{spec}")
    with pytest.raises(DataError, match="without pickles"):
        load_archive(tmp_path / "data.npz")
    assert not touched.exists()
    np.load(tmp_path / "data.npy", allow_pickle=True)  # the trap does work
    assert touched.exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_archives(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "data.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, x=np.random.default_rng(0).integers(0, 9, 3000))
    data = path.read_bytes()
    for length in [0, 1, 4, 30, len(data) // 2, len(data) - 22, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"data\.npz"):
            load_array(f"{path}:x")
    for start in range(0, len(data) - 200, max(1, len(data) // 20)):
        path.write_bytes(data[:start] + bytes([b ^ 0x5A for b in data[start : start + 100]]))
        with pytest.raises(DataError, match=r"data\.npz"):
            load_array(f"{path}:x")


def test_a_damaged_body_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 9, 3000))
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(DataError, match="not a readable array file"):
        load_array(f"{path}:x")


def test_damaged_npy_files(tmp_path: Path) -> None:
    path = tmp_path / "data.npy"
    np.save(path, np.zeros(100))
    data = path.read_bytes()
    for length in [0, 5, 10, 60, 128, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"data\.npy"):
            load_array(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(DataError, match=r"data\.npy"):
        load_array(str(path))


def test_a_header_that_declares_terabytes(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"
    header = header.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    (tmp_path / "data.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", data)
    for spec in ("data.npy", "data.npz:x"):
        with pytest.raises(DataError, match="not a readable array file"):
            load_array(f"{tmp_path}/{spec}")


def test_a_compression_method_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros(4))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = data.index(signature) + offset
        data[at : at + 2] = (99).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="NotImplementedError"):
        load_array(f"{path}:x")


def test_images_become_channels_first(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    np.save(tmp_path / "i.npy", images)
    found = load_images(f"{tmp_path}/i.npy", RGB)
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found[1, 2], images[1, :, :, 2])


def test_float_samples_are_taken_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.save(tmp_path / "i.npy", values)
    found = load_images(f"{tmp_path}/i.npy", None)
    assert found.dtype == np.float32
    assert np.array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize("kind", ["uint8", "int64", "bool", "complex64", "U3"])
def test_samples_without_normalization_must_be_floats(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 3), kind))
    with pytest.raises(DataError, match=r"float samples.*--mean and --std"):
        load_images(f"{tmp_path}/i.npy", None)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((4, 5, 3), "float32"), ((2, 4, 5, 3), "int16"), ((4, 5, 3), "uint8"), ((3,), "uint8")],
)
def test_pixels_must_be_uint8_images(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    np.save(tmp_path / "i.npy", np.zeros(shape, kind))
    with pytest.raises(DataError, match=r"or \[N, H, W, C\] are needed, uint8") as caught:
        load_images(f"{tmp_path}/i.npy", RGB)
    assert f"{kind} {list(shape)}" in str(caught.value)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_that_do_not_fit_mean_and_std(tmp_path: Path, channels: int) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 4, 5, channels), np.uint8))
    with pytest.raises(DataError, match=rf"{channels}\]; images .* C = 3 channels"):
        load_images(f"{tmp_path}/i.npy", RGB)


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_labels(tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "d.npz", labels=np.array([3, 1, 2], kind))
    found = load_labels(f"{tmp_path}/d.npz:labels", 2)
    assert found.tolist() == [3, 1, 2]
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    "labels",
    [np.array([1.0, 2.0]), np.zeros((2, 10), int), np.array([1]), np.array([True, False])],
    ids=["floats", "one-hot", "too few", "booleans"],
)
def test_labels_that_are_none(tmp_path: Path, labels: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "l.npy", labels)
    with pytest.raises(DataError, match=r"integers \[N\] for 2 samples"):
        load_labels(f"{tmp_path}/l.npy", 2)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([1, 0, 12, 3, 99], "sample 2 has class 12; 2 of 5 labels are not among"),
        ([1, 0, 2, -7, 0], "sample 3 has class -7; 1 of 5 labels"),
        ([-1] * 5, "sample 0 has class -1; 5 of 5 labels"),
        ([2**63 + 5] * 5, f"sample 0 has class {2**63 + 5}; 5 of 5 labels"),
        ([0] * 7, "7 labels for a data set of 6 samples"),
        ([0] * 4, "4 labels for 5 samples"),
        ([1.0] * 5, r"labels: float64 \[5\]; integers \[N\] are needed"),
        ([[1, 2]] * 5, r"labels: int64 \[5, 2\]; integers \[N\] are needed"),
    ],
)
def test_labels_say_which_is_wrong(y: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_labels(np.array(y), 5, samples=6, classes=10)


def test_labels_beyond_those_needed_are_not_looked_at() -> None:
    found = check_labels(np.array([1, 2, 300], np.uint64), 2, samples=3, classes=10)
    np.testing.assert_array_equal(found, [1, 2])
    assert found.dtype == np.int64


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_samples_that_float32_can_not_hold(value: float) -> None:
    samples = np.zeros((3, 2, 2))
    samples[2, 0, 1] = value
    with pytest.raises(DataError, match=r"s\.npy: (nan|inf) at \[2, 0, 1\], 1 such"):
        check_finite("s.npy", as_samples(samples, None))
    check_finite("s.npy", as_samples(samples[:2], None))


def test_normalization_of_pixels() -> None:
    pixels = np.array([[[0, 255]], [[0, 255]], [[0, 255]]], np.uint8)[None]
    expected = np.array([[[-1.0, 1.0]], [[-0.25, 0.75]], [[0.0, 0.5]]], np.float32)[None]
    assert np.array_equal(RGB.apply(pixels), expected)
    assert RGB.apply(pixels).dtype == np.float32
    with pytest.raises(DataError, match="2 channels"):
        RGB.apply(pixels[:, :2])


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((), ()),
        ((0.5,), (0.5, 0.5)),
        ((0.5,), (0.0,)),
        ((0.5,), (-1.0,)),
        ((np.nan,), (1.0,)),
        ((np.inf,), (1.0,)),
        ((123.7,), (58.4,)),
        ((0.5,), (np.inf,)),
    ],
)
def test_values_that_are_no_normalization(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(DataError):
        Normalization(mean=mean, std=std)


def test_all_arrays_of_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=np.arange(2), b=np.zeros((1, 1)))
    found = load_archive(tmp_path / "d.npz")
    assert {name: a.shape for name, a in found.items()} == {"a": (2,), "b": (1, 1)}


@pytest.mark.parametrize("content", [b"", b"text", b"PK"])
def test_an_entry_that_is_no_array(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x", content)
    with pytest.raises(DataError, match="x is no array"):
        load_array(f"{tmp_path}/data.npz:x")
    with pytest.raises(DataError, match="x is no array"):
        load_archive(tmp_path / "data.npz")


def test_a_negative_size(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -2), }".ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8)
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", data)
    for read in (load_array, array_shape):
        with pytest.raises(DataError, match="not a readable array file"):
            read(f"{tmp_path}/data.npz:x")


def test_an_archive_that_unfolds(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=np.zeros(140 * 2**20, np.uint8))
    with pytest.raises(DataError, match=r"x unfolds to 146,800,640 bytes.*np\.savez"):
        load_array(f"{path}:x")
    np.savez_compressed(path, x=np.zeros(2**20, np.uint8))  # quiet spikes are small, too
    assert not load_array(f"{path}:x").any()
