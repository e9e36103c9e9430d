"""A data set is read anew in every round, with its own transforms; held-out items are not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from icsnn_deploy.conversion import preparation
from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.calibration.auto import EffortPlan
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.sources.fresh_batches import FreshBatches
from tests.support.traced import small_model

RECIPE = Recipe(name="auto", effort="standard", time_steps=4)
IMAGES = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)


class Noted(Dataset[Any]):
    """Images that are varied by the data set itself; notes which were read."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        self.read.append(number)
        return torch.from_numpy(IMAGES[number] * self.scale), number % 4


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = EffortPlan(samples=32, distillations=(TrainingBudget(operations=1e12, iterations=12),))
    monkeypatch.setattr(auto, "EFFORT_PLANS", {"standard": plan})


def test_every_item_but_the_held_out_ones_is_read_again() -> None:
    data_set = Noted()
    convert(small_model(), DataLoader(data_set, batch_size=16), RECIPE)
    assert data_set.read[:64] == list(range(64))  # the calibration set, in the loader's order
    trained_on = data_set.read[64:]
    assert set(trained_on) == set(range(48))
    assert len(trained_on) >= (8 + 12) * 32


def test_a_shuffled_loader_gives_the_same_network_each_time() -> None:
    first, second = (
        convert(small_model(), DataLoader(Noted(), batch_size=16, shuffle=True), RECIPE).network
        for _ in range(2)
    )
    assert first.hash() == second.hash()


def test_large_data_sets_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "SAMPLES_USED", 16)
    data_set = Noted()
    report = convert(small_model(), cast(Any, data_set), RECIPE).report
    assert report.calibration_samples == 16
    held_out = set(data_set.read[12:16])
    assert set(data_set.read[16:]) == set(range(64)) - held_out


def test_pixels_are_made_of_the_floats_of_a_loader() -> None:
    from icsnn_deploy.data import Normalization

    scaled = np.abs(IMAGES) / np.abs(IMAGES).max()
    loader = DataLoader(TensorDataset(torch.from_numpy(scaled)), batch_size=16)
    normalization = Normalization(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    found = convert(small_model(), loader, RECIPE, normalization=normalization)
    assert found.network.input.dtype == "uint8"


class Iterated(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(IMAGES)


@pytest.mark.parametrize(
    "source",
    [
        IMAGES,
        torch.from_numpy(IMAGES),
        [IMAGES[:32], IMAGES[32:]],
        Iterated(),
        DataLoader(Iterated(), batch_size=4),
        DataLoader(Noted(), batch_size=None),
        DataLoader(Noted(), sampler=torch.utils.data.SubsetRandomSampler([1, 2])),
    ],
    ids=["array", "tensor", "batches", "iterable", "loader of one", "no batches", "own sampler"],
)
def test_what_cannot_be_read_by_number_is_held(source: Any) -> None:
    assert FreshBatches.of(source, None) is None
