"""Networks that every tool runs: the demo's, a residual one for CIFAR, and small random ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import icsnn_deploy as icsnn
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.demo.digits import load_digits, train
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import silent
from tests.support.graphs import residual_network, samples, sequential_network
from tests.support.integer_graphs import on_lattice, on_spikes

RECIPE = Recipe(name="fast", time_steps=8)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo's network, trained shortly and quantized."""
    digits = load_digits()
    model = train(digits, silent, epochs=2)
    conversion = icsnn.convert(model, digits.train_images[:256], RECIPE, progress=None)
    quantization = icsnn.quantize(conversion, digits.train_images[:64], progress=None)
    return quantization.save(tmp_path_factory.mktemp("demo") / "bundle")


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two residual blocks on images of 3 channels, 12 by 12, untrained, with a strided shortcut."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((64, 3, 12, 12)).astype(np.float32)
    conversion = icsnn.convert(_Residual().eval(), images, RECIPE, progress=None)
    quantization = icsnn.quantize(conversion, images, progress=None)
    return quantization.save(tmp_path_factory.mktemp("cifar") / "bundle")


class _Block(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(torch.relu(self.conv1(x)))
        return torch.relu(y + self.shortcut(x))


class _Residual(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, 1, 1),
            nn.ReLU(),
            _Block(6, 6, 1),
            _Block(6, 8, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 10),
        )


def random_networks() -> list[Graph]:
    """Integer networks with joins and delays; the second takes spikes."""
    return [on_lattice(residual_network()), on_spikes(on_lattice(sequential_network(), bits=4))]


def inputs_of(graph: Graph, count: int) -> Array:
    """Random inputs that fit a network, as its simulators take them."""
    if graph.input.is_timed:
        rng = np.random.default_rng(2)
        return rng.integers(0, 2, (graph.steps, count, *graph.input.shape)).astype(np.uint8)
    return np.round(samples(graph, count)).astype(np.int8)
