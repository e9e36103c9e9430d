"""The frameworks that a user would pick, each running a graph of ours with its own neurons.

The network is the user's: nn.Conv2d and the like, NCHW, a framework's neuron module for each
population. Initial potentials and thresholds are set from outside, as the framework allows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF, Add, AvgPool, Conv, Flatten, Linear, Node, Output, Scale


class StepLoop:
    """Plain PyTorch: all nodes for one step, then the next; the first connection once."""

    def __init__(self, network: Graph) -> None:
        self.network = network
        self.steady = network.steady()
        self.modules = {n.name: _module(n) for n in network.nodes[1:] if not isinstance(n, IF)}
        self.populations = network.nodes_of(IF)

    @torch.no_grad()
    def run(self, x: Array, *, count: bool = False) -> dict[str, Array]:
        """Classify a batch; returns the spike counts of every population where asked for."""
        values = {self.network.input.name: torch.from_numpy(x).float()}
        for node in self.network.nodes[1:]:
            if node.name in self.steady:
                values[node.name] = self._linear(node, values)
        self.begin(len(x))
        counts: dict[str, Tensor] = {}
        total: Tensor | float = 0.0
        for _ in range(self.network.steps):
            for node in self.network.nodes[1:]:
                if isinstance(node, IF):
                    spikes = self.fire(node.name, values[node.inputs[0]])
                    if count:
                        counts[node.name] = counts.get(node.name, 0.0) + spikes
                    values[node.name] = spikes
                elif node.name not in self.steady:
                    values[node.name] = self._linear(node, values)
            total = total + values[self.network.output.name]
        return {name: found.numpy() for name, found in counts.items()}

    def _linear(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        result: Tensor = self.modules[node.name](*(values[name] for name in node.inputs))
        return result

    def begin(self, batch: int) -> None:
        """Set the initial potentials."""
        self.v = {
            node.name: _full(node.v_init, batch, self.network.shape(node.name))
            for node in self.populations
        }
        self.v_threshold = {
            n.name: torch.tensor(float(n.v_threshold.max())) for n in self.populations
        }

    def fire(self, name: str, current: Tensor) -> Tensor:
        """One step of a population."""
        v, v_threshold = self.v[name], self.v_threshold[name]
        v = v + current
        spikes = (v >= v_threshold).float()
        self.v[name] = v - v_threshold * spikes
        return spikes


class SnnTorchLoop(StepLoop):
    """snnTorch's Leaky with beta 1; it has no multi-step mode."""

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        import snntorch

        self.neurons = {
            node.name: snntorch.Leaky(
                beta=1.0, threshold=float(node.v_threshold.max()), reset_delay=True
            )
            for node in self.populations
        }

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes, self.v[name] = self.neurons[name](current, self.v[name])
        return spikes


class SpikingJellyLoop(StepLoop):
    """SpikingJelly's IFNode, one step at a time."""

    mode = "s"

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        from spikingjelly.activation_based import neuron

        self.neurons = {
            node.name: neuron.IFNode(
                v_threshold=float(node.v_threshold.max()), v_reset=None, step_mode=self.mode
            ).eval()
            for node in self.populations
        }

    def begin(self, batch: int) -> None:
        for node in self.populations:
            self.neurons[node.name].reset()
            self.neurons[node.name].v = _full(node.v_init, batch, self.network.shape(node.name))

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor = self.neurons[name](current)
        return spikes


class SpikingJellyLayers(SpikingJellyLoop):
    """SpikingJelly's multi-step mode: all T steps of a layer at once, as SeqToANNContainer does."""

    mode = "m"

    @torch.no_grad()
    def run(self, x: Array, *, count: bool = False) -> dict[str, Array]:
        steps = self.network.steps
        values = {self.network.input.name: torch.from_numpy(x).float()}
        self.begin(len(x))
        counts = {}
        for node in self.network.nodes[1:]:
            if isinstance(node, IF):
                current = self._timed(node.inputs[0], values)
                spikes = self.neurons[node.name](current.view(steps, len(x), *current.shape[1:]))
                if count:
                    counts[node.name] = spikes.sum(dim=0).numpy()
                values[node.name] = spikes.flatten(0, 1)
            elif node.name in self.steady:
                values[node.name] = self._linear(node, values)
            else:
                sources = [self._timed(name, values) for name in node.inputs]
                values[node.name] = self.modules[node.name](*sources)
            for name in node.inputs:
                if self.network.consumers(name)[-1].name == node.name:
                    values.pop(name, None)
        logits = values[self.network.output.name]
        logits.view(steps, len(x), *logits.shape[1:]).mean(dim=0)
        return counts

    def _timed(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """A value folded over time; what is steady is repeated."""
        value = values[name]
        if name not in self.steady:
            return value
        return value.repeat(self.network.steps, *(1,) * (value.ndim - 1))


FRAMEWORKS: dict[str, tuple[str, Callable[[Graph], StepLoop]]] = {
    "plain PyTorch, step by step": ("torch", StepLoop),
    "SpikingJelly, multi-step": ("spikingjelly", SpikingJellyLayers),
    "SpikingJelly, single-step": ("spikingjelly", SpikingJellyLoop),
    "snnTorch": ("snntorch", SnnTorchLoop),
}


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
            return nn.AvgPool2d(node.kernel, node.stride, tuple(p for p, _ in node.padding))
        case Flatten():
            return nn.Flatten()
        case Scale():
            return _Diagonal(torch.tensor(node.scale).float(), torch.tensor(node.shift).float())
        case Add():
            return _Sum()
        case Output():
            return nn.Identity()
    raise ValueError(node.name)


def _conv(node: Conv) -> nn.Module:
    outputs, inputs = node.weight.shape[:2]
    even = all(before == after for before, after in node.padding)
    conv = nn.Conv2d(
        inputs * node.groups,
        outputs,
        node.kernel,
        node.stride,
        tuple(before for before, _ in node.padding) if even else 0,
        node.dilation,
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


def _full(value: Array, batch: int, shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(value).float().expand(batch, *shape).clone()
