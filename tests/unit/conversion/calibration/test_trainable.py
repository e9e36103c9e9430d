"""A network in training is the network it came from, and what is learned is what results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.trainable import TrainableNetwork
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Input, Linear, Node, Output
from tests.support.graphs import (
    dyadic,
    random_images,
    residual_ann,
    sequential_network,
    spiking,
    spiking_network,
)

STEPS = 5


def network_without_ties() -> Graph:
    """A network whose potentials do not meet their thresholds exactly."""
    network = spiking_network(residual_ann())
    generator = np.random.default_rng(5)
    for node in network.nodes_of(IF):
        shape = (network.shape(node.name)[0], *(1,) * (node.v_init.ndim - 1))
        v_init = (node.v_threshold * generator.uniform(0.2, 0.8, shape)).astype(np.float32)
        network = network.replace(replace(node, v_init=v_init))
    return network


def trained(
    weights: bool, seed: int = 2, start: Graph | None = None, images: Array | None = None
) -> TrainableNetwork:
    """A network whose parameters and statistics were changed at random."""
    network = TrainableNetwork(start or network_without_ties(), "cpu", train_weights=weights)
    network.measure([random_images() if images is None else images])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*network.potentials, *network.weights):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_untrained_it_is_the_network() -> None:
    network = network_without_ties()
    trainable = TrainableNetwork(network, "cpu", train_weights=True)
    images = random_images()
    trainable.measure([images])
    logits, errors = trainable.run(images, by_batch=True)
    expected = ReferenceSimulator(network).run(images).logits
    np.testing.assert_allclose(logits.mean(dim=0).detach().numpy(), expected, atol=1e-4)
    assert errors == []
    found = ReferenceSimulator(trainable.result()).run(images).logits
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("weights", [False, True])
def test_the_result_is_what_was_trained(weights: bool) -> None:
    network = trained(weights)
    images = random_images()
    with torch.no_grad():
        for _ in range(400):  # the running statistics arrive at those of these images
            logits, _ = network.run(images, by_batch=True)
    found = ReferenceSimulator(network.result()).run(images).logits
    np.testing.assert_allclose(found, logits.mean(dim=0).numpy(), atol=1e-3)


def with_thresholds_per_neuron(network: Graph) -> Graph:
    generator = np.random.default_rng(7)
    for node in network.nodes_of(IF):
        factor = generator.uniform(0.8, 1.2, network.shape(node.name)).astype(np.float32)
        v_threshold, v_init = node.v_threshold * factor, node.v_init * factor
        network = network.replace(replace(node, v_threshold=v_threshold, v_init=v_init))
    return network


def one_layer() -> Graph:
    """A population whose current is constant: one value per channel and sample."""
    rng = np.random.default_rng(3)
    nodes: list[Node] = [
        Input(name="input", shape=(4,)),
        Linear(name="fc", inputs=("input",), weight=dyadic(rng, 6, 4), bias=dyadic(rng, 6)),
        spiking("if", "fc", rng, (6,)),
        Linear(name="head", inputs=("if",), weight=dyadic(rng, 3, 6), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=STEPS)


RUNS = {
    "thresholds per channel": (network_without_ties(), 6),
    "thresholds per neuron": (with_thresholds_per_neuron(network_without_ties()), 6),
    "few values per channel": (sequential_network(), 1),
    "one value per channel": (one_layer(), 1),
}


@pytest.mark.parametrize("name", list(RUNS))
def test_by_its_running_statistics_it_is_the_network_that_results(name: str) -> None:
    start, count = RUNS[name]
    shape = (count, *start.shape(start.input.name))
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    network = trained(True, start=start, images=images)
    with torch.no_grad():
        network.run(2 * images, by_batch=True)
        before = network.result()
        logits, _ = network.run(3 * images, by_batch=False)
        read = logits[start.readout_start :].mean(dim=0).numpy()
    assert network.result().hash() == before.hash()
    expected = ReferenceSimulator(before).run(3 * images).logits
    np.testing.assert_allclose(read, expected, atol=1e-4)


def test_weights_that_are_zero_stay_zero() -> None:
    network = spiking_network(residual_ann())
    conv = next(node for node in network.nodes_of(Conv) if node.weight.size > node.weight.shape[0])
    pruned = conv.weight.copy()
    pruned[:, :, 0, :] = 0
    trainable = TrainableNetwork(
        network.replace(replace(conv, weight=pruned)), "cpu", train_weights=True
    )
    trainable.measure([random_images()])
    optimizer = torch.optim.Adam(trainable.weights, lr=0.1)
    for _ in range(3):
        logits, _ = trainable.run(random_images(), by_batch=True)
        optimizer.zero_grad()
        logits.square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = result_conv(trainable.result(), conv.name).weight
    assert not after[:, :, 0, :].any()
    assert (after[:, :, 1, :] != pruned[:, :, 1, :]).mean() > 0.5


def result_conv(graph: Graph, name: str) -> Conv:
    node = graph.node(name)
    assert isinstance(node, Conv)
    return node


def test_a_state_is_restored() -> None:
    first, second = trained(True, seed=2), trained(True, seed=3)
    assert first.result().hash() != second.result().hash()
    second.restore([value.detach().clone() for value in first.state()])
    assert first.result().hash() == second.result().hash()
