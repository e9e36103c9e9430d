"""The certified networks of the GPU check, made where it runs, and what they must give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from gpu_check_digits import TrainedDigits, one_thread
from torch import nn

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.graph.certificate import Certificate, require_certificate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.quantize import quantize

TIME_STEPS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedNetwork:
    """An integer network, its ANN, and the reference's result for a few images.

    Attributes:
        name: for the table.
        network: with a certificate.
        certificate: of the network.
        ann: the ANN that it was converted from.
        images: as the ANN takes them, [N, C, H, W].
        inputs: as the network takes them.
        spikes: of the int64 reference by population, uint8 [T, N, *shape].
        logits: of the int64 reference, float32 [N, classes].
    """

    name: str
    network: Graph
    certificate: Certificate
    ann: Graph
    images: Array
    inputs: Array
    spikes: Mapping[str, Array]
    logits: Array

    @property
    def firing_rate(self) -> float:
        """Mean over all neurons and steps."""
        total = sum(int(spikes.sum()) for spikes in self.spikes.values())
        return total / sum(spikes.size for spikes in self.spikes.values())


def digits_network(trained: TrainedDigits, images: int) -> CheckedNetwork:
    """The demo's integer network."""
    with one_thread():
        return _checked("digits", trained.model, trained.calibration, images, "fast")


def resnet20_network(images: int) -> CheckedNetwork:
    """ResNet20 for 32 x 32 images with random weights, whose populations fire at 8 to 30 %."""
    torch.manual_seed(0)
    model = ResNet20()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1)
                module.bias.normal_(0, 0.2)
        for _ in range(5):  # statistics of the batch normalizations
            model(torch.randn(32, 3, 32, 32))
    samples = np.random.default_rng(0).normal(size=(32, 3, 32, 32)).astype(np.float32)
    return _checked("ResNet20", model.eval(), samples, images, "opi")


def _checked(
    name: str, model: nn.Module, samples: Array, images: int, recipe: str
) -> CheckedNetwork:
    """Convert, quantize, certify, and run the reference on the first samples."""
    conversion = convert(model, samples, Recipe(name=recipe, time_steps=TIME_STEPS))
    network = quantize(conversion.network, samples).network
    inputs = to_input_units(network, samples[:images])
    expected = ReferenceSimulator(network).run(inputs)
    return CheckedNetwork(
        name=name,
        network=network,
        certificate=require_certificate(network),
        ann=conversion.ann,
        images=samples[:images],
        inputs=inputs,
        spikes=expected.spikes,
        logits=expected.logits.astype(np.float32),
    )


class _Block(nn.Module):
    """Two convolutions, and a shortcut that strides and pads channels with zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.pad = stride, (channels - channels_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return torch.relu(y + x)


class ResNet20(nn.Module):
    """Three stages of three blocks, of 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        self.blocks = nn.Sequential(
            *(_Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.bn1(self.conv1(x))))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits
