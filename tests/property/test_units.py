"""Calibration does not depend on the units of the input or of a layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import sweep
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.conversion.calibration.threshold_rules import (
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    StatisticsRule,
)
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output, Relu
from tests.support.graphs import conv

RULES = (
    MaxThreshold(),
    QuantileThreshold(p=0.98, per="channel"),
    QuantileThreshold(p=0.99),
    MSEThreshold(),
    MSEThreshold(per="layer"),
)
T = 4


def network() -> Graph:
    """Two hidden layers, random weights."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 4 * 25)).astype(np.float32)
    return Graph(
        nodes=(
            Input(name="input", shape=(2, 5, 5)),
            conv("conv1", "input", rng, (2, 4)),
            Relu(name="relu1", inputs=("conv1",)),
            conv("conv2", "relu1", rng, (4, 4)),
            Relu(name="relu2", inputs=("conv2",)),
            Flatten(name="flat", inputs=("relu2",)),
            Linear(name="head", inputs=("flat",), weight=weight, bias=np.zeros(3)),
            Output(name="output", inputs=("head",)),
        )
    )


def samples() -> Array:
    return np.random.default_rng(1).normal(size=(12, 2, 5, 5)).astype(np.float32)


def in_units(graph: Graph, input_factor: float, layer_factors: tuple[float, float]) -> Graph:
    """The same function of input_factor * x, with relu1 and relu2 in other units."""
    first, second = graph.node("conv1"), graph.node("conv2")
    head = graph.node("head")
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    assert isinstance(head, Linear)
    one, two = layer_factors
    return graph.replace(
        replace(
            first,
            weight=(first.weight * (one / input_factor)).astype(np.float32),
            bias=(first.bias * one).astype(np.float32),
        ),
        replace(
            second,
            weight=(second.weight * (two / one)).astype(np.float32),
            bias=(second.bias * two).astype(np.float32),
        ),
        replace(head, weight=(head.weight / two).astype(np.float32)),
    )


def converted(ann: Graph, x: Array, rule: StatisticsRule, *, searched: bool = False) -> Graph:
    """The IF network of a rule, with bias correction; refitted and searched on request."""
    context = CalibrationContext.of(x, batch_size=5)
    runner = CandidateRunner(ann, context, AgreementScorer(ann, context), readout_steps=(T,))
    network = runner.build(Method(threshold=rule, v_init=Half(), bias_correction=True))
    if searched:
        activations = sample_activations(ann, context)
        network = sweep(network, context, refit(activations, 0.1), stage="refit")
        network = sweep(network, context, search(activations, (T,)), stage="search")
    return network


def thresholds(graph: Graph) -> dict[str, Array]:
    return {node.name: node.v_threshold for node in graph.nodes_of(IF)}


def assert_same_spikes(one: Graph, x: Array, other: Graph, y: Array) -> None:
    expected, found = ReferenceSimulator(one).run(x), ReferenceSimulator(other).run(y)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


exponents = st.integers(-40, 40)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(RULES), exponents, exponents, exponents, st.booleans())
def test_powers_of_two_scale_thresholds_exactly_and_change_no_spike(
    rule: StatisticsRule, of_input: int, of_first: int, of_second: int, searched: bool
) -> None:
    factors = (2.0**of_first, 2.0**of_second)
    ann, x = network(), samples()
    other, y = in_units(ann, 2.0**of_input, factors), x * np.float32(2.0**of_input)
    expected = converted(ann, x, rule, searched=searched)
    found = converted(other, y, rule, searched=searched)
    for (name, one), factor in zip(thresholds(expected).items(), factors, strict=True):
        if searched:  # refitting has a ridge with an absolute floor, far below float32
            np.testing.assert_allclose(thresholds(found)[name], one * factor, rtol=1e-6)
        else:
            np.testing.assert_array_equal(thresholds(found)[name], one * np.float32(factor))
    if not searched:
        assert_same_spikes(expected, x, found, y)


factors = st.floats(-12, 12).map(lambda exponent: 10.0**exponent)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(RULES), factors, factors, factors)
def test_any_other_factor_scales_thresholds_to_within_a_bin(
    rule: StatisticsRule, of_input: float, of_first: float, of_second: float
) -> None:
    ann, x = network(), samples()
    other, y = in_units(ann, of_input, (of_first, of_second)), (x * of_input).astype(np.float32)
    expected, found = converted(ann, x, rule), converted(other, y, rule)
    # A bin is 1.6 % wide; the grid of MSEThreshold is 4.2 % wide.
    bound = 0.09 if isinstance(rule, MSEThreshold) else 0.017
    for (name, one), factor in zip(
        thresholds(expected).items(), (of_first, of_second), strict=True
    ):
        np.testing.assert_allclose(thresholds(found)[name], one * factor, rtol=bound)


@pytest.mark.parametrize("factor", [2.0**30, 2.0**-30, 1e9, 255.0])
def test_a_network_in_large_or_small_units_converts_as_well_as_any(factor: float) -> None:
    ann, x = network(), samples()
    other, y = in_units(ann, factor, (factor, factor)), (x * factor).astype(np.float32)
    wanted = run_ann(ann, x)

    def error(graph: Graph, inputs: Array) -> float:
        logits = ReferenceSimulator(converted(graph, inputs, MSEThreshold())).run(inputs).logits
        return float(np.abs(logits - wanted).mean())

    assert error(other, y) < 1.2 * error(ann, x)
