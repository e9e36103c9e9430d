"""The recipe "auto": its stages, its choice, what it may change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.calibration.auto import (
    Auto,
    EffortPlan,
    normalized_share,
    rate_factor,
)
from icsnn_deploy.conversion.calibration.distill import Distilled, DistillOptions, distill
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.nodes import Conv, Linear
from tests.support.traced import small_model

CALIBRATION = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    few = TrainingBudget(operations=1e12, iterations=3)
    plans = {
        name: replace(plan, distillations=(few,) * len(plan.distillations))
        for name, plan in _PLANS.items()
    }
    monkeypatch.setattr(auto, "EFFORT_PLANS", plans)


_PLANS: dict[Any, EffortPlan] = dict(auto.EFFORT_PLANS)


def methods(recipe: Recipe) -> list[str]:
    report = convert(small_model(), CALIBRATION, recipe).report
    assert report.chosen.divergence == min(c.divergence for c in report.candidates)
    return [candidate.method for candidate in report.candidates]


def test_the_report_is_the_ablation() -> None:
    recipe = Recipe(name="auto", effort="standard")
    starts = [str(method) for method in recipe.strategy.methods]
    assert methods(recipe) == [*starts, "search", "refit", "distillation"]
    assert methods(Recipe(name="auto", effort="quick")) == [*starts, "search", "refit"]
    assert methods(replace(recipe, weights=False)) == [*starts, "search", "distillation"]


def test_a_bound_far_above_the_activations_does_not_silence_the_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU6(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    found = convert(model, CALIBRATION, Recipe(effort="quick", time_steps=1))
    logits = np.asarray(TorchSimulator(found.network).run(CALIBRATION).logits)
    assert np.ptp(logits, axis=0).min() > 0


def test_the_default_is_auto_with_a_short_training() -> None:
    assert Recipe() == Recipe(name="auto")
    assert Recipe().strategy == Auto(effort="short")
    assert Recipe(name="hybrid").effort_used == "standard"
    assert methods(Recipe())[2:] == ["search", "refit", "distillation"]


def test_a_former_name_keeps_its_meaning_and_says_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="recipe 'default' is called 'fast' now"):
        old = Recipe(name="default")
    assert old.strategy == Recipe(name="fast").strategy


@pytest.mark.parametrize("effort", ["quick", "best"])
def test_it_can_be_repeated(effort: Any) -> None:
    recipe = Recipe(name="auto", effort=effort, time_steps=4)
    first, second = (convert(small_model(), CALIBRATION, recipe).network for _ in range(2))
    assert first.hash() == second.hash()


def test_weights_are_kept_but_for_a_factor_a_channel() -> None:
    """Thresholds and gains scale rows and columns: a product of two vectors, rank one."""
    recipe = Recipe(name="auto", effort="best", weights=False)
    found = convert(small_model(), CALIBRATION, recipe)
    layers: list[Conv | Linear] = [*found.network.nodes_of(Conv), *found.network.nodes_of(Linear)]
    for node in layers:
        before = found.ann.node(node.name)
        assert isinstance(before, (Conv, Linear))
        ratio = (node.weight.astype(np.float64) / before.weight).reshape(*node.weight.shape[:2], -1)
        np.testing.assert_allclose(ratio, ratio[..., :1] + 0 * ratio, rtol=1e-3)
        singular = np.linalg.svd(ratio[..., 0], compute_uv=False)
        assert (singular[1:] < 1e-3 * singular[0]).all()


def test_one_network_serves_a_range() -> None:
    recipe = Recipe(name="auto", effort="standard", time_steps=(3, 16))
    assert recipe.readout_steps == (3, 4, 8, 16)
    found = convert(small_model(), CALIBRATION, recipe)
    assert found.network.time_steps == found.report.time_steps == 16
    assert found.report.readout_steps == (3, 4, 8, 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"effort": "most"}, "effort 'most': quick, short, standard, best"),
        ({"time_steps": (8, 4)}, r"time_steps \(8, 4\)"),
        ({"time_steps": (0, 4)}, r"time_steps \(0, 4\)"),
        ({"time_steps": (2, 4), "readout_start": 2}, "readout_start 2"),
        ({"time_steps": 1.5}, r"time_steps 1\.5.*integers"),
        ({"time_steps": "8"}, "time_steps '8'.*integers"),
        ({"time_steps": True}, "time_steps True.*integers"),
        ({"time_steps": None}, "time_steps None.*integers"),
        ({"time_steps": (2, 4, 8)}, r"time_steps \(2, 4, 8\).*a tuple of two"),
        ({"time_steps": 2**16 + 1}, "time_steps 65537: 65,536 at most"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        Recipe(name="auto", **fields)


@pytest.mark.parametrize(("divergence", "share"), [(2.0, 1.0), (0.4, 1.0), (0.2, 0.5), (0.0, 0.1)])
def test_the_closer_a_network_is_the_smaller_are_the_steps(divergence: float, share: float) -> None:
    assert rate_factor(divergence) == pytest.approx(share)


def test_the_closer_a_network_is_the_sooner_its_statistics_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[DistillOptions] = []

    def record(*args: Any, **kwargs: Any) -> Distilled:
        given.append(args[5])
        return distill(*args, **kwargs)

    monkeypatch.setattr(auto, "distill", record)
    report = convert(small_model(), CALIBRATION, Recipe(effort="standard")).report
    start = min(c.divergence for c in report.candidates if c.method != "distillation")
    assert given[0].normalized_share == normalized_share(rate_factor(start))
    shares = [normalized_share(rate_factor(divergence)) for divergence in (2.0, 0.1, 0.0)]
    assert shares == pytest.approx([0.7, 0.45, 0.3])
