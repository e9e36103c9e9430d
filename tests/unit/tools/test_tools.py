"""Circuits, and the errors where a tool's environment is missing, wrong or fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.self_test import three_neurons
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BackendUnavailableError, GraphError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.tools.circuit import Circuit, make_circuit
from icsnn_deploy.tools.environment import TOOLS, Tool, find_environment, find_tool
from icsnn_deploy.tools.simulator import ToolSimulator
from tests.support.graphs import residual_network, samples
from tests.support.integer_graphs import on_lattice


@pytest.fixture
def network() -> Graph:
    return on_lattice(residual_network())


def circuit_of(graph: Graph) -> Circuit:
    return make_circuit(graph, most_synapses=10**6, tool="test")


def test_a_circuit_gives_the_spikes_and_logits_of_the_network(network: Graph) -> None:
    circuit = circuit_of(network)
    x = np.round(samples(network, 2)).astype(np.int8)
    wanted = ReferenceSimulator(network).run(x)
    spikes = {n.name: wanted.spikes[n.name] for n in network.nodes_of(Population)}
    ran = [each for each in circuit.neurons if not each.on_host]
    assert 0 < len(ran) < len(circuit.neurons)
    for neurons in ran:
        v = np.broadcast_to(neurons.v_init, (2, len(neurons.v_init))).copy()
        for step in range(network.steps):
            v += neurons.bias + arriving(circuit, neurons.name, spikes, step)
            fired = v >= neurons.v_threshold
            v -= neurons.v_threshold * fired
            np.testing.assert_array_equal(fired, spikes[neurons.name][step].reshape(2, -1))
    mean = circuit.readout(spikes, x)[network.readout_start :].mean(axis=0)
    np.testing.assert_allclose(mean, wanted.logits)


def arriving(circuit: Circuit, target: str, spikes: dict[str, Array], step: int) -> Array:
    """Current [B, neurons] of the synapses into a population."""
    total = 0
    for some in (each for each in circuit.synapses if each.target == target):
        sources = len(some.starts) - 1
        matrix = np.zeros((sources, len(circuit_neurons(circuit, target))), np.int64)
        rows = np.repeat(np.arange(sources), np.diff(some.starts))
        matrix[rows, some.targets] = some.weights
        total = total + spikes[some.source][step].reshape(2, -1).astype(np.int64) @ matrix
    return np.asarray(total)


def circuit_neurons(circuit: Circuit, name: str) -> Array:
    return next(each.bias for each in circuit.neurons if each.name == name)


def test_float_networks_and_large_ones_are_refused(network: Graph) -> None:
    with pytest.raises(GraphError, match="test runs integer networks"):
        circuit_of(residual_network())
    with pytest.raises(GraphError, match="more than 10 synapses, the most that test"):
        make_circuit(network, most_synapses=10, tool="test")


def test_a_network_whose_populations_all_run_on_the_host_is_refused() -> None:
    """Brian2 had no neurons and said: max() arg is an empty sequence."""
    with pytest.raises(
        GraphError,
        match=r"no population is left for test: .* drives \(population\).*--encoding rate",
    ):
        circuit_of(three_neurons("direct"))


@pytest.mark.parametrize("name", list(TOOLS))
def test_a_missing_environment_names_its_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = find_tool(name)
    monkeypatch.setenv(tool.spec.variable, str(tmp_path / "none"))
    with pytest.raises(BackendUnavailableError, match=f"run: icsnn tools setup {name}"):
        find_environment(tool)
    result = CliRunner().invoke(app, ["tools", "status", name, "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "BackendUnavailableError"


def test_an_unknown_tool_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="no tool 'loihi'; there are nengo-loihi"):
        find_tool("loihi")


def test_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = TOOLS["brian2"]
    (tmp_path / tool.spec.stamp).write_text(json.dumps({**tool.pins, "Brian2": "1.0"}))
    monkeypatch.setenv(tool.spec.variable, str(tmp_path))
    with pytest.raises(BackendUnavailableError, match=r"Brian2 1\.0, tested with"):
        find_environment(tool)


@pytest.mark.slow
def test_a_worker_that_fails_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """This Python has no nengo_loihi."""
    tool: Tool = TOOLS["nengo-loihi"]
    graph = three_neurons("rate")
    simulator = ToolSimulator(graph, tool, python=Path(sys.executable))
    with pytest.raises(SimulationError, match="nengo-loihi: ModuleNotFoundError"):
        simulator.run(np.ones((graph.steps, 1, 1), np.int8))
