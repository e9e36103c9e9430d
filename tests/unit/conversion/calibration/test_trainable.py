"""A network in training is the network it came from, and what is learned is what results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.trainable import TrainableNetwork
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv
from tests.support.graphs import random_images, residual_ann, spiking_network

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


def trainable(
    network: Graph, *, train_weights: bool = True, batches_normalized: int = 1000
) -> TrainableNetwork:
    return TrainableNetwork(
        network, "cpu", train_weights=train_weights, batches_normalized=batches_normalized
    )


def trained(weights: bool, seed: int = 2, batches_normalized: int = 1000) -> TrainableNetwork:
    """A network whose parameters and statistics were changed at random."""
    network = trainable(
        network_without_ties(), train_weights=weights, batches_normalized=batches_normalized
    )
    network.measure([random_images()])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*network.potentials, *network.weights):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def test_untrained_it_is_the_network() -> None:
    network = network_without_ties()
    training = trainable(network)
    images = random_images()
    training.measure([images])
    logits, errors = training.run(images)
    expected = ReferenceSimulator(network).run(images).logits
    np.testing.assert_allclose(logits.mean(dim=0).detach().numpy(), expected, atol=1e-4)
    assert errors == []
    found = ReferenceSimulator(training.result()).run(images).logits
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("weights", [False, True])
def test_the_result_is_what_was_trained(weights: bool) -> None:
    network = trained(weights)
    images = random_images()
    with torch.no_grad():
        for _ in range(400):  # the running statistics arrive at those of these images
            logits, _ = network.run(images)
    found = ReferenceSimulator(network.result()).run(images).logits
    np.testing.assert_allclose(found, logits.mean(dim=0).numpy(), atol=1e-3)


@pytest.mark.parametrize("weights", [False, True])
def test_after_its_first_batches_it_is_the_network_that_results(weights: bool) -> None:
    """No batch after those changes the statistics, and none is measured by its own."""
    network = trained(weights, batches_normalized=2)
    with torch.no_grad():
        found = []
        for scale in (1, 2, 3, 4):  # each with other statistics
            network.run(scale * random_images())
            found.append(network.result().hash())
        assert found[0] != found[1] == found[2] == found[3]
        images = 5 * random_images()
        logits, _ = network.run(images)
    expected = ReferenceSimulator(network.result()).run(images).logits
    np.testing.assert_allclose(logits.mean(dim=0).numpy(), expected, atol=1e-4)


def test_weights_that_are_zero_stay_zero() -> None:
    network = spiking_network(residual_ann())
    conv = next(node for node in network.nodes_of(Conv) if node.weight.size > node.weight.shape[0])
    pruned = conv.weight.copy()
    pruned[:, :, 0, :] = 0
    training = trainable(network.replace(replace(conv, weight=pruned)))
    training.measure([random_images()])
    optimizer = torch.optim.Adam(training.weights, lr=0.1)
    for _ in range(3):
        logits, _ = training.run(random_images())
        optimizer.zero_grad()
        logits.square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = result_conv(training.result(), conv.name).weight
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
