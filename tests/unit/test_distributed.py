"""Which processes there are, as the environment says. Real ones: tests/parity/test_processes.py."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.distributed import SINGLE, Ranks, is_first, is_launched, open_ranks, own_device
from icsnn_deploy.errors import BackendUnavailableError, DataError, RankError
from icsnn_deploy.graph.neuron import Array

SECOND = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environment", "launched", "first"),
    [
        ({}, False, True),
        (SECOND, True, False),
        ({**SECOND, "RANK": "0"}, True, True),
        ({**SECOND, "RANK": "0", "WORLD_SIZE": "1"}, False, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False, True),  # some other program's
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "a"}, False, True),
    ],
)
def test_launched(environment: Mapping[str, str], launched: bool, first: bool) -> None:
    assert (is_launched(environment), is_first(environment)) == (launched, first)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("cuda") == "cuda"
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    assert own_device("cuda") == "cuda:1"
    assert own_device("cuda:0") == "cuda:0"
    assert own_device("cpu") == "cpu"


def test_alone() -> None:
    with open_ranks() as ranks:
        assert ranks is SINGLE
    assert list(SINGLE.each(3, lambda number: number * 10)) == [0, 10, 20]
    assert SINGLE.gather("a") == ["a"]
    assert list(SINGLE.assign(3)) == [0, 1, 2]
    counts = torch.arange(3)
    assert SINGLE.sum(counts) is counts


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_number_is_dealt_once(size: int) -> None:
    dealt = [number for rank in range(size) for number in Ranks(rank, size).assign(10)]
    assert sorted(dealt) == list(range(10))


@pytest.mark.parametrize("wait", [0.0, -1.0, float("nan")])
def test_a_wait_of_no_time(wait: float) -> None:
    with pytest.raises(DataError, match="more than 0 is needed"), open_ranks(wait_s=wait):
        pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "x"}, "RANK is 'x'"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is ''"),
        ({"RANK": "2"}, "RANK 2 of WORLD_SIZE 2"),
    ],
)
def test_an_environment_that_does_not_say_who_is_who(
    monkeypatch: pytest.MonkeyPatch, change: Mapping[str, str], said: str
) -> None:
    """No other process is to blame, and none is waited for."""
    for name, value in {**SECOND, "MASTER_PORT": "1", **change}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RankError, match=said) as caught, open_ranks(wait_s=600):
        pass
    assert "other process" not in str(caught.value)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "cuda:"])
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    for name, value in {**SECOND, "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(BackendUnavailableError, match=f"torch device '{device}' can't be used"),
        open_ranks(device, wait_s=600),
    ):
        pass


def test_batches_come_with_their_place() -> None:
    samples = np.arange(10, dtype=np.float32).reshape(5, 2)
    held = CalibrationSet(samples)
    found = list(held.map(2, lambda start, batch: (start, batch.sum())))
    assert found == [(0, 6.0), (2, 22.0), (4, 17.0)]


def test_the_digest_is_of_values_type_and_shape() -> None:
    samples = np.arange(12, dtype=np.float32).reshape(6, 2)
    others: list[Array] = [
        samples + 1,
        samples.astype(np.float64),
        samples.reshape(3, 4),
        samples[:5],
    ]
    digests = {CalibrationSet(array).digest() for array in [samples, samples.copy(), *others]}
    assert len(digests) == 5
