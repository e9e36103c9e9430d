"""The PyTorch simulator gives the reference's spikes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import BackendUnavailableError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from tests.support.graphs import if_graphs, residual_network, samples

EVERYTHING = Record(spikes=True, counts=True, first_spikes=True, logits_t=True)


def assert_equal_runs(graph: Graph, x: Array, simulator: TorchSimulator) -> None:
    expected = ReferenceSimulator(graph).run(x, EVERYTHING)
    got = simulator.run(x, EVERYTHING)
    assert list(got.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
        np.testing.assert_array_equal(got.counts[name], expected.spike_counts()[name])
        np.testing.assert_array_equal(got.first_spikes[name], expected.first_spike_times()[name])
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-5)
    assert got.logits_t is not None
    assert expected.logits_t is not None
    np.testing.assert_allclose(got.logits_t, expected.logits_t, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(if_graphs(("subtract", "v_reset")))
def test_random_networks_are_spike_exact(graph: Graph) -> None:
    assert_equal_runs(graph, samples(graph, 3), TorchSimulator(graph))


@pytest.mark.parametrize(
    ("memory", "samples_and_steps"),
    [(1, (1, 1)), (9_000, (1, 3)), (12_000, (1, 4)), (40_000, (2, 8)), (1 << 30, (65_408, 8))],
)
def test_chunks_change_nothing(memory: int, samples_and_steps: tuple[int, int]) -> None:
    graph = residual_network()
    simulator = TorchSimulator(graph, memory=memory)
    assert simulator.chunks() == samples_and_steps
    assert_equal_runs(graph, samples(graph, 7), simulator)


def test_one_step_takes_more_samples_at_once() -> None:
    simulator = TorchSimulator(residual_network(), memory=40_000)
    assert simulator.chunks(steps=1) == (9, 1)


def test_double_precision() -> None:
    graph = residual_network(time_steps=16)
    assert_equal_runs(graph, samples(graph, 2), TorchSimulator(graph, dtype=torch.float64))


def test_potentials_are_those_before_the_reset() -> None:
    graph = residual_network()
    x = samples(graph, 2)
    record = Record(potentials=frozenset({"block.if2"}))
    expected = ReferenceSimulator(graph).run(x, record)
    got = TorchSimulator(graph).run(x, record)
    assert set(got.potentials) == {"block.if2"}
    np.testing.assert_array_equal(got.potentials["block.if2"], expected.potentials["block.if2"])


@pytest.mark.parametrize("device", ["xla", "cuda:99", "nonsense", "meta"])
def test_a_missing_device_is_an_error(device: str) -> None:
    with pytest.raises(BackendUnavailableError, match=f"torch device '{device}' can't be used"):
        TorchSimulator(residual_network(), device=device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, "float64"])
def test_other_types_are_refused(dtype: torch.dtype) -> None:
    """float16 ran, and gave integer networks other spikes."""
    with pytest.raises(SimulationError, match=r"float64 is needed"):
        TorchSimulator(residual_network(), dtype=dtype)


@pytest.mark.parametrize("memory", [0, -1, float("nan")])
def test_no_memory_is_refused(memory: int) -> None:
    with pytest.raises(SimulationError, match="at least 1"):
        TorchSimulator(residual_network(), memory=memory)
