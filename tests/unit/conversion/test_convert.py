"""The main path: a small PyTorch model in, a calibrated integrate-and-fire network out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    QuantileThreshold,
)
from icsnn_deploy.conversion.calibration.v_init_rules import Half, Zero
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import ConversionError, DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Relu
from icsnn_deploy.sources.selection import mixed_order
from tests.support.traced import small_model

NORMALIZATION = Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def images(count: int = 12, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, 3, 6, 6)).astype(np.float32)


def pixels(count: int = 12) -> Array:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 6, 6)).astype(np.uint8)


def model_logits(model: nn.Module, x: Array) -> Array:
    with torch.no_grad():
        found: Array = model(torch.from_numpy(x)).numpy()
    return found


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


# Normalization


@pytest.mark.parametrize("padding", [0, 1])
def test_pixels_with_a_normalization_equal_normalized_floats(padding: int) -> None:
    model, x = small_model(padding=padding), pixels()
    floats = NORMALIZATION.apply(x)
    from_pixels = to_ann_graph(model, x, NORMALIZATION)
    from_floats = to_ann_graph(model, floats)
    assert from_pixels.input.dtype == "uint8"
    assert from_floats.input.dtype == "float32"
    wanted = model_logits(model, floats)
    np.testing.assert_allclose(run_ann(from_floats, floats), wanted, atol=1e-5)
    np.testing.assert_allclose(run_ann(from_pixels, x), wanted, atol=1e-5)
    # Padded zeros are zeros of the normalized image: then the first node has to stay.
    assert ("normalization" in from_pixels) == (padding > 0)


def test_pixels_and_floats_make_networks_that_agree() -> None:
    x = pixels()
    recipe = Recipe(name="diehl", time_steps=8)
    one = convert(small_model(), x, recipe, normalization=NORMALIZATION).network
    other = convert(small_model(), NORMALIZATION.apply(x), recipe).network
    left, right = one.nodes_of(IF), other.nodes_of(IF)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a.v_threshold, b.v_threshold, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64"])
def test_integers_without_a_normalization_are_refused(dtype: str) -> None:
    with pytest.raises(DataError, match=f"of type {dtype}: floats as the model takes them"):
        convert(small_model(), pixels().astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float32", r"values 0 to 255; .* floats must be in 0\.\.1"),
        ("float64", r"values 0 to 255; .* floats must be in 0\.\.1"),
        ("int16", "a normalization needs uint8"),
    ],
)
def test_a_normalization_needs_pixels(dtype: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(small_model(), pixels().astype(dtype), normalization=NORMALIZATION)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_in_0_to_1_with_a_normalization_are_the_pixels_they_come_from(kind: type) -> None:
    whole = pixels()
    recipe = Recipe(name="opi", time_steps=2)
    floats: Array = (whole / 255).astype(kind)
    one = convert(small_model(), whole, recipe, normalization=NORMALIZATION)
    other = convert(small_model(), floats, recipe, normalization=NORMALIZATION)
    assert one.network.hash() == other.network.hash()
    assert other.network.input.dtype == "uint8"


class Rows:
    """A data set of items, without a base class."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number]


@pytest.mark.parametrize("form", ["pair", "dicts", "data set"])
def test_samples_of_every_form_convert_to_the_same_network(form: str) -> None:
    x = NORMALIZATION.apply(pixels())
    y = np.arange(len(x))
    given: Any
    if form == "pair":
        given = (x, y)
    elif form == "dicts":
        given = [{"image": x[i : i + 3], "label": y[i : i + 3]} for i in range(0, len(x), 3)]
    else:  # its items are read in a mixed order
        order = mixed_order(len(x))
        given = Rows([(x[order.index(i)], i) for i in range(len(x))])
    recipe = Recipe(name="opi", time_steps=2)
    found = convert(small_model(), given, recipe, input_key="image" if form == "dicts" else None)
    assert found.network.hash() == convert(small_model(), x, recipe).network.hash()


def test_a_normalization_of_other_channels_is_refused() -> None:
    gray = Normalization(mean=(0.5,), std=(0.5,))
    with pytest.raises(DataError, match="images of 3 channels, but 1 values of mean and std"):
        convert(small_model(), pixels(), normalization=gray)


@pytest.mark.parametrize(
    "model",
    [small_model, nn.ReLU, small_model().state_dict(), None],
    ids=["f", "class", "dict", "-"],
)
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(
        ConversionError, match=r"a model of type \w+: an nn.Module with its weights"
    ):
        convert(model, images())


def test_the_name_of_a_recipe_is_no_recipe() -> None:
    with pytest.raises(ConversionError, match=r"a recipe of type str: Recipe\(name="):
        convert(small_model(), images(), cast(Any, "auto"))


# Inputs by name


def test_one_input_may_be_given_by_its_name() -> None:
    recipe = Recipe(name="diehl", time_steps=4)
    named = convert(small_model(), {"input": images()}, recipe)
    assert named.network.hash() == convert(small_model(), images(), recipe).network.hash()
    assert named.report.calibration_samples == 12


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"x": images()}, r"forward takes the inputs input, .*required argument: 'input'"),
        ({"input": images(), "y": images(3)}, "{'input': 12, 'y': 3} samples"),
        ({"input": images()[:0]}, "N >= 1 are needed"),
        ({"input": pixels()}, "type uint8 and shape .* for the input 'input': floats"),
    ],
)
def test_named_inputs_that_do_not_fit_are_refused(named: dict[str, Array], message: str) -> None:
    with pytest.raises((ConversionError, DataError), match=message):
        convert(small_model(), named, Recipe(name="diehl"))


def test_named_inputs_take_no_normalization() -> None:
    with pytest.raises(DataError, match="inputs input with a normalization: give"):
        convert(small_model(), {"input": pixels()}, normalization=NORMALIZATION)


def test_values_that_are_not_finite_are_refused() -> None:
    x = images()
    x[5, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        convert(small_model(), x, Recipe(name="diehl"))


def test_a_model_without_a_rectifier_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).eval()
    with pytest.raises(ConversionError, match="the model has no ReLU"):
        convert(model, images(), Recipe(name="diehl"))


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


# Thresholds and initial potentials of particular recipes


def thresholds(graph: Graph) -> list[list[float]]:
    return [node.v_threshold.ravel().tolist() for node in graph.nodes_of(IF)]


def test_a_bounded_rectifier_gives_its_bound() -> None:
    x = images() * 30
    graph = convert(small_model(nn.ReLU6), x, Recipe(name="opi", time_steps=4)).network
    assert thresholds(graph) == [[6.0], [6.0]]
    assert all((node.v_init == 3.0).all() for node in graph.nodes_of(IF))


class Clip(nn.Module):
    """A user's trained clip."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(0.75))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.minimum(x.clamp(min=0), self.bound)


def test_a_declared_clip_gives_its_trained_bound() -> None:
    declared = DeclaredActivation(class_name="Clip", bound="bound")
    recipe = Recipe(name="opi", time_steps=4)
    result = convert(small_model(Clip), images(), recipe, activations=[declared])
    assert thresholds(result.network) == [[0.75], [0.75]]
    wanted = model_logits(small_model(Clip), images())
    np.testing.assert_allclose(run_ann(result.ann, images()), wanted, atol=1e-5)


def test_a_learned_bound_that_is_not_there_names_the_layer() -> None:
    method = Method(threshold=LearnedBound(), v_init=Half())
    with pytest.raises(ConversionError, match=r"^2: no learned bound; declare the activation"):
        convert(small_model(), images(), Recipe(methods=(method,)))


def exact_model() -> nn.Module:
    """Dyadic weights; the largest activations of relu1 on `exact_samples` are 2 and 1."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.tensor([[1.0, 0.5], [-0.25, 1.0]]))
                layer.bias.copy_(torch.tensor([0.25, -0.5]))
    return model.eval()


EXACT_SAMPLES = np.array([[1.5, 0.5], [0.5, 1.5], [-1.0, 1.0], [0.25, 0.0]], np.float32)


def test_opt_shifts_each_bias_by_half_a_threshold_over_the_steps() -> None:
    opt, diehl = (
        convert(exact_model(), EXACT_SAMPLES, Recipe(name=name, time_steps=4)).network
        for name in ("opt", "diehl")
    )
    assert thresholds(opt) == thresholds(diehl)
    assert all((node.v_init == 0).all() for node in opt.nodes_of(IF))
    for linear, (v_threshold,) in zip(("0", "2"), thresholds(diehl), strict=True):
        before, after = (graph.node(linear).arrays()["bias"] for graph in (diehl, opt))
        np.testing.assert_array_equal(after - before, [v_threshold / 8] * 2)
    head, shifted_head = (graph.node("4").arrays() for graph in (diehl, opt))
    for field, value in head.items():
        np.testing.assert_array_equal(shifted_head[field], value)


def test_diehl_takes_the_largest_activation_of_the_samples_that_fit() -> None:
    graph = convert(exact_model(), EXACT_SAMPLES, Recipe(name="diehl", time_steps=4)).network
    first = np.maximum(EXACT_SAMPLES[:3] @ [[1, -0.25], [0.5, 1]] + [0.25, -0.5], 0)
    second = np.maximum(first @ [[1, -0.25], [0.5, 1]] + [0.25, -0.5], 0)
    assert thresholds(graph) == [[first.max()], [second.max()]]


@pytest.mark.parametrize(("name", "expected"), [("spike-norm", 1.25), ("rmp", 2.25)])
def test_spike_norm_measures_with_hard_reset_and_rmp_with_soft(name: str, expected: float) -> None:
    first, second, head = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(1, 2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head)
    with torch.no_grad():
        for layer in (first, second, head):
            layer.bias.zero_()
        first.weight.copy_(torch.eye(3))
        second.weight.copy_(torch.tensor([[1.0, -0.5, 0.0]]))
        second.bias.fill_(0.25)
    # Threshold 2, currents 1.5, 1, 2: neuron 1 fires alone at step 3, but only with soft reset.
    x = np.array([[1.5, 1.0, 2.0]], np.float32)
    graph = convert(model.eval(), x, Recipe(name=name, time_steps=4)).network
    assert thresholds(graph) == [[2.0], [expected]]


@pytest.mark.parametrize("name", ["spike-norm", "rmp"])
def test_spike_norm_keeps_a_clip(name: str) -> None:
    first = nn.Linear(1, 1)
    model = nn.Sequential(first, nn.ReLU6(), nn.Linear(1, 2))
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.zero_()
    x = np.array([[20.0], [3.0]], np.float32)
    assert thresholds(convert(model.eval(), x, Recipe(name=name, time_steps=4)).network) == [[6.0]]


def test_candidates_for_a_single_logit_are_told_apart() -> None:
    model = nn.Sequential(*small_model()[:-1], nn.Linear(6, 1)).eval()
    candidates = convert(
        model.eval(), images(), Recipe(name="fast", time_steps=4)
    ).report.candidates
    assert min(one.divergence for one in candidates) > 0


@pytest.mark.parametrize("name", ["opi", "c-snn"])
def test_the_initial_potential_of_the_recipe_is_set(name: str) -> None:
    share = {"opi": 0.5, "c-snn": 0.5 / 4}[name]
    for node in convert(small_model(), images(), Recipe(name=name, time_steps=4)).network.nodes_of(
        IF
    ):
        np.testing.assert_array_equal(node.v_init, node.v_threshold * np.float32(share))


def test_algorithm_3_does_not_give_what_its_parts_give() -> None:
    hashes = {
        convert(small_model(), images(), Recipe(name=name, time_steps=4)).network.hash()
        for name in ("i-snn", "c-snn", "ic-snn", "robust-norm")
    }
    assert len(hashes) == 4


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
