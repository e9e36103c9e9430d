"""The main path: a small PyTorch model in, a calibrated integrate-and-fire network out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import (
    MaxThreshold,
    QuantileThreshold,
)
from icsnn_deploy.conversion.calibration.v_init_rules import Half, Zero
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Relu
from tests.support.converting import images, model_logits
from tests.support.traced import small_model


def held_out_agreement(result: Conversion, x: Array) -> float:
    last = x[len(x) - result.report.held_out_samples :]
    wanted = run_ann(result.ann, last).argmax(axis=1)
    got = ReferenceSimulator(result.network).run(last).logits.argmax(axis=1)
    return float((wanted == got).mean())


def methods_of(recipe: Recipe) -> list[str]:
    """The candidates of a recipe; auto and hybrid add their stages to their methods."""
    stages = ["search", "refit"] if recipe.name in ("auto", "hybrid") else []
    return [*map(str, recipe.strategy.methods), *stages]


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_makes_a_network(name: str) -> None:
    model, x = small_model(), images()
    recipe = Recipe(name=name, time_steps=4)
    if name in ("auto", "hybrid"):
        recipe = replace(recipe, effort="quick")
    given = (x, model_logits(model, x).argmax(axis=1)) if name == "hybrid" else x
    result = convert(model, given, recipe)
    graph, report = result.network, result.report

    assert graph.time_steps == 4
    assert [node.name for node in graph.nodes_of(IF)] == ["2", "5"]
    assert not graph.nodes_of(Relu)
    assert graph.input.shape == (3, 6, 6)
    assert ReferenceSimulator(graph).run(x[:2]).logits.shape == (2, 4)

    assert [node.name for node in result.ann.nodes_of(Relu)] == ["2", "5"]
    np.testing.assert_allclose(run_ann(result.ann, x), model_logits(model, x), atol=1e-5)

    assert (report.recipe, report.time_steps) == (name, 4)
    assert (report.calibration_samples, report.held_out_samples) == (12, 3)
    assert [c.method for c in report.candidates] == methods_of(recipe)
    assert report.chosen in report.candidates
    assert report.chosen.agreement == held_out_agreement(result, x)
    assert report.chosen.divergence >= 0
    assert report.seconds >= sum(c.seconds for c in report.candidates) > 0
    for population in report.populations:
        node = graph.node(population.name)
        assert isinstance(node, IF)
        assert population.shape == graph.shape(population.name)
        assert population.v_threshold[0] == node.v_threshold.min() > 0
        assert population.v_init[2] == node.v_init.max()
        assert population.granularity == ("layer" if node.v_threshold.size == 1 else "channel")
    assert json.loads(json.dumps(report.to_json()))["chosen"]["method"] == report.chosen.method
    assert dict(graph.provenance) == {
        "recipe": name,
        "method": report.chosen.method,
        "ann_hash": result.ann.hash(),
    }
    assert graph.calibrated_steps == (4,)


@pytest.mark.parametrize("name", ["fast", "ic-snn", "spike-norm", "opt"])
def test_the_same_input_makes_the_same_network(name: str) -> None:
    recipe = Recipe(name=name, time_steps=4)
    one, two = (convert(small_model(), images(), recipe) for _ in range(2))
    assert one.network.hash() == two.network.hash()
    assert one.report.populations == two.report.populations


def test_the_candidate_that_does_best_on_held_out_samples_is_taken() -> None:
    result = convert(small_model(), images(40), Recipe(name="fast", time_steps=4))
    candidates = result.report.candidates
    assert len(candidates) == 8
    assert len({(c.agreement, c.divergence) for c in candidates}) > 1
    assert result.report.chosen == min(
        candidates, key=lambda c: (c.divergence, -(c.agreement or 0))
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_useless_candidate_loses_wherever_it_stands(order: int) -> None:
    good = Method(threshold=MaxThreshold(), v_init=Half())
    useless = Method(threshold=QuantileThreshold(p=0.0001), v_init=Zero())
    recipe = Recipe(name="mine", time_steps=32, methods=(good, useless)[::order])
    report = convert(small_model(), images(40), recipe).report
    assert report.recipe == "mine"
    assert report.chosen.method == str(good)
    (other,) = (c for c in report.candidates if c.method == str(useless))
    assert other.divergence > report.chosen.divergence


def test_held_out_samples_do_not_enter_the_calibration() -> None:
    x = images(12)
    other = x.copy()
    other[9:] *= 100  # the last quarter only judges
    recipe = Recipe(name="diehl", time_steps=4)
    one, two = (convert(small_model(), data, recipe) for data in (x, other))
    assert one.network.hash() == two.network.hash()


def test_one_sample_is_enough() -> None:
    report = convert(small_model(), images(1), Recipe(name="c-snn", time_steps=2)).report
    assert (report.calibration_samples, report.held_out_samples) == (1, 1)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    method = Method(threshold=MaxThreshold(), v_init=Half(), bias_correction=True)
    recipe = Recipe(name="mine", methods=(method,), time_steps=4)
    one = convert(small_model(), images(), recipe).network
    other = convert(small_model(), images(), replace(recipe, batch_size=batch_size)).network
    for node in one.nodes:
        for field, value in node.arrays().items():
            found = getattr(other.node(node.name), field)
            np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["array", "tensor", "batches", "loader"])
def test_every_source_of_samples_makes_the_same_network(kind: str) -> None:
    x = images()
    sources: dict[str, Any] = {
        "array": x,
        "tensor": torch.from_numpy(x),
        "batches": (x[start : start + 5] for start in range(0, 12, 5)),
        "loader": torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.from_numpy(x), torch.zeros(12)), batch_size=5
        ),
    }
    recipe = Recipe(name="spike-norm", time_steps=4)
    expected = convert(small_model(), x.copy(), recipe).network.hash()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = convert(small_model(), sources[kind], recipe).network
    assert found.hash() == expected
    assert [str(warning.message) for warning in caught] == []


def test_a_model_that_works_in_place_does_not_change_the_samples() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.head(torch.relu_(x))
            return found

    x = images(4)[:, 0, 0].copy()
    before = x.copy()
    convert(InPlace().eval(), x, Recipe(name="fast", time_steps=2))
    np.testing.assert_array_equal(x, before)


def test_an_exported_program_makes_the_same_function() -> None:
    model, x = small_model(), images()
    program = torch.export.export(model, (torch.from_numpy(x[:2]),))
    recipe = Recipe(name="diehl", time_steps=4)
    traced, exported = (convert(source, x, recipe).network for source in (model, program))
    logits = [ReferenceSimulator(graph).run(x).logits for graph in (traced, exported)]
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-5)


# Recipes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "ic-snm"}, "no recipe 'ic-snm'; there are auto, hybrid, fast, diehl"),
        ({"time_steps": 0}, "0 <= readout_start < time_steps are needed"),
        ({"time_steps": 4, "readout_start": 4}, "time_steps 4, readout_start 4"),
        ({"readout_start": -1}, "readout_start -1"),
        ({"held_out": 0.0}, "held_out 0.0, batch_size 64: 0 < held_out < 1"),
        ({"held_out": 1.0}, "held_out 1.0"),
        ({"seed": -1}, "seed -1: 0 or more is needed"),
        ({"batch_size": 0}, "batch_size 0: 0 < held_out < 1 and batch_size >= 1 are needed"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        Recipe(**fields)


def test_a_recipe_of_your_own_needs_methods() -> None:
    method = Method(threshold=MaxThreshold(), v_init=Half())
    assert Recipe(name="mine", methods=(method,)).strategy.methods == (method,)
    assert Recipe(name="diehl", methods=(method,)).strategy.methods == (method,)
    assert Recipe(name="diehl").strategy == RECIPES["diehl"]


# Readout and progress


def test_the_readout_starts_where_the_recipe_says() -> None:
    model, x = small_model(), images()
    method = Method(threshold=MaxThreshold(), v_init=Half(), bias_correction=True)
    recipe = Recipe(methods=(method,), time_steps=6, readout_start=2)
    result = convert(model, x, recipe)
    assert result.network.readout_start == 2
    # The correction of the output aims at the mean over those steps.
    fit = x[: len(x) - result.report.held_out_samples]
    recording = ReferenceSimulator(result.network).run(fit, Record(logits_t=True))
    assert recording.logits_t is not None
    assert (recording.logits_t[:2] == 0).all()
    wanted = run_ann(result.ann, fit).mean(axis=0)
    np.testing.assert_allclose(recording.logits.mean(axis=0), wanted, atol=1e-4)
    from_the_start = replace(result.network, readout_start=0)
    other = ReferenceSimulator(from_the_start).run(fit).logits.mean(axis=0)
    assert np.abs(other - wanted).max() > 1e-3


@pytest.mark.parametrize("name", ["fast", "spike-norm", "ic-snn"])
def test_progress_never_passes_its_total_and_reaches_it(name: str) -> None:
    told: list[tuple[str, int, int | None]] = []
    batches: Iterator[Array] = (images(4, seed) for seed in range(3))
    convert(
        small_model(),
        batches,
        Recipe(name=name, time_steps=4, batch_size=4),
        progress=lambda *args: told.append(args),
    )
    stages = {stage for stage, _, _ in told}
    assert {"reading calibration data", "activations", "candidates"} <= stages
    own = {"fast": "bias correction", "spike-norm": "SpikeNorm", "ic-snn": "residuals"}
    assert own[name] in stages
    for stage, done, total in told:
        if stage == "reading calibration data":
            assert total is None
        else:
            assert total is not None
            assert 0 <= done <= total
    for stage in stages - {"reading calibration data"}:
        done_total = [(done, total) for s, done, total in told if s == stage]
        assert done_total[0][0] == 0
        assert done_total[-1][0] == done_total[-1][1]
