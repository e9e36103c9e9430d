"""Training with labels: where they come from, what they change, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.calibration.auto import EffortPlan
from icsnn_deploy.conversion.calibration.label_objective import LabelObjective
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import ConversionError, DataError
from tests.support.graphs import residual_ann
from tests.support.traced import small_model

RNG = np.random.default_rng(0)
# Three classes that the untrained model knows nothing of: which channel is bright.
LABELS = RNG.integers(0, 3, 96)
IMAGES = RNG.normal(size=(96, 3, 6, 6)).astype(np.float32)
IMAGES[np.arange(96), LABELS] += 1.5
RECIPE = Recipe(name="hybrid", time_steps=4, label_share=1.0)
CLASSES = 4


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = EffortPlan(samples=64, distillations=(TrainingBudget(operations=3.4e12, iterations=60),))
    monkeypatch.setattr(auto, "EFFORT_PLANS", {"short": plan, "standard": plan})


def right(network: Any) -> float:
    return float((TorchSimulator(network).classify(IMAGES).argmax(axis=1) == LABELS).mean())


def test_it_learns_classes_that_the_ann_does_not_know() -> None:
    found = convert(small_model(), (IMAGES, LABELS), RECIPE)
    blind = convert(small_model(), IMAGES, Recipe(name="auto", time_steps=4))
    assert found.report.chosen.method == "distillation"
    assert right(found.network) > right(blind.network) + 0.2


def test_the_loss_chooses_and_is_reported() -> None:
    report = convert(small_model(), (IMAGES, LABELS), RECIPE).report
    losses = [cast(float, candidate.loss) for candidate in report.candidates]
    assert report.chosen.loss == min(losses)
    assert report.to_json()["chosen"]["loss"] == min(losses)
    assert report.chosen.divergence > min(found.divergence for found in report.candidates)
    blind = convert(small_model(), IMAGES, Recipe(name="auto", time_steps=4)).report
    assert "loss" not in blind.to_json()["chosen"]


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"image": torch.from_numpy(IMAGES[number]), "class": int(LABELS[number])}


def test_a_loader_gives_its_labels() -> None:
    pairs = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
    found = convert(small_model(), DataLoader(pairs, batch_size=32), RECIPE)
    named = convert(
        small_model(),
        DataLoader(Pairs(), batch_size=32),
        RECIPE,
        input_key="image",
        label_key="class",
    )
    assert found.network.hash() == named.network.hash()
    other = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS[::-1].copy()))
    permuted = convert(small_model(), DataLoader(other, batch_size=32), RECIPE)
    assert permuted.network.hash() != found.network.hash()


def test_labels_are_kept_in_the_order_of_the_samples() -> None:
    batches = [(IMAGES[:40], LABELS[:40]), (IMAGES[40:], LABELS[40:])]
    held = CalibrationSet.of(batches, keep_labels=True, limit=50)
    np.testing.assert_array_equal(held.labels, LABELS[:50])
    np.testing.assert_array_equal(held.part(10, 20).labels, LABELS[10:20])
    assert CalibrationSet.of(batches).labels is None
    assert held.digest() != CalibrationSet.of(batches, limit=50).digest()


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_loss_is_the_mixture_that_it_says(share: float) -> None:
    ann = residual_ann()
    classes = ann.shape(ann.output.name)[0]
    wanted, found = RNG.normal(size=(2, 8, classes)).astype(np.float32)
    labels = RNG.integers(0, classes, 8)
    divergence = Objective(ann, wanted).score(found).divergence
    shifted = found - found.max(axis=1, keepdims=True).astype(np.float64)
    rows = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropy = -rows[np.arange(8), labels].mean()
    objective = LabelObjective(ann, wanted, labels=labels, share=share)
    expected = share * entropy + (1 - share) * divergence
    assert objective.score(found).loss == pytest.approx(expected, rel=1e-6)
    loss = objective.loss(torch.from_numpy(wanted), torch.from_numpy(found), labels)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGES, "calibration data without labels; give"),
        ((IMAGES, np.full(96, CLASSES)), f"not among the network's {CLASSES} classes"),
        ((IMAGES, LABELS.astype(np.float32)), r"float32 \[96\]; integers \[N\] are needed"),
        ([(IMAGES[:48], LABELS[:48]), (IMAGES[48:], None)], "calibration data without labels"),
    ],
    ids=["none", "no such class", "floats", "some without"],
)
def test_missing_and_wrong_labels_are_refused(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(small_model(), data, RECIPE)


def test_outputs_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ConversionError, match=r"\(regression\): training with labels needs"):
        convert(small_model(), (IMAGES, LABELS), RECIPE, task="regression")


def test_a_share_goes_with_hybrid_and_is_a_share() -> None:
    with pytest.raises(ConversionError, match="label_share 0: above 0"):
        Recipe(name="hybrid", label_share=0)
    with pytest.raises(ConversionError, match="recipe 'auto': label_share goes with"):
        Recipe(name="auto", label_share=0.9)
