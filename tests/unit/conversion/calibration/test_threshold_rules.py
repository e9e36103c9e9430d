"""Each threshold rule, against the raw activations that its histogram was made of."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.statistics import ActivationStatistics, collect_statistics
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    SpikeNormThreshold,
    ThresholdRule,
)
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Output, Relu

GRID = np.geomspace(0.02, 1.0, 96)
GRID_STEP = GRID[1] / GRID[0]

RULES: list[ThresholdRule] = [
    MaxThreshold(),
    MaxThreshold(per="channel"),
    QuantileThreshold(p=0.9),
    QuantileThreshold(p=0.9, per="channel"),
    MSEThreshold(per="layer"),
    MSEThreshold(),
    LearnedBound(otherwise=MaxThreshold()),
]


def statistics_of(values: Array, upper: float | None = None) -> ActivationStatistics:
    """Statistics of values [N, C], rectified."""
    ann = Graph(
        nodes=(
            Input(name="input", shape=values.shape[1:]),
            Relu(name="relu", inputs=("input",), upper=upper),
            Output(name="output", inputs=("relu",)),
        )
    )
    return collect_statistics(ann, CalibrationContext.of(values, batch_size=4096)).layers["relu"]


def random_values(seed: int, count: int = 2000) -> Array:
    """Heavy tails, half of them negative, three channels of different size; [N, C]."""
    rng = np.random.default_rng(seed)
    return (rng.standard_t(4, (count, 3)) * [1.0, 20.0, 0.05]).astype(np.float32)


def coding_error(values: Array, v_threshold: float, time_steps: int) -> float:
    """mean((clip(floor(a T / th + 1/2), 0, T) th / T - a)^2) of the raw activations."""
    a = np.maximum(values, 0).astype(np.float64)
    level = np.clip(np.floor(a * time_steps / v_threshold + 0.5), 0, time_steps)
    return float(((level * v_threshold / time_steps - a) ** 2).mean())


def brute_force(values: Array, time_steps: int) -> float:
    grid = np.maximum(values, 0).max() * GRID
    return float(min(grid, key=lambda v_threshold: coding_error(values, v_threshold, time_steps)))


def test_max_is_the_largest_activation() -> None:
    values = random_values(0)
    found = statistics_of(values)
    assert MaxThreshold().threshold("relu", found, 4).tolist() == [values.max()]
    per_channel = MaxThreshold(per="channel").threshold("relu", found, 4)
    np.testing.assert_array_equal(per_channel, values.max(axis=0))


@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_quantile_is_that_of_all_activations(p: float) -> None:
    values = random_values(1)
    found, raw = statistics_of(values), np.maximum(values, 0)
    layer = QuantileThreshold(p=p).threshold("relu", found, 4)
    np.testing.assert_allclose(layer, [np.quantile(raw, p, method="inverted_cdf")], rtol=1 / 64)
    channel = QuantileThreshold(p=p, per="channel").threshold("relu", found, 4)
    expected = np.quantile(raw, p, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(channel, expected, rtol=1 / 64)


@pytest.mark.parametrize("p", [0, -0.5, 1.01, float("nan")])
def test_a_quantile_outside_0_to_1_is_refused(p: float) -> None:
    with pytest.raises(ConversionError, match="0 < p <= 1 is needed"):
        QuantileThreshold(p=p)


@pytest.mark.parametrize("time_steps", [2, 4, 8, 32])
def test_mse_finds_what_a_search_of_the_raw_values_finds(time_steps: int) -> None:
    values = random_values(2)
    found = statistics_of(values)
    per_channel = MSEThreshold().threshold("relu", found, time_steps)
    layer = MSEThreshold(per="layer").threshold("relu", found, time_steps)
    columns = [*values.T, values]
    for column, v_threshold in zip(columns, [*per_channel, *layer], strict=True):
        best = brute_force(column, time_steps)
        assert best / GRID_STEP * 0.999 <= v_threshold <= best * GRID_STEP * 1.001
        error = coding_error(column, float(v_threshold), time_steps)
        assert error <= 1.02 * coding_error(column, best, time_steps)
        assert error < coding_error(column, float(column.max()), time_steps)


def test_mse_takes_the_number_of_steps_into_account() -> None:
    found = statistics_of(random_values(3))
    few, many = (MSEThreshold().threshold("relu", found, steps) for steps in (2, 64))
    assert (few < many).all()


def test_mse_of_a_single_level_is_that_level() -> None:
    values = np.array([[-1.0], [2.0], [2.0]], np.float32)
    found = MSEThreshold().threshold("relu", statistics_of(values), 4)
    np.testing.assert_allclose(found, [2.0], rtol=1 / 64)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_threshold_is_above_the_bound_of_the_rectifier(rule: ThresholdRule) -> None:
    values = random_values(4)
    assert values.max() > 30
    found = rule.threshold("relu", statistics_of(values, upper=1.5), 4)
    assert (found <= 1.5).all()
    assert (found > 0).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_dead_channel_takes_a_positive_threshold(rule: ThresholdRule) -> None:
    values = random_values(5)
    values[:, 1] = -1
    found = rule.threshold("relu", statistics_of(values), 4)
    assert (found > 0).all()
    assert len(found) in (1, 3)
    if len(found) == 3:
        assert found[1] == max(found[0], found[2])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_dead_layer_takes_a_positive_threshold(rule: ThresholdRule) -> None:
    found = rule.threshold("relu", statistics_of(np.full((5, 3), -1.0, np.float32)), 4)
    assert (found == 1).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_dead_layer_stays_below_its_bound(rule: ThresholdRule) -> None:
    statistics = statistics_of(np.full((5, 3), -1.0, np.float32), upper=0.25)
    assert (rule.threshold("relu", statistics, 4) == 0.25).all()


def test_a_quantile_that_falls_on_zero_takes_the_largest_activation() -> None:
    values = np.array([[-1.0]] * 9 + [[3.0]], np.float32)
    found = QuantileThreshold(p=0.5).threshold("relu", statistics_of(values), 4)
    assert found.tolist() == [3.0]


def test_a_learned_bound_is_the_threshold() -> None:
    statistics = statistics_of(random_values(6), upper=2.5)
    for rule in (LearnedBound(), LearnedBound(otherwise=MaxThreshold(per="channel"))):
        assert rule.threshold("relu", statistics, 4).tolist() == [2.5]


def test_without_a_learned_bound_the_other_rule_decides() -> None:
    statistics = statistics_of(random_values(6))
    rule = MaxThreshold(per="channel")
    found = LearnedBound(otherwise=rule).threshold("relu", statistics, 4)
    np.testing.assert_array_equal(found, rule.threshold("relu", statistics, 4))


def test_without_a_learned_bound_or_another_rule_the_layer_is_named() -> None:
    statistics = statistics_of(random_values(6))
    with pytest.raises(ConversionError) as caught:
        LearnedBound().threshold("layer3.relu", statistics, 4)
    assert str(caught.value) == (
        "layer3.relu: no learned bound; declare the activation class that holds it "
        "(--activation CLASS:BOUND), or choose a recipe that measures thresholds"
    )


def test_each_rule_has_a_label_of_its_own() -> None:
    labels = {str(rule) for rule in RULES}
    labels |= {str(LearnedBound()), str(QuantileThreshold(p=0.99))}
    labels |= {str(SpikeNormThreshold(reset="hard")), str(SpikeNormThreshold(reset="soft"))}
    assert len(labels) == len(RULES) + 4
