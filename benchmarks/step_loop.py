"""A network in plain PyTorch as its users write it: nn.Conv2d and the like, step after step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Linear,
    Node,
    Output,
)


class StepLoop:
    """All nodes for one step, then the next; the first connection once.

    A framework's users write the same loop around their own neurons: they override begin and fire.
    """

    def __init__(
        self, network: Graph, memory_format: torch.memory_format = torch.contiguous_format
    ) -> None:
        self.network, self.memory_format = network, memory_format
        self.steady = network.constant_nodes()
        self.populations = network.nodes_of(IF)
        self.modules = {
            node.name: _module(node).to(memory_format=memory_format)
            for node in network.nodes[1:]
            if not isinstance(node, IF)
        }
        self.v_init = {n.name: torch.tensor(n.v_init).float() for n in self.populations}
        self.v_threshold = {n.name: torch.tensor(n.v_threshold).float() for n in self.populations}

    @torch.inference_mode()
    def run(self, x: Array, *, count: bool = False) -> tuple[Array, dict[str, Array]]:
        """Logits of a batch, and the spike counts of every population where asked for."""
        once = self.once(x)
        self.begin(len(x))
        counts: dict[str, Tensor] = {}
        total = torch.zeros(())
        for _ in range(self.network.steps):
            values = dict(once)
            for node in self.network.nodes[1:]:
                if isinstance(node, IF):
                    spikes = self.fire(node.name, values[node.inputs[0]])
                    if count:
                        counts[node.name] = counts.get(node.name, torch.zeros(())) + spikes
                    values[node.name] = spikes
                elif node.name not in self.steady:
                    values[node.name] = self.connect(node, values)
            total = total + values[self.network.output.name]
        logits = total / self.network.steps
        return logits.numpy(), {name: found.numpy() for name, found in counts.items()}

    def once(self, x: Array) -> dict[str, Tensor]:
        """What is the same at every step."""
        image = torch.from_numpy(x).float().contiguous(memory_format=self.memory_format)
        values = {self.network.input.name: image}
        for node in self.network.nodes[1:]:
            if node.name in self.steady:
                values[node.name] = self.connect(node, values)
        return values

    def connect(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        """A node without memory."""
        result: Tensor = self.modules[node.name](*(values[name] for name in node.inputs))
        return result

    def begin(self, batch: int) -> None:
        """Set the initial potentials."""
        self.v: dict[str, Tensor] = {}

    def fire(self, name: str, current: Tensor) -> Tensor:
        """One step of a population."""
        v, v_threshold = self.v.get(name), self.v_threshold[name]
        v = current + self.v_init[name] if v is None else v.add_(current)
        spikes = (v >= v_threshold).float()
        self.v[name] = v.sub_(spikes * v_threshold)
        return spikes


class _Sum(nn.Module):
    def forward(self, *sources: Tensor) -> Tensor:
        return sum(sources[1:], start=sources[0])


class _Diagonal(nn.Module):
    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class _Padded(nn.Module):
    """A convolution with padding that differs between the sides."""

    def __init__(self, inner: nn.Module, pads: list[int]) -> None:
        super().__init__()
        self.inner, self.pads = inner, pads

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(functional.pad(x, self.pads))
        return result


def _module(node: Node) -> nn.Module:
    """A node without memory, as a module of torch.nn."""
    match node:
        case Conv():
            return _conv(node)
        case Linear():
            linear = nn.Linear(node.weight.shape[1], node.weight.shape[0])
            return _filled(linear, node)
        case AvgPool():
            return nn.AvgPool2d(
                _pair(node.kernel), _pair(node.stride), _pair([p for p, _ in node.padding])
            )
        case Flatten():
            return nn.Flatten()
        case ChannelAffine():
            return _Diagonal(torch.tensor(node.scale).float(), torch.tensor(node.shift).float())
        case Add():
            return _Sum()
        case Output():
            return nn.Identity()
    raise ValueError(node.name)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


def _conv(node: Conv) -> nn.Module:
    outputs, inputs = node.weight.shape[:2]
    even = all(before == after for before, after in node.padding)
    conv = nn.Conv2d(
        inputs * node.groups,
        outputs,
        _pair(node.kernel),
        _pair(node.stride),
        _pair([before for before, _ in node.padding]) if even else 0,
        _pair(node.dilation),
        node.groups,
    )
    _filled(conv, node)
    if even:
        return conv
    return _Padded(conv, [side for pair in reversed(node.padding) for side in pair])


def _filled(module: nn.Conv2d | nn.Linear, node: Conv | Linear) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.tensor(node.weight))
        if module.bias is not None:
            module.bias.copy_(torch.tensor(node.bias))
    return module.eval()
