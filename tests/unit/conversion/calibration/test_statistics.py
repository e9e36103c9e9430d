"""Histograms of activations: quantiles, extremes, and independence of how samples come."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.backends.reference import evaluate, run_ann
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.statistics import (
    BINS,
    ActivationStatistics,
    Statistics,
    bin_values,
    collect_statistics,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Input, Output, Relu
from tests.support.graphs import conv, dyadic

BIN_WIDTH = 1 / 64


def rectifier(shape: tuple[int, ...], upper: float | None = None) -> Graph:
    """The samples themselves, rectified."""
    return Graph(
        nodes=(
            Input(name="input", shape=shape),
            Relu(name="relu", inputs=("input",), upper=upper),
            Output(name="output", inputs=("relu",)),
        )
    )


def activations_of(values: Array, upper: float | None = None) -> ActivationStatistics:
    """Statistics of the rectified values [N, *shape]."""
    found = collect_statistics(
        rectifier(values.shape[1:], upper), CalibrationContext.of(values, batch_size=7)
    )
    return found.layers["relu"]


def small_ann() -> Graph:
    """Dyadic weights, so that activations do not depend on the order of summation."""
    rng = np.random.default_rng(0)
    return Graph(
        nodes=(
            Input(name="input", shape=(2, 5, 5)),
            conv("conv1", "input", rng, (2, 4)),
            Relu(name="relu1", inputs=("conv1",)),
            conv("conv2", "relu1", rng, (4, 3), stride=2),
            Relu(name="relu2", inputs=("conv2",), upper=2.0),
            Output(name="output", inputs=("relu2",)),
        )
    )


def by_channel(values: Array) -> Array:
    """[N, C, ...] -> [C, everything else]."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def test_bins_are_in_order_and_of_constant_relative_width() -> None:
    values = bin_values(3)
    assert values.shape == (BINS,)
    assert values[0] == 0
    assert 8 * (1 - BIN_WIDTH) < values[-1] < 8
    assert (np.diff(values) > 0).all()
    ratio = values[2:] / values[1:-1]
    assert ratio.min() > 1 + BIN_WIDTH / 2.1
    assert ratio.max() < 1 + BIN_WIDTH * 1.01


def test_every_value_is_counted_in_the_bin_that_is_nearest() -> None:
    values = np.geomspace(2.0**-20, 2.0**20, 999, dtype=np.float32)
    statistics = activations_of(values.reshape(-1, 1))
    found = np.repeat(statistics.bin_values, statistics.histogram[0])
    np.testing.assert_allclose(found, values, rtol=BIN_WIDTH / 2 * 1.001)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.98, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantile_is_that_of_the_raw_values(p: float, per_channel: bool) -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(0.3, 1, (50, 3, 4, 5)) * [[[1]], [[10]], [[0.01]]]).astype(np.float32)
    raw = np.maximum(values, 0)
    rows = by_channel(raw) if per_channel else raw.reshape(1, -1)
    wanted = np.quantile(rows, p, axis=1, method="inverted_cdf")
    found = activations_of(values).quantile(p, per_channel=per_channel)
    assert found.shape == ((3,) if per_channel else (1,))
    np.testing.assert_allclose(found, wanted, rtol=BIN_WIDTH)
    assert (found <= rows.max(axis=1)).all()


def test_zeros_count_in_a_quantile() -> None:
    values = np.full((100, 1), -1.0, np.float32)
    values[:10] = 4.0
    found = activations_of(values)
    assert found.quantile(0.9, per_channel=True) == 0
    assert found.quantile(0.91, per_channel=True) == 4.0
    assert found.histogram[0, 0] == 90


def test_a_quantile_is_never_above_the_maximum() -> None:
    values = np.array([[1.0], [3.2813]], np.float32)  # in the lower half of its bin
    assert activations_of(values).quantile(1.0, per_channel=False) == values.max()


def test_maximum_and_mean_are_those_of_the_raw_values() -> None:
    rng = np.random.default_rng(2)
    values = dyadic(rng, 20, 3, 4, 4, low=-64, high=64)
    found = activations_of(values)
    raw = by_channel(np.maximum(values, 0)).astype(np.float64)
    np.testing.assert_array_equal(found.maximum, raw.max(axis=1))
    np.testing.assert_array_equal(found.mean, raw.mean(axis=1))
    np.testing.assert_array_equal(found.total, raw.sum(axis=1))
    assert (found.histogram.sum(axis=1) == raw.shape[1]).all()


def test_a_sum_loses_no_small_values() -> None:
    values = np.array([[2.0**24], [1.0], [1.0], [1.0]], np.float32)
    assert activations_of(values).total == 2**24 + 3


def test_a_bound_is_kept_and_cuts_the_values() -> None:
    found = activations_of(np.array([[0.5], [9.0]], np.float32), upper=6.0)
    assert found.upper == 6.0
    assert found.maximum == 6.0
    assert found.mean == 3.25


def test_every_rectifier_and_the_logits_are_measured() -> None:
    ann = small_ann()
    x = dyadic(np.random.default_rng(3), 12, 2, 5, 5, low=-64, high=64)
    found = collect_statistics(ann, CalibrationContext.of(x, batch_size=5))
    conv1 = ann.node("conv1")
    assert isinstance(conv1, Conv)
    first = by_channel(np.maximum(evaluate(conv1, x.astype(np.float64)), 0))
    np.testing.assert_array_equal(found.layers["relu1"].mean, first.mean(axis=1))
    np.testing.assert_array_equal(found.layers["relu1"].maximum, first.max(axis=1))
    last = by_channel(run_ann(ann, x))
    np.testing.assert_array_equal(found.layers["relu2"].mean, last.mean(axis=1))
    np.testing.assert_allclose(found.logits_mean, last.mean(axis=1), rtol=1e-15)
    assert list(found.layers) == ["relu1", "relu2"]


def assert_identical(one: Statistics, other: Statistics) -> None:
    for name, layer in one.layers.items():
        for field in ("histogram", "maximum", "total"):
            expected = getattr(layer, field)
            assert getattr(other.layers[name], field).tobytes() == expected.tobytes(), name
    np.testing.assert_allclose(other.logits_mean, one.logits_mean, rtol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    x = dyadic(np.random.default_rng(4), 10, 2, 5, 5, low=-64, high=64)
    one = collect_statistics(small_ann(), CalibrationContext.of(x, batch_size=3))
    other = collect_statistics(small_ann(), CalibrationContext.of(x, batch_size=batch_size))
    assert_identical(one, other)


def test_the_order_of_samples_changes_nothing() -> None:
    x = dyadic(np.random.default_rng(5), 10, 2, 5, 5, low=-64, high=64)
    one = collect_statistics(small_ann(), CalibrationContext.of(x, batch_size=3))
    other = collect_statistics(small_ann(), CalibrationContext.of(x[::-1].copy(), batch_size=3))
    assert_identical(one, other)


def test_values_far_below_the_largest_count_as_zero() -> None:
    top = 2.0**40
    values = np.array([[top * 2.0**-48], [top * 2.0**-47], [0.0], [-0.0], [-5.0], [2.0**24], [top]])
    found = activations_of(values.astype(np.float32))
    assert found.exponent == 41
    assert found.histogram[0, 0] == 4  # three zeros, and 2^-48 of the largest
    assert found.histogram[0, 1] == 1
    assert found.histogram.sum() == 7
    assert found.maximum == np.float32(top)


def test_values_of_the_ends_of_float32() -> None:
    large = activations_of(np.array([[3e38], [1.0]], np.float32))
    assert large.exponent == 128
    assert large.histogram[0, -1] == 0
    np.testing.assert_allclose(large.quantile(1.0, per_channel=True), 3e38, rtol=BIN_WIDTH)
    small = activations_of(np.array([[1e-37], [1e-40], [0.0]], np.float32))  # 1e-40 is subnormal
    assert small.histogram[0, 0] == 2
    np.testing.assert_allclose(small.quantile(1.0, per_channel=True), 1e-37, rtol=BIN_WIDTH)


def test_the_largest_value_may_come_first_or_last() -> None:
    values = np.geomspace(2.0**-30, 2.0**30, 50, dtype=np.float32).reshape(-1, 1)
    up, down = activations_of(values), activations_of(values[::-1].copy())
    assert up.exponent == down.exponent == 31
    np.testing.assert_array_equal(up.histogram, down.histogram)
    found = np.repeat(up.bin_values, up.histogram[0])
    kept = values[values >= 2.0**-17]
    np.testing.assert_allclose(found[-len(kept) :], kept, rtol=BIN_WIDTH / 2 * 1.001)


@pytest.mark.parametrize("exponent", [-60, -25, -1, 1, 25, 60])
def test_a_power_of_two_moves_the_bins_and_no_count(exponent: int) -> None:
    values = np.random.default_rng(6).normal(0.3, 1, (50, 3)).astype(np.float32)
    one, other = activations_of(values), activations_of(values * np.float32(2.0**exponent))
    np.testing.assert_array_equal(other.histogram, one.histogram)
    np.testing.assert_array_equal(other.bin_values, one.bin_values * 2.0**exponent)
    quantiles = [each.quantile(0.9, per_channel=True) for each in (one, other)]
    np.testing.assert_array_equal(quantiles[1], quantiles[0] * 2.0**exponent)
