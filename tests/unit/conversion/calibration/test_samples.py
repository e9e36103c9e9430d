"""Every source of calibration samples ends as one array in a fixed order."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array


def images(count: int = 10) -> Array:
    """Sample i holds the number i."""
    return np.broadcast_to(np.arange(count).reshape(-1, 1, 1, 1), (count, 2, 3, 3)).astype("f4")


def batches(size: int = 4) -> Iterator[Array]:
    """A generator: one pass, then nothing."""
    whole = images()
    yield from (whole[start : start + size] for start in range(0, len(whole), size))


def test_an_array_is_used_where_it_lies() -> None:
    for source in (images(), (images() * 20).astype(np.uint8)):
        held = CalibrationSet.of(source)
        assert np.shares_memory(held.samples, source)
        assert len(held) == 10


def test_a_mapped_file_is_not_read_into_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", images())
    mapped = np.load(tmp_path / "samples.npy", mmap_mode="r")
    assert isinstance(CalibrationSet.of(mapped).samples, np.memmap)


def test_a_tensor_is_used_where_it_lies() -> None:
    tensor = torch.from_numpy(images())
    held = CalibrationSet.of(tensor)
    assert np.shares_memory(held.samples, tensor.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_float_becomes_float32(dtype: torch.dtype) -> None:
    held = CalibrationSet.of(torch.from_numpy(images()).to(dtype))
    assert held.samples.dtype == np.float32
    np.testing.assert_array_equal(held.samples, images())


def test_a_tensor_that_requires_gradients_is_detached() -> None:
    held = CalibrationSet.of(torch.from_numpy(images()).requires_grad_())
    np.testing.assert_array_equal(held.samples, images())


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_integers_stay_what_they_are(dtype: str) -> None:
    assert CalibrationSet.of(images().astype(dtype)).samples.dtype == dtype
    spooled = CalibrationSet.of(batch.astype(dtype) for batch in batches())
    assert spooled.samples.dtype == dtype
    np.testing.assert_array_equal(spooled.samples, images().astype(dtype))


def test_a_generator_is_read_once_into_a_file() -> None:
    source = batches()
    held = CalibrationSet.of(source)
    assert isinstance(held.samples, np.memmap)
    assert next(source, None) is None
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(held.batches(3))), images())


@pytest.mark.slow
def test_batches_of_a_generator_are_not_kept_in_memory() -> None:
    alive: list[weakref.ref[Array]] = []
    most = 0

    def counted() -> Iterator[Array]:
        nonlocal most
        for number in range(20):
            batch = np.full((2, 3), number, np.float32)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            gc.collect()
            most = max(most, sum(reference() is not None for reference in alive))

    held = CalibrationSet.of(counted())
    assert len(held) == 40
    assert most <= 3


def test_a_shuffling_loader_is_shuffled_once() -> None:
    torch.manual_seed(0)
    labels = torch.arange(10)
    loader = DataLoader(
        TensorDataset(torch.from_numpy(images()), labels), batch_size=3, shuffle=True
    )
    held = CalibrationSet.of(loader)
    one, two = (np.concatenate(list(held.batches(4))) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    order = one[:, 0, 0, 0]
    assert sorted(order) == list(range(10))
    assert order.tolist() != list(range(10))


@pytest.mark.parametrize("form", [tuple, list])
def test_the_first_entry_of_a_batch_is_the_samples(form: type) -> None:
    labels = np.arange(4)
    held = CalibrationSet.of([form((batch, labels[: len(batch)])) for batch in batches()])
    np.testing.assert_array_equal(held.samples, images())
    nested = CalibrationSet.of([form((form((batch, labels)), labels)) for batch in batches()])
    np.testing.assert_array_equal(nested.samples, images())


@pytest.mark.parametrize("limit", [1, 3, 4, 9, 10, 99])
@pytest.mark.parametrize("kind", ["array", "batches", "set"])
def test_a_limit_takes_the_first_samples(limit: int, kind: str) -> None:
    source: Any = {"array": images(), "batches": batches(), "set": CalibrationSet.of(images())}
    held = CalibrationSet.of(source[kind], limit=limit)
    np.testing.assert_array_equal(held.samples, images()[:limit])


def test_a_limit_stops_reading() -> None:
    def endless() -> Iterator[Array]:
        while True:
            yield np.zeros((2, 3), np.float32)

    assert len(CalibrationSet.of(endless(), limit=5)) == 5


@pytest.mark.parametrize("limit", [0, -1])
@pytest.mark.parametrize("kind", ["array", "batches"])
def test_a_limit_without_samples_is_refused(limit: int, kind: str) -> None:
    with pytest.raises(DataError, match=f"limit of {limit} calibration samples"):
        CalibrationSet.of(images() if kind == "array" else batches(), limit=limit)


def test_a_set_stays_a_set() -> None:
    held = CalibrationSet.of(batches())
    again = CalibrationSet.of(held)
    assert np.shares_memory(again.samples, held.samples)


def test_a_part_is_a_view() -> None:
    held = CalibrationSet.of(images())
    part = held.part(2, 5)
    assert np.shares_memory(part.samples, held.samples)
    np.testing.assert_array_equal(part.samples, images()[2:5])


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_batches_cover_the_samples_in_order(size: int) -> None:
    found = list(CalibrationSet.of(batches()).batches(size))
    assert all(len(batch) == min(size, 10) for batch in found[:-1])
    np.testing.assert_array_equal(np.concatenate(found), images())


MISMATCHES = {
    "shape": (np.zeros((2, 3), "f4"), np.zeros((2, 4), "f4")),
    "rank": (np.zeros((2, 3), "f4"), np.zeros((2, 3, 1), "f4")),
    "type": (np.zeros((2, 3), "f4"), np.zeros((2, 3), "u1")),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_batches_that_do_not_fit_each_other_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"a calibration batch .* after float32 \[2, 3\]"):
        CalibrationSet.of(list(MISMATCHES[name]))


def test_floats_of_different_width_fit_each_other() -> None:
    held = CalibrationSet.of([np.ones((2, 3), "f8"), np.ones((1, 3), "f4")])
    np.testing.assert_array_equal(held.samples, np.ones((3, 3)))


EMPTY: dict[str, Any] = {
    "array": np.zeros((0, 3), "f4"),
    "no batches": [],
    "empty batches": [np.zeros((0, 3), "f4")],
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_samples_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"holds no samples|\(0, 3\): \[N, \*shape\] with N >= 1"):
        CalibrationSet.of(EMPTY[name])


@pytest.mark.parametrize("source", [np.zeros(4, "f4"), [np.zeros(4, "f4")]])
def test_numbers_without_a_sample_shape_are_refused(source: Any) -> None:
    with pytest.raises(DataError, match=r"calibration data of shape \(\d,\): \[N, \*shape\]"):
        CalibrationSet.of(source)


WRONG: dict[str, tuple[Any, str]] = {
    "number": (3, "calibration data of type int: an array, a DataLoader or an iterable"),
    "nothing": (None, "calibration data of type NoneType"),
    "text": ("images.npy", "calibration data of type str"),
    "mapping batches": (
        [{"image": images(), "label": 1}],
        "a calibration batch of type dict: it holds image, label; name one with --input-key",
    ),
    "numbers": ([1.0, 2.0], "a calibration batch of type float"),
    "empty tuples": ([()], "a calibration batch of type tuple"),
    "objects": ([np.array([[object()]])], "a calibration batch of type object"),
    "single values": ([np.array(1.0)], r"a calibration batch of type float64 and shape \(\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_types_are_refused_by_name(name: str) -> None:
    source, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        CalibrationSet.of(source)


def test_progress_counts_samples_up_to_the_limit() -> None:
    told: list[tuple[str, int, int | None]] = []
    CalibrationSet.of(batches(4), progress=lambda *args: told.append(args))
    assert told == [("reading calibration data", done, None) for done in (4, 8, 10)]
    told.clear()
    CalibrationSet.of(batches(4), limit=6, progress=lambda *args: told.append(args))
    assert told == [("reading calibration data", done, 6) for done in (4, 6)]
