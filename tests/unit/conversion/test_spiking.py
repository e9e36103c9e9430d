"""An ANN graph as an IF network: amplitudes, thresholds set later, shifted currents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate, run_ann
from icsnn_deploy.conversion.spiking import PopulationParameters, set_threshold, to_spiking
from icsnn_deploy.errors import ConversionError, GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Relu,
)
from tests.support.graphs import conv, dyadic, residual_network, samples


def residual_ann() -> Graph:
    """Two rectifiers before an identity shortcut, one after it, pooling and a linear readout."""
    rng = np.random.default_rng(3)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 4, 4)),
        conv("stem.conv", "input", rng, (2, 4)),
        Relu(name="stem.relu", inputs=("stem.conv",)),
        conv("conv1", "stem.relu", rng, (4, 4)),
        Relu(name="relu1", inputs=("conv1",)),
        conv("conv2", "relu1", rng, (4, 4)),
        Add(name="add", inputs=("conv2", "stem.relu")),
        Relu(name="relu2", inputs=("add",)),
        AvgPool(
            name="pool",
            inputs=("relu2",),
            kernel=(2, 2),
            stride=(2, 2),
            padding=((0, 0), (0, 0)),
        ),
        Flatten(name="flatten", inputs=("pool",)),
        Linear(name="head", inputs=("flatten",), weight=dyadic(rng, 3, 16), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes))


def activations(ann: Graph, x: Array) -> dict[str, Array]:
    values = {ann.input.name: x.astype(np.float64)}
    for node in ann.nodes[1:]:
        values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
    return values


def max_populations(ann: Graph, x: Array) -> dict[str, PopulationParameters]:
    """Largest activation as threshold, half of it as initial potential."""
    values = activations(ann, x)
    return {
        relu.name: PopulationParameters(
            v_threshold=np.full((1, 1, 1), values[relu.name].max()),
            v_init=np.full((1, 1, 1), values[relu.name].max() / 2),
        )
        for relu in ann.nodes_of(Relu)
    }


def powers(ann: Graph, seed: int) -> dict[str, PopulationParameters]:
    """Powers of two per channel as thresholds: what is folded is exact."""
    rng = np.random.default_rng(seed)
    found = {}
    for relu in ann.nodes_of(Relu):
        shape = (ann.shape(relu.name)[0], *(1,) * (len(ann.shape(relu.name)) - 1))
        v_threshold = (2.0 ** rng.integers(-2, 3, shape)).astype(np.float32)
        found[relu.name] = PopulationParameters(
            v_threshold=v_threshold, v_init=np.full(shape, 0.25)
        )
    return found


# spike


def test_populations_stand_where_the_rectifiers_stood_under_their_names() -> None:
    ann = residual_ann()
    network = to_spiking(ann, powers(ann, 0), 4)
    assert [node.name for node in network.nodes_of(IF)] == ["stem.relu", "relu1", "relu2"]
    assert network.time_steps == 4
    for node in network.nodes_of(IF):
        expected = powers(ann, 0)[node.name]
        np.testing.assert_array_equal(node.v_threshold, expected.v_threshold)
        np.testing.assert_array_equal(node.v_init, expected.v_init)


def test_amplitudes_go_into_the_weights_and_the_shortcut_keeps_one_scale() -> None:
    ann = residual_ann()
    populations = powers(ann, 0)
    network = to_spiking(ann, populations, 4)
    (shortcut,) = network.nodes_of(ChannelAffine)
    assert shortcut.inputs == ("stem.relu",)
    assert network.node("add").inputs == ("conv2", shortcut.name)
    np.testing.assert_array_equal(shortcut.scale, populations["stem.relu"].v_threshold)
    before, after = ann.node("conv1"), network.node("conv1")
    assert isinstance(before, Conv)
    assert isinstance(after, Conv)
    amplitude = populations["stem.relu"].v_threshold.reshape(1, 4, 1, 1)
    np.testing.assert_array_equal(after.weight, before.weight * amplitude)
    head, spiking_head = ann.node("head"), network.node("head")
    assert isinstance(head, Linear)
    assert isinstance(spiking_head, Linear)
    columns = np.repeat(populations["relu2"].v_threshold.ravel(), 4)  # 2 x 2 positions a channel
    np.testing.assert_array_equal(spiking_head.weight, head.weight * columns)


def test_one_population_codes_a_constant_current_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    head = Linear(name="head", inputs=("relu",), weight=dyadic(rng, 2, 3), bias=dyadic(rng, 2))
    ann = Graph(
        nodes=(
            Input(name="input", shape=(3,)),
            Relu(name="relu", inputs=("input",)),
            head,
            Output(name="output", inputs=("head",)),
        )
    )
    population = PopulationParameters(
        v_threshold=np.array([0.5, 1.0, 2.0]), v_init=np.array([0.25, 0.5, 1])
    )
    x = dyadic(rng, 20, 3, low=-64, high=160)
    logits = ReferenceSimulator(to_spiking(ann, {"relu": population}, 8)).run(x).logits
    threshold = population.v_threshold
    coded = np.clip(np.floor(x * 8 / threshold + 0.5), 0, 8) * threshold / 8
    np.testing.assert_array_equal(logits, evaluate(head, coded))


def test_many_steps_approach_the_ann() -> None:
    ann = residual_ann()
    x = samples(ann, 6)
    wanted = run_ann(ann, x)
    populations = max_populations(ann, x)

    def error(time_steps: int) -> float:
        network = to_spiking(ann, populations, time_steps)
        return float(np.abs(ReferenceSimulator(network).run(x).logits - wanted).max())

    assert error(256) < 0.02 * np.abs(wanted).max()
    assert error(256) < error(16) / 4


def test_rates_times_thresholds_approach_the_activations() -> None:
    ann = residual_ann()
    x = samples(ann, 4)
    populations, wanted = max_populations(ann, x), activations(ann, x)
    recording = ReferenceSimulator(to_spiking(ann, populations, 256)).run(x)
    for name, population in populations.items():
        rate = recording.spikes[name].mean(axis=0)
        top = float(population.v_threshold.max())
        np.testing.assert_allclose(rate * top, wanted[name], atol=0.02 * top)


def test_a_model_without_a_rectifier_is_refused() -> None:
    nodes = (Input(name="input", shape=(3,)), Output(name="output", inputs=("input",)))
    with pytest.raises(ConversionError, match="the model has no ReLU"):
        to_spiking(Graph(nodes=nodes), {}, 4)


# set_threshold


@pytest.mark.parametrize("name", ["stem.relu", "relu1", "relu2"])
def test_a_threshold_set_later_equals_one_set_at_once(name: str) -> None:
    ann = residual_ann()
    first, second = powers(ann, 0), powers(ann, 1)
    assert (first[name].v_threshold != second[name].v_threshold).any()
    changed = set_threshold(to_spiking(ann, first, 4), name, second[name].v_threshold)
    at_once = to_spiking(ann, {**first, name: second[name]}, 4)
    for node in at_once.nodes:
        # The one Scale, at the shortcut, may be called otherwise.
        got = (
            changed.nodes_of(ChannelAffine)[0]
            if isinstance(node, ChannelAffine)
            else changed.node(node.name)
        )
        for field, value in node.arrays().items():
            found = getattr(got, field)
            np.testing.assert_array_equal(found, np.broadcast_to(value, found.shape), node.name)
    assert len(changed.nodes) == len(at_once.nodes)


def test_a_threshold_is_set_on_populations_only() -> None:
    ann = residual_ann()
    with pytest.raises(GraphError, match="conv1: a population is needed, this is a conv"):
        set_threshold(to_spiking(ann, powers(ann, 0), 4), "conv1", np.ones((1, 1, 1)))


def test_the_given_graph_does_not_change() -> None:
    network = residual_network(time_steps=4)
    before = network.hash()
    set_threshold(network, network.nodes_of(IF)[0].name, np.full((1, 1, 1), 2.0))
    assert network.hash() == before
    assert replace(network).hash() == before
