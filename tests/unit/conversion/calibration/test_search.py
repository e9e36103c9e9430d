"""Search and refit: what they report is what the network then does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    sweep,
)
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import _Channels, search
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array, if_step
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output, Relu
from icsnn_deploy.passes.scale_current import scale_current
from tests.support.building import node_of
from tests.support.graphs import conv, random_images, residual_ann, spiking_network

STEPS = 6


def relu_values(ann: Graph, x: Array) -> dict[str, Array]:
    values = {"input": x.astype(np.float64)}
    for node in ann.nodes[1:]:
        values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
    return values


@pytest.mark.parametrize("places", [1, 60, 10_000])
def test_sampled_activations_are_the_anns_at_those_places(places: int) -> None:
    ann, x = residual_ann(), random_images()
    found = sample_activations(ann, CalibrationContext.of(x, batch_size=4), places=places)
    values = relu_values(ann, x)
    per_sample = min(25, max(1, places // len(x)))
    for name in ("relu1", "relu2", "relu3"):
        assert found.places[name].shape == (len(x), per_sample)
        assert all(len(set(row.tolist())) == per_sample for row in found.places[name])
        index = found.places[name].numpy()
        flat = values[name].reshape(len(x), 3, -1)
        expected = np.concatenate([flat[i][:, index[i]] for i in range(len(x))], axis=1)
        np.testing.assert_allclose(found.values[name].numpy(), expected, atol=1e-5)
        over_time = torch.from_numpy(np.stack([values[name], 2 * values[name]]))
        picked = torch.cat(
            [found.pick(name, over_time[:, :4], 0), found.pick(name, over_time[:, 4:], 4)], dim=2
        )
        np.testing.assert_allclose(picked.numpy(), np.stack([expected, 2 * expected]))
    np.testing.assert_allclose(found.logits.numpy(), values["output"], atol=1e-4)


@pytest.mark.parametrize("name", ["relu1", "relu2", "relu3"])
def test_scaling_a_current_scales_its_potentials(name: str) -> None:
    network = spiking_network(residual_ann())
    factor = np.array([0.5, 2.0, 4.0])
    column = factor.reshape(3, 1, 1)
    scaled = scale_current(network, name, factor)
    node = scaled.node(name)
    assert isinstance(node, IF)
    # With v_threshold and v_init scaled as well nothing changes but the unit.
    scaled = scaled.replace(
        IF(
            name=name,
            inputs=node.inputs,
            v_threshold=node.v_threshold * column,
            v_init=node.v_init * column,
        )
    )
    record = Record(potentials=frozenset({name}))
    before, after = (ReferenceSimulator(g).run(random_images(), record) for g in (network, scaled))
    np.testing.assert_allclose(after.potentials[name], before.potentials[name] * column, rtol=1e-5)
    np.testing.assert_array_equal(after.spikes[name], before.spikes[name])
    np.testing.assert_allclose(after.logits, before.logits, rtol=1e-5, atol=1e-6)


def errors(network: Graph, ann: Graph, x: Array, time_steps: tuple[int, ...]) -> dict[str, float]:
    """Mean squared distance of v_threshold * rate from the activation, over T, by population."""
    values, recording = relu_values(ann, x), ReferenceSimulator(network).run(x)
    found = {}
    for node in network.nodes_of(IF):
        rates = [recording.spikes[node.name][:t].mean(axis=0) for t in time_steps]
        squares = [(r * node.v_threshold - values[node.name]) ** 2 for r in rates]
        found[node.name] = float(np.mean(squares))
    return found


@pytest.mark.parametrize("time_steps", [(STEPS,), (2, STEPS)])
def test_the_search_brings_every_population_nearer_to_the_ann(time_steps: tuple[int, ...]) -> None:
    ann, x = residual_ann(), random_images(16)
    network, calibration = spiking_network(ann), CalibrationContext.of(x, batch_size=16)
    activations = sample_activations(ann, calibration, places=10_000)
    found = sweep(network, calibration, search(activations, time_steps))
    before, after = (errors(g, ann, x, time_steps) for g in (network, found))
    for name in before:
        assert after[name] < 0.8 * before[name]


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_fit_is_what_the_neuron_does(seed: int, on_lattice: bool) -> None:
    rng = np.random.default_rng(seed)
    current = rng.integers(-8, 16, (STEPS, 2, 9)).astype(np.float32)
    wanted = rng.integers(0, 9, (2, 9)).astype(np.float32)
    amplitude = torch.tensor([7.0, 12.0])
    channels = _Channels(
        torch.from_numpy(current),
        torch.from_numpy(wanted),
        (STEPS,),
        amplitude,
        on_lattice=on_lattice,
    )
    best, fit = channels.search(amplitude / 2)
    v_threshold = best.v_threshold.double().numpy()[:, None]
    v = np.broadcast_to(best.v_init_ratio.double().numpy()[:, None] * v_threshold, wanted.shape)
    count = np.zeros(wanted.shape)
    for step in range(STEPS):
        s, _, v = if_step(v, current[step] + best.shift.double().numpy()[:, None], v_threshold)
        count += s
    reached = count / STEPS * (fit.gain.double().numpy()[:, None] * v_threshold)
    if on_lattice:
        np.testing.assert_array_equal(v_threshold, np.round(v_threshold))
        np.testing.assert_array_equal(best.shift.numpy(), np.round(best.shift.numpy()))
        np.testing.assert_allclose(fit.gain.numpy() * v_threshold[:, 0], [7, 12], rtol=1e-5)
        expected = np.mean((reached - wanted) ** 2, axis=1)
        np.testing.assert_allclose(fit.error.numpy(), expected, rtol=1e-4, atol=1e-4)
    first = channels.fit(channels._setting(amplitude, torch.full((2,), 0.5), torch.zeros(2)))
    assert (fit.error <= first.error).all()


def linear_case(groups: int, perturbed: float) -> tuple[Graph, Graph, CalibrationContext, Array]:
    """An ANN, its network with noise on the second convolution, samples, and the clean weights."""
    rng = np.random.default_rng(3)
    first = conv("conv1", "input", rng, (2, 4), (1, 1), padding=0)
    second = conv("conv2", "relu1", rng, (4, 4), (1, 1), padding=0, groups=groups)
    second = Conv(
        **{
            **{f: getattr(second, f) for f in ("name", "inputs", "stride", "padding", "dilation")},
            "weight": np.abs(second.weight) + 0.125,
            "bias": np.zeros(4, np.float32),
            "groups": groups,
        }
    )
    tail = (
        Relu(name="relu2", inputs=("conv2",)),
        Flatten(name="flatten", inputs=("relu2",)),
        Linear(
            name="linear",
            inputs=("flatten",),
            weight=np.ones((2, 100), np.float32),
            bias=np.zeros(2, np.float32),
        ),
        Output(name="output", inputs=("linear",)),
    )
    head = (Input(name="input", shape=(2, 5, 5)), first, Relu(name="relu1", inputs=("conv1",)))
    ann = Graph(nodes=(*head, second, *tail))
    network = spiking_network(ann, 64)
    node = network.node("conv2")
    assert isinstance(node, Conv)
    noisy = (node.weight * (1 + perturbed * rng.normal(size=node.weight.shape))).astype(np.float32)
    fields = ("name", "inputs", "stride", "padding", "dilation", "groups", "bias")
    changed = Conv(**{**{f: getattr(node, f) for f in fields}, "weight": noisy})
    calibration = CalibrationContext.of(random_images(32), batch_size=8)
    return ann, network.replace(changed), calibration, node.weight


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("places", [40, 20_000])  # fewer than inputs (dual form), and more
def test_refit_finds_the_weights_that_were_lost(groups: int, places: int) -> None:
    ann, network, calibration, clean = linear_case(groups, 0.5)
    activations = sample_activations(ann, calibration, places=places)

    def only_second(population_input: PopulationInput) -> CalibrationUpdate:
        wanted = population_input.node.name == "relu2"
        return refit(activations, 1e-4)(population_input) if wanted else CalibrationUpdate()

    found = sweep(network, calibration, only_second)

    def distance(graph: Graph) -> float:
        node = graph.node("conv2")
        assert isinstance(node, Conv)
        return float(np.abs(node.weight - clean).mean())

    assert distance(found) < 0.3 * distance(network)


def test_a_large_ridge_leaves_the_weights() -> None:
    ann, network, calibration, _ = linear_case(1, 0.5)
    activations = sample_activations(ann, calibration, places=1000)
    found = sweep(network, calibration, refit(activations, 1e9))
    for node in network.nodes_of(Conv):
        kept = node_of(found, node.name, Conv)
        np.testing.assert_allclose(kept.weight, node.weight, rtol=1e-5)
