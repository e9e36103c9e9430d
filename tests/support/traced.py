"""Small PyTorch models for the tests of tracing, and the check that a trace reproduces them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node


class Body(nn.Module):
    """A model whose forward is a plain function of (model, x), with some layers to use."""

    mean: torch.Tensor

    def __init__(self, forward: Form) -> None:
        super().__init__()
        self.body = forward
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 3, 1)
        self.linear = nn.Linear(3, 4)
        self.relu = nn.ReLU()
        self.relu_in_place = nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.rand(3, 1, 1) + 0.5)
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.body(self, x)


Form = Callable[[Body, torch.Tensor], Any]
"""A forward as a plain function. Its result is Any, as that of every module of torch is."""


class OptionABlock(nn.Module):
    """Basic block of a CIFAR ResNet: functional ReLU, a sliced and zero-padded shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.more = (channels - channels_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more), "constant", 0)
        out += x
        return F.relu(out)


class SmallResNet(nn.Module):
    """ResNet20 for CIFAR with one block a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(OptionABlock(4, 4, 1))
        self.layer2 = nn.Sequential(OptionABlock(4, 8, 2))
        self.layer3 = nn.Sequential(OptionABlock(8, 16, 2))
        self.linear = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.avg_pool2d(out, out.size()[3])
        logits: torch.Tensor = self.linear(out.view(out.size(0), -1))
        return logits


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """A random batch."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ready(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, its batch norms with statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return model.eval()


def outputs(model: nn.Module, x: torch.Tensor) -> dict[str, Array]:
    """The model's own outputs by name, in double precision."""
    with torch.no_grad():
        result = copy.deepcopy(model).double()(x.double().clone())
    leaves = named_leaves(result)
    return {name: leaf.numpy() for name, leaf in leaves.items()}


def check(model: nn.Module, x: torch.Tensor, graph: Graph | None = None) -> Graph:
    """Trace the model (unless its graph is given) and compare on the whole batch."""
    expected = outputs(model, x)
    graph = trace(model, x) if graph is None else graph
    samples = x.numpy()
    if graph.input.index is not None:
        samples = pack_inputs(graph, {graph.input.parts[0].name: samples})
    found = named_outputs(graph, run_ann(graph, samples))
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)
    return graph


def kinds(graph: Graph) -> list[str]:
    """The kinds of the nodes between input and output."""
    return [node.kind for node in graph.nodes[1:-1]]


def names(graph: Graph, *types: type[Node]) -> list[str]:
    """The names of the nodes (of these types)."""
    return [node.name for node in (graph.nodes_of(*types) if types else graph.nodes)]


def small_model(activation: type[nn.Module] = nn.ReLU, padding: int = 1) -> nn.Sequential:
    """Two convolutions with batch normalization, pooling, a linear readout of four classes."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=padding),
        nn.BatchNorm2d(4),
        activation(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    return model.eval()
