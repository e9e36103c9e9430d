"""Early exit: every sample's logits are those of the full run at the step where it stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.early_exit import (
    EarlyExit,
    confidence_unit,
    run_until_sure,
    stop_where_sure,
)
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import encode_rate, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from tests.support.graphs import if_graphs, residual_network, samples


def full_run(simulator: TorchSimulator, x: Array) -> Array:
    found = simulator.run(x, Record(spikes=False, logits_t=True)).logits_t
    assert found is not None
    return found


def confidences(logits_t: Array, unit: float) -> Array:
    """Of each step and sample, [T, B], from the full run, in double precision."""
    scaled = logits_t.astype(np.float64) * unit
    if scaled.shape[2] == 1:
        scaled = np.concatenate([scaled, 0 * scaled], axis=2)
    powers = np.exp(scaled - scaled.max(axis=2, keepdims=True))
    best = (powers / powers.sum(axis=2, keepdims=True)).max(axis=2)  # [T, B, *positions]
    found: Array = best.reshape(*best.shape[:2], -1).min(axis=2)
    return found


def middling(simulator: TorchSimulator, x: Array, unit: float = 1.0) -> float:
    """A confidence that half of the samples reach before the last step."""
    start = simulator.graph.readout_start
    reached = confidences(full_run(simulator, x), unit)[start:-1].max(axis=0)
    return float(np.median(reached)) + 1e-9


def first_sure(logits_t: Array, start: int, confidence: float, unit: float) -> Array:
    """The step at which each sample stops."""
    sure = confidences(logits_t, unit) >= confidence
    sure[:start] = False
    sure[-1] = True
    found: Array = sure.argmax(axis=0) + 1
    return found


def assert_stops_where_sure(
    simulator: TorchSimulator, x: Array, confidence: float, unit: float = 1.0
) -> EarlyExit:
    logits_t = full_run(simulator, x)
    found = run_until_sure(simulator, x, confidence, unit=unit)
    start = simulator.graph.readout_start
    np.testing.assert_array_equal(found.steps, first_sure(logits_t, start, confidence, unit))
    for image, step in enumerate(found.steps):
        np.testing.assert_array_equal(found.logits[image], logits_t[step - 1, image])
    assert found.logits.dtype == logits_t.dtype
    afterwards = stop_where_sure(logits_t, start, confidence, unit=unit)
    np.testing.assert_array_equal(afterwards.steps, found.steps)
    np.testing.assert_array_equal(afterwards.logits, found.logits)
    return found


@settings(max_examples=40, deadline=None)
@given(if_graphs(("subtract", "v_reset")), st.sampled_from([0.2, 0.5, 0.7, 0.95, 2.0]))
def test_logits_are_those_of_the_full_run(graph: Graph, confidence: float) -> None:
    found = assert_stops_where_sure(TorchSimulator(graph), samples(graph, 4), confidence)
    if confidence > 1:
        assert (found.steps == graph.steps).all()


@pytest.mark.parametrize("readout_start", [0, 3])
def test_some_stop_early_and_others_go_on(readout_start: int) -> None:
    graph = replace(residual_network(time_steps=12), readout_start=readout_start)
    x = samples(graph, 24)
    simulator = TorchSimulator(graph)
    found = assert_stops_where_sure(simulator, x, middling(simulator, x))
    assert readout_start < found.steps.min() < found.steps.max() <= 12
    assert found.mean_steps == found.steps.sum() / 24


@pytest.mark.parametrize("memory", [1, 100_000])
def test_chunks_change_nothing(memory: int) -> None:
    graph = residual_network()
    x = samples(graph, 9)
    confidence = middling(TorchSimulator(graph), x)
    whole = run_until_sure(TorchSimulator(graph), x, confidence)
    found = run_until_sure(TorchSimulator(graph, memory=memory), x, confidence)
    np.testing.assert_array_equal(found.logits, whole.logits)
    np.testing.assert_array_equal(found.steps, whole.steps)


def integer_network(steps: int) -> tuple[Graph, Array]:
    graph = residual_network(time_steps=steps)
    x = samples(graph, 24)
    result = quantize(graph, x, None, LatticeOptions(bits=6))
    return result.network, to_input_units(result.network, x)


def test_an_integer_network_counts_in_its_unit() -> None:
    graph, x = integer_network(8)
    unit = confidence_unit(graph)
    assert unit == graph.output_unit != 1
    simulator = TorchSimulator(graph)
    confidence = middling(simulator, x, unit)
    found = assert_stops_where_sure(simulator, x, confidence, unit)
    assert found.steps.min() < found.steps.max()
    wrong = run_until_sure(simulator, x, confidence)  # in units of 1 all are sure
    assert (wrong.steps == 1).all()


def test_spike_input_is_followed_over_time() -> None:
    graph = residual_network()
    source = replace(graph.input, encoding="rate", dtype="uint8")
    graph = graph.replace(source)
    rng = np.random.default_rng(0)
    x = encode_rate(rng.random((11, *graph.input.shape)), graph.steps, seed=1)
    simulator = TorchSimulator(graph)
    found = assert_stops_where_sure(simulator, x, middling(simulator, x))
    assert found.steps.min() < found.steps.max()


@pytest.mark.parametrize("confidence", [0.0, -1.0, float("nan")])
def test_a_confidence_that_is_none(confidence: float) -> None:
    graph = residual_network()
    with pytest.raises(DataError, match="a confidence of"):
        run_until_sure(TorchSimulator(graph), samples(graph, 1), confidence)
    with pytest.raises(DataError, match="a confidence of"):
        stop_where_sure(np.zeros((2, 1, 3)), 0, confidence)


def test_no_samples() -> None:
    graph = residual_network()
    with pytest.raises(DataError, match="no samples"):
        run_until_sure(TorchSimulator(graph), samples(graph, 1)[:0], 0.5)


def test_an_integer_network_without_a_unit() -> None:
    graph, _ = integer_network(2)
    with pytest.raises(DataError, match=r"no output_unit \(logit_unit in its file\)"):
        confidence_unit(replace(graph, output_unit=None))


def test_a_float_network_has_unit_one() -> None:
    assert confidence_unit(residual_network()) == 1.0
