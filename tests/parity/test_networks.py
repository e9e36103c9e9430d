"""Small stand-ins of the ImageNet networks, from PyTorch to the written files, spike for spike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import DenseNet, ResNet
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.squeezenet import Fire
from torchvision.ops import Conv2dNormActivation

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import QuantileThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Conv, Flatten, Linear
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.passes.pooling import is_window_sum

RECIPE = Recipe(
    name="one",
    time_steps=3,
    methods=(Method(threshold=QuantileThreshold(p=0.99), v_init=Half()),),
)


class PreActivationBlock(nn.Module):
    """A residual block that normalizes first: its sum goes to a normalization and to a sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.conv1(torch.relu(self.bn1(x)))
        result: torch.Tensor = x + self.conv2(torch.relu(self.bn2(out)))
        return result


def vgg() -> nn.Module:
    """Max pooling in front of a convolution, and of a fully connected layer."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2, 2),
        nn.AdaptiveAvgPool2d((4, 4)),
        nn.Flatten(1),
        nn.Linear(128, 16),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(16, 5),
    )


def resnet(block: type[BasicBlock | Bottleneck]) -> nn.Module:
    """Overlapping max pooling in front of a convolution and an identity shortcut."""
    model: nn.Module = ResNet(block, [1, 1, 1, 1], num_classes=5)
    model.layer2 = model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(64 * block.expansion, 5)
    return model


def mobilenet() -> nn.Module:
    """Inverted residuals: bottlenecks without activation, alone and joined."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        InvertedResidual(8, 4, 1, 1),
        InvertedResidual(4, 6, 2, 3),
        InvertedResidual(6, 6, 1, 3),
        InvertedResidual(6, 6, 1, 3),
        Conv2dNormActivation(6, 20, 1, activation_layer=nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(20, 5),
    )


def densenet() -> nn.Module:
    """Concatenation in front of a normalization, linear pooling between two blocks."""
    model: nn.Module = DenseNet(4, (2, 2), 8, 2, num_classes=5)
    return model


def squeezenet() -> nn.Module:
    """Concatenation in front of max pooling that sticks out, and of a convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(8, 4, 6, 6),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(12, 4, 6, 6),
        nn.Conv2d(12, 5, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(1),
    )


def pre_activation() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        PreActivationBlock(6),
        PreActivationBlock(6),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


class FlattenedSum(nn.Module):
    """A join without activation in front of a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.hidden, self.head = nn.Linear(144, 8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        x = (x + torch.relu(self.conv2(x))).flatten(1)
        logits: torch.Tensor = self.head(torch.relu(self.hidden(x)))
        return logits


def activations() -> nn.Module:
    """Activations of several populations, with slopes per channel, before sums and poolings."""
    slopes = nn.PReLU(6)
    slopes.weight.data = torch.linspace(-0.4, 0.6, 6)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(6, 6, 3, padding=1),
        slopes,
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, groups=2),
        nn.Hardtanh(),
        nn.Conv2d(8, 8, 1),
        nn.Hardsigmoid(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(8, 5),
    )


NETWORKS = {
    "vgg": (vgg, 16),
    "resnet": (lambda: resnet(BasicBlock), 32),
    "resnet bottleneck": (lambda: resnet(Bottleneck), 32),
    "mobilenet": (mobilenet, 16),
    "densenet": (densenet, 32),
    "squeezenet": (squeezenet, 33),
    "pre-activation": (pre_activation, 12),
    "flattened sum": (FlattenedSum, 8),
    "activations": (activations, 12),
}


def trained(model: nn.Module, size: int) -> nn.Module:
    """The model in eval mode, its running statistics those of random images."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        model.train()(torch.randn(16, 3, size, size))
    return model.eval()


def connections_in_a_row(graph: Graph) -> list[str]:
    """Trained connections that take something else than spikes, their sums, or the input."""
    found = []
    for node in graph.nodes_of(Conv, Linear, ChannelAffine):
        source = graph.node(node.inputs[0])
        while isinstance(source, Flatten):
            source = graph.node(source.inputs[0])
        if isinstance(source, (Conv, Linear, Add)) and not is_window_sum(source):
            found.append(node.name)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_of_the_written_files(name: str, tmp_path: Path) -> None:
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    model = trained(build(), size)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((6, 3, size, size), dtype=np.float32)
    conversion = convert(model, images, RECIPE)
    result = quantize(conversion.network, images, conversion.ann)
    assert result.certificate.float32
    assert set(result.bits.values()) == {8}
    assert connections_in_a_row(result.network) == []
    bundle = create_bundle(
        tmp_path / "bundle",
        network=result.network,
        ann=conversion.ann,
        samples=images[:2],
        report=conversion.report.to_json(),
    )
    bundle = export_into(bundle, "nir", "onnx")
    report = verify(bundle, ["torch", "nir", "onnxruntime"])
    assert report.verdict == "pass"
    for comparison in report.comparisons:
        assert comparison.spikes_compared > 0
        assert comparison.spike_mismatches == 0
        assert comparison.max_abs_logit_difference == 0
