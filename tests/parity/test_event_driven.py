"""The backend event-driven: what follows from its definition, and the same in C and NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.event_driven import layers, native_run
from icsnn_deploy.backends.event_driven.simulator import EventDrivenSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import BackendUnavailableError, ExportError, SimulationError
from icsnn_deploy.exporters.speck.connections import connections_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output
from tests.support.evaluating import build
from tests.support.graphs import residual_network, samples
from tests.support.integer_graphs import on_lattice
from tests.support.speck_graphs import (
    KINDS,
    convolution,
    flattened_network,
    scaled,
    speck_network,
    spikes_for,
    twice,
)


def one_event_in_each_step(graph: Graph, count: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    x = np.zeros((graph.steps, count, *graph.input.shape), np.uint8)
    flat = x.reshape(graph.steps, count, -1)
    for step in range(graph.steps):
        flat[step, np.arange(count), rng.integers(0, flat.shape[2], count)] = 1
    return x


def two_inputs(weights: tuple[int, int], threshold: int) -> Graph:
    nodes = (
        Input(name="input", shape=(2,), dtype="uint8", encoding="events"),
        Linear(
            name="weight",
            inputs=("input",),
            weight=np.array([weights], np.int8),
            bias=np.zeros(1, np.int32),
        ),
        IF(
            name="neuron",
            inputs=("weight",),
            v_threshold=np.full(1, threshold, np.int32),
            v_init=np.full(1, 0.5, np.float32),
        ),
        Output(name="output", inputs=("neuron",)),
    )
    return Graph(nodes=nodes, time_steps=2)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "join"])
def test_one_event_in_each_step_gives_the_spikes_of_time_steps(kind: str, native: bool) -> None:
    graph = speck_network(kind, seed=3, layers=1, bias=False, threshold=16)
    x = one_event_in_each_step(graph, 40, seed=1)
    expected = ReferenceSimulator(graph).run(x)
    assert expected.spikes["p0"].sum() > 20
    found = EventDrivenSimulator(graph, native=native).run(x)
    np.testing.assert_array_equal(found.spikes["p0"], expected.spikes["p0"])
    np.testing.assert_array_equal(found.logits, expected.logits)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "graph",
    [
        flattened_network(),
        flattened_network((2, 4, 3)),
        flattened_network((2, 4)),
        flattened_network(before=scaled("s", "input", (2, 2, 2))),
        flattened_network(before=scaled("s", "input", (2, 1, 1))),
        flattened_network(after=scaled("s", "flat", (8,))),
    ],
    ids=["map", "wide", "signal", "neurons", "channels", "vector"],
)
def test_a_flatten_without_a_linear_takes_each_pixel_to_its_own_neuron(
    graph: Graph, native: bool
) -> None:
    x = one_event_in_each_step(graph, 200, seed=1)
    expected = ReferenceSimulator(graph).run(x)
    assert expected.spikes["p0"].sum() > 20
    found = EventDrivenSimulator(graph, native=native).run(x)
    np.testing.assert_array_equal(found.spikes["p0"], expected.spikes["p0"])


def test_a_flatten_that_needs_too_many_weights_or_follows_a_convolution_is_refused() -> None:
    with pytest.raises(ExportError, match=r"p0: 262,144 neurons of input .*Flatten after p0"):
        EventDrivenSimulator(flattened_network((64, 64, 64)))
    before = convolution("c0", "input", np.random.default_rng(1), (3, 2, 1, 1))
    with pytest.raises(ExportError, match=r"c0: its maps are flattened before p0.*after p0"):
        EventDrivenSimulator(flattened_network(before=before))


def test_a_kernel_of_other_channels_than_the_populations_never_reaches_the_c_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = speck_network("conv", seed=1, layers=1)
    (found,) = connections_into(graph, graph.population("p0"))
    narrow = replace(found, weight=found.weight[:-1])
    monkeypatch.setattr(layers, "connections_into", lambda graph, node: (narrow,))
    with pytest.raises(ExportError, match=r"input -> p0: a kernel of 3 to 3 channels between"):
        EventDrivenSimulator(graph)


@pytest.mark.parametrize("native", [True, False])
def test_a_bias_counts_each_time_that_a_sum_names_its_connection(native: bool) -> None:
    graph = twice()
    silent = np.zeros((4, 1, 1, 1, 1), np.uint8)
    found = EventDrivenSimulator(graph, native=native).run(silent).spikes["p0"]
    np.testing.assert_array_equal(found, ReferenceSimulator(graph).run(silent).spikes["p0"])
    assert found.ravel().tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_c_and_numpy_give_the_same(kind: str, seed: int | None) -> None:
    assert native_run.is_available()
    graph = speck_network(kind, seed=1)
    x = spikes_for(graph, 3, seed=2)
    simulators = [EventDrivenSimulator(graph, seed=seed, native=native) for native in (True, False)]
    (one, operations), (other, others) = (each.run_events(x) for each in simulators)
    np.testing.assert_array_equal(operations, others)
    assert sum(int(spikes.sum()) for spikes in one.values()) > 50
    for name, spikes in one.items():
        np.testing.assert_array_equal(other[name], spikes, name)


def test_an_event_fires_although_the_next_one_would_have_prevented_it() -> None:
    graph = two_inputs((5, -5), threshold=4)
    x = np.ones((2, 1, 2), np.uint8)
    assert not ReferenceSimulator(graph).run(x).spikes["neuron"].any()
    found = EventDrivenSimulator(graph).run(x)
    assert found.spikes["neuron"].ravel().tolist() == [1, 0]  # then v is -4


def test_a_neuron_fires_several_times_in_a_step_but_once_for_each_event() -> None:
    graph = two_inputs((9, 9), threshold=4)
    x = np.ones((2, 1, 2), np.uint8)
    found = EventDrivenSimulator(graph).run(x)
    assert found.spikes["neuron"].ravel().tolist() == [2, 2]
    logits_t = EventDrivenSimulator(graph).run(x, Record(logits_t=True)).logits_t
    assert logits_t is not None
    assert logits_t.ravel().tolist() == [2.0, 2.0]


def test_the_order_of_events_is_the_seeds() -> None:
    graph = speck_network("conv", seed=1)
    x = spikes_for(graph, 5, seed=2)
    runs = [EventDrivenSimulator(graph, seed=seed).run(x).logits for seed in (1, 1, 2, None)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()
    assert (runs[0] != runs[3]).any()


def test_synaptic_operations_are_the_events_times_their_synapses() -> None:
    graph = speck_network("linear", seed=1)
    x = spikes_for(graph, 4, seed=2)
    counts, operations = EventDrivenSimulator(graph).run_events(x)
    sources = (x, counts["p0"], counts["p1"])
    for number, (source, neurons) in enumerate(zip(sources, (7, 8, 8), strict=True), start=1):
        events = source.reshape(*source.shape[:2], -1).sum(axis=(0, 2), dtype=np.int64)
        np.testing.assert_array_equal(operations[:, number], events * neurons)


def test_populations_of_analog_values_run_in_time_steps() -> None:
    graph = on_lattice(residual_network())
    x = to_input_units(graph, samples(graph, 3))
    host = [n.name for n in graph.nodes_of(IF) if n.inputs[0] in graph.constant_nodes()]
    expected, found = ReferenceSimulator(graph).run(x), EventDrivenSimulator(graph).run(x)
    assert list(found.spikes) == list(expected.spikes)
    for name in host:
        np.testing.assert_array_equal(found.spikes[name], expected.spikes[name])
    assert EventDrivenSimulator(graph).run(x, Record(spikes=False)).logits_t is None


def test_float_networks_are_refused() -> None:
    with pytest.raises(ExportError, match=r"event-driven runs integer networks.*icsnn quantize"):
        EventDrivenSimulator(residual_network())


def test_more_spikes_than_a_byte_counts_are_refused() -> None:
    nodes = list(two_inputs((9, 9), threshold=4).nodes)
    nodes[1] = Linear(
        name="weight",
        inputs=("input",),
        weight=np.full((1, 300), 9, np.int8),
        bias=np.zeros(1, np.int32),
    )
    nodes[0] = Input(name="input", shape=(300,), dtype="uint8", encoding="events")
    graph = Graph(nodes=tuple(nodes), time_steps=2)
    with pytest.raises(SimulationError, match="fires 300 times in one step, 255 are recorded"):
        EventDrivenSimulator(graph).run(np.ones((2, 1, 300), np.uint8))


def test_the_option_is_a_seed(tmp_path: Path) -> None:
    graph = speck_network("conv", seed=1)
    bundle = build(tmp_path / "b", graph)
    assert open_backend(bundle, "event-driven:3").name == "event-driven"
    with pytest.raises(BackendUnavailableError, match="event-driven:x: the part after the colon"):
        open_backend(bundle, "event-driven:x")
