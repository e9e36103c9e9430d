"""The layer-by-layer sweep: what it replays is what the final network really does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate, run_ann
from icsnn_deploy.conversion.calibration.bias_correction import correct_bias
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Reset,
    _Runner,
    sweep,
)
from icsnn_deploy.conversion.calibration.spike_norm import spike_norm
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Input, Linear, Node, Output, Relu
from tests.support.graphs import conv, dyadic, if_graphs, residual_network, samples


class Recorder:
    """A visitor that wants given changes and keeps what arrived, all batches together."""

    def __init__(self, change: Callable[[IF | Output], CalibrationUpdate]) -> None:
        self.change = change
        self.currents: dict[str, Array] = {}  # [T, N, *shape], with the shift
        self.spikes: dict[str, Array] = {}

    def __call__(self, population_input: PopulationInput) -> CalibrationUpdate:
        node, change = population_input.node, self.change(population_input.node)
        batches = list(population_input.replay(lambda start, currents: currents))
        if change.shift is not None:
            column = change.shift.reshape(-1, *(1,) * (batches[0].ndim - 3))
            batches = [batch + torch.as_tensor(column, dtype=batch.dtype) for batch in batches]
        self.currents[node.name] = torch.cat(batches, dim=1).numpy()
        if isinstance(node, IF):
            if change.v_threshold is not None:
                node = replace(node, v_threshold=change.v_threshold)
            spikes = [population_input.integrate(node, batch) for batch in batches]
            self.spikes[node.name] = torch.cat(spikes, dim=1).numpy()
        return change


def charges(network: Graph, x: Array) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """The reference's currents [T, B, *shape] into each population, its spikes, its logits."""
    names = frozenset(node.name for node in network.nodes_of(IF))
    recording = ReferenceSimulator(network).run(x, Record(potentials=names))
    currents = {}
    for node in network.nodes_of(IF):
        u, s = recording.potentials[node.name], recording.spikes[node.name].astype(np.float64)
        start = np.broadcast_to(node.v_init.astype(np.float64), u[:1].shape)
        before = np.concatenate([start, (u - node.v_threshold.astype(np.float64) * s)[:-1]])
        currents[node.name] = u - before
    return currents, dict(recording.spikes), recording.logits


def assert_replay_equals_reference(network: Graph, visitor: Recorder, batch_size: int) -> None:
    x = samples(network, 5)
    final = sweep(network, CalibrationContext.of(x, batch_size=batch_size), visitor)
    currents, spikes, logits = charges(final, x)
    for name, expected in currents.items():
        np.testing.assert_array_equal(visitor.currents[name], expected)
        np.testing.assert_array_equal(visitor.spikes[name], spikes[name])
    readout = visitor.currents["output"][final.readout_start :]
    np.testing.assert_allclose(readout.mean(axis=0), logits, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@settings(deadline=None)
@given(if_graphs(), st.sampled_from([1, 2, 5]))
def test_without_changes_the_replay_is_the_network(graph: Graph, batch_size: int) -> None:
    assert_replay_equals_reference(graph, Recorder(lambda node: CalibrationUpdate()), batch_size)


@pytest.mark.slow
@settings(deadline=None)
@given(if_graphs(), st.integers(0, 2**32 - 1))
def test_with_changes_the_replay_is_the_network_that_comes_out(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def change(node: IF | Output) -> CalibrationUpdate:
        shift = dyadic(rng, graph.shape(node.name)[0]).astype(np.float64)
        if isinstance(node, Output):
            return CalibrationUpdate(shift=shift)
        ratio = 2.0 ** rng.integers(-1, 2, node.v_threshold.shape)
        v_threshold = (node.v_threshold * ratio).astype(np.float32)
        return [CalibrationUpdate(shift=shift), CalibrationUpdate(v_threshold=v_threshold)][
            rng.integers(2)
        ]

    assert_replay_equals_reference(graph, Recorder(change), 2)


def test_nothing_wanted_nothing_changed() -> None:
    network = residual_network()
    context = CalibrationContext.of(samples(network, 3), batch_size=2)
    unchanged = sweep(network, context, lambda population_input: CalibrationUpdate())
    assert unchanged.hash() == network.hash()


def test_every_population_and_the_output_are_visited_once_in_order() -> None:
    network = residual_network()
    visited: list[str] = []
    told: list[tuple[str, int, int | None]] = []

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        visited.append(population_input.node.name)
        return CalibrationUpdate()

    context = CalibrationContext.of(
        samples(network, 3), batch_size=2, progress=lambda *args: told.append(args)
    )
    sweep(network, context, visit, stage="my stage")
    assert visited == ["stem.if", "block.if1", "block.if2", "output"]
    stages = [each for each in told if each[0] == "my stage"]
    assert stages == [("my stage", done, 4) for done in range(5)]
    assert {name for name, _, _ in told} == {"my stage", "batches of a layer"}


# Storage


def chain(depth: int) -> Graph:
    rng = np.random.default_rng(0)
    nodes: list[Node] = [Input(name="input", shape=(2, 4, 4))]
    one = np.ones((1, 1, 1))
    for layer in range(depth):
        nodes.append(conv(f"conv{layer}", nodes[-1].name, rng, (2, 2)))
        nodes.append(
            IF(name=f"if{layer}", inputs=(f"conv{layer}",), v_threshold=one, v_init=one / 2)
        )
    nodes.append(Output(name="output", inputs=(nodes[-1].name,)))
    return Graph(nodes=tuple(nodes), time_steps=5)


def settled(network: Graph, batch_size: int = 2) -> tuple[_Runner, list[set[str]]]:
    """A runner that settled every population, and what it had stored after each."""
    context = CalibrationContext.of(samples(network, 3), batch_size=batch_size)
    runner = _Runner(network, context, "soft")
    kept = []
    for node in network.nodes_of(IF):
        runner.store_spikes(node.name)
        kept.append(set(runner.stored))
    return runner, kept


def test_only_the_last_population_of_a_chain_stays_stored() -> None:
    _, kept = settled(chain(6))
    assert kept == [{f"if{layer}"} for layer in range(6)]


def test_a_population_stays_stored_while_a_shortcut_needs_it() -> None:
    _, kept = settled(residual_network())
    assert kept == [{"stem.if"}, {"stem.if", "block.if1"}, {"block.if2"}]


def test_stored_spikes_take_one_bit_each_in_a_file() -> None:
    network = chain(1)
    runner, _ = settled(network)
    stored = runner.stored["if0"]
    assert isinstance(stored, np.memmap)
    assert stored.shape == (3, 2 * 4 * 4 * 5 // 8)
    bits = np.unpackbits(stored, axis=1).reshape(3, 5, 2, 4, 4).swapaxes(0, 1)
    spikes = ReferenceSimulator(network).run(samples(network, 3)).spikes["if0"]
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(bits, spikes)


# Bias correction


def random_ann() -> Graph:
    rng = np.random.default_rng(5)
    nodes: tuple[Node, ...] = (
        Input(name="input", shape=(2, 5, 5)),
        conv("conv1", "input", rng, (2, 4)),
        Relu(name="relu1", inputs=("conv1",)),
        conv("conv2", "relu1", rng, (4, 6), stride=2),
        Relu(name="relu2", inputs=("conv2",)),
        conv("conv3", "relu2", rng, (6, 3), (3, 3), padding=0),
        Relu(name="relu3", inputs=("conv3",)),
        conv("head", "relu3", rng, (3, 4), (1, 1), padding=0),
        Output(name="output", inputs=("head",)),
    )
    return Graph(nodes=nodes)


def ann_means(ann: Graph, x: Array) -> dict[str, Array]:
    """Mean of every node's result over samples and positions, per channel."""
    values = {ann.input.name: x.astype(np.float64)}
    for node in ann.nodes[1:]:
        values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
    return {name: value.mean(axis=(0, 2, 3)) for name, value in values.items()}


def spiking(ann: Graph, x: Array, readout_start: int = 0) -> Graph:
    """Twice the mean activation as threshold: much is clipped, so there is much to correct."""
    populations = {}
    means = ann_means(ann, x)
    for relu in ann.nodes_of(Relu):
        v_threshold = np.full((1, 1, 1), 2 * means[relu.name].mean())
        populations[relu.name] = PopulationParameters(
            v_threshold=v_threshold, v_init=v_threshold / 2
        )
    return replace(to_spiking(ann, populations, 6), readout_start=readout_start)


def corrected(network: Graph, ann: Graph, x: Array, batch_size: int = 4) -> Graph:
    means = ann_means(ann, x)
    visit = correct_bias(means, means["output"], network.readout_start)
    return sweep(network, CalibrationContext.of(x, batch_size=batch_size), visit)


def mean_errors(network: Graph, ann: Graph, x: Array) -> dict[str, float]:
    """Per population, the mean over channels of |ANN mean - v_threshold * firing rate|."""
    means, spikes = ann_means(ann, x), ReferenceSimulator(network).run(x).spikes
    return {
        node.name: float(
            np.abs(
                means[node.name] - (spikes[node.name] * node.v_threshold).mean(axis=(0, 1, 3, 4))
            ).mean()
        )
        for node in network.nodes_of(IF)
    }


def test_a_correction_reduces_the_mean_error_of_its_own_layer() -> None:
    ann = random_ann()
    x = samples(ann, 8)
    means = ann_means(ann, x)
    network = spiking(ann, x)
    full = correct_bias(means, means["output"])
    for name in ("relu1", "relu2", "relu3"):

        def only(population_input: PopulationInput, name: str = name) -> CalibrationUpdate:
            return (
                full(population_input)
                if population_input.node.name == name
                else CalibrationUpdate()
            )

        changed = sweep(network, CalibrationContext.of(x, batch_size=4), only)
        before, after = mean_errors(network, ann, x)[name], mean_errors(changed, ann, x)[name]
        assert 0 < after < 0.8 * before, name
        network = changed


def test_the_shift_is_the_mean_error_that_the_layer_makes() -> None:
    ann = random_ann()
    x = samples(ann, 8)
    network = spiking(ann, x)
    means, spikes = ann_means(ann, x), ReferenceSimulator(network).run(x).spikes["relu1"]
    (first,) = (node for node in network.nodes_of(IF) if node.name == "relu1")
    error = means["relu1"] - (spikes * first.v_threshold).mean(axis=(0, 1, 3, 4))
    before, after = (
        graph.node("conv1").arrays()["bias"] for graph in (network, corrected(network, ann, x))
    )
    np.testing.assert_allclose(after - before, error, atol=1e-6)


@pytest.mark.parametrize("readout_start", [0, 2])
def test_the_mean_logits_become_those_of_the_ann(readout_start: int) -> None:
    ann = random_ann()
    x = samples(ann, 8)
    network = spiking(ann, x, readout_start)
    wanted = run_ann(ann, x).mean(axis=(0, 2, 3))
    before = ReferenceSimulator(network).run(x).logits.mean(axis=(0, 2, 3))
    after = ReferenceSimulator(corrected(network, ann, x)).run(x).logits.mean(axis=(0, 2, 3))
    assert np.abs(before - wanted).max() > 0.01
    np.testing.assert_allclose(after, wanted, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    ann = random_ann()
    x = samples(ann, 8)
    network = spiking(ann, x)
    one = corrected(network, ann, x)
    other = corrected(network, ann, x, batch_size)
    for node in one.nodes:
        for field, value in node.arrays().items():
            np.testing.assert_allclose(getattr(other.node(node.name), field), value, atol=1e-6)


# SpikeNorm


def linear(name: str, source: str, weight: list[list[float]], bias: float = 0.0) -> Linear:
    return Linear(
        name=name, inputs=(source,), weight=np.array(weight), bias=np.full(len(weight), bias)
    )


def tiny() -> Graph:
    """One sample (1.5, 1, 2) makes currents 1.5, 1, 2 in relu1."""
    ann = Graph(
        nodes=(
            Input(name="input", shape=(3,)),
            linear("first", "input", np.eye(3).tolist()),
            Relu(name="relu1", inputs=("first",)),
            linear("second", "relu1", [[1.0, -0.5, 0.0]], 0.25),
            Relu(name="relu2", inputs=("second",)),
            linear("head", "relu2", [[1.0]]),
            Output(name="output", inputs=("head",)),
        )
    )
    one = PopulationParameters(v_threshold=np.ones(1), v_init=np.zeros(1))
    return to_spiking(ann, {"relu1": one, "relu2": one}, 4)


def test_spike_norm_by_hand() -> None:
    # relu1 gets v_threshold 2. Soft reset: neuron 1 fires at steps 2, 3, 4 and neuron 2 at 2, 4,
    # so the largest current of relu2 is that of step 3, 2 * 1 + 0.25. Hard reset: neuron 1 fires
    # at 2, 4 only, always with neuron 2, and 2 * (1 - 0.5) + 0.25 is the largest.
    cases: tuple[tuple[Reset, float], ...] = (("soft", 2.25), ("hard", 1.25))
    for reset, expected in cases:
        network = sweep(
            tiny(),
            CalibrationContext.of(np.array([[1.5, 1.0, 2.0]], np.float32), batch_size=1),
            spike_norm({}),
            reset=reset,
        )
        found = {node.name: node.v_threshold.tolist() for node in network.nodes_of(IF)}
        assert found == {"relu1": [2.0], "relu2": [expected]}
        # The amplitudes followed: 2 into the second layer, the new threshold into the head.
        np.testing.assert_array_equal(network.node("second").arrays()["weight"], [[2, -1, 0]])
        np.testing.assert_array_equal(network.node("head").arrays()["weight"], [[expected]])


def test_spike_norm_sees_every_batch() -> None:
    x = np.array([[0.5, 0.5, 0.5], [0.5, 3.0, 0.5], [0.25, 0.0, 0.5]], np.float32)
    for batch_size in (1, 2, 3):
        network = sweep(tiny(), CalibrationContext.of(x, batch_size=batch_size), spike_norm({}))
        assert network.nodes_of(IF)[0].v_threshold.tolist() == [3.0]


def test_spike_norm_of_a_population_that_is_only_inhibited_is_one() -> None:
    x = np.array([[-1.0, -1.0, -2.0]], np.float32)
    network = sweep(tiny(), CalibrationContext.of(x, batch_size=1), spike_norm({}))
    assert network.nodes_of(IF)[0].v_threshold.tolist() == [1.0]


def test_spike_norm_goes_no_higher_than_the_rectifier() -> None:
    x = np.array([[1.5, 1.0, 2.0]], np.float32)  # relu1 receives 2
    visit = spike_norm({"relu1": 1.25, "relu2": None})
    network = sweep(tiny(), CalibrationContext.of(x, batch_size=1), visit)
    assert network.nodes_of(IF)[0].v_threshold.tolist() == [1.25]
