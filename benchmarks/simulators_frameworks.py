"""The frameworks that a user would pick, each running a graph of ours with its own neurons.

The network is the user's: nn.Conv2d and the like, NCHW, a framework's neuron module for each
population. Initial potentials and thresholds are set from outside, as the framework allows. What a
neuron has to be told so that its spikes are those of the graph is in icsnn_deploy/readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from step_loop import StepLoop
from torch import Tensor

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF


class SnnTorchLoop(StepLoop):
    """snnTorch's Leaky with beta 1; it has no multi-step mode."""

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        import snntorch

        self.neurons = {
            node.name: snntorch.Leaky(beta=1.0, threshold=_v_threshold(node), reset_delay=True)
            for node in self.populations
        }

    def begin(self, batch: int) -> None:
        self.v = {}
        for name, v in _potentials(self.network, batch).items():
            v_threshold = self.neurons[name].threshold
            # What lies above the threshold is taken for the last step's spike, and reset.
            self.v[name] = v + v_threshold * (v > v_threshold)

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor
        spikes, self.v[name] = self.neurons[name](current, self.v[name])
        return spikes


class SpikingJellyLoop(StepLoop):
    """SpikingJelly's IFNode, one step at a time."""

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        self.neurons = _if_nodes(self.populations, "s")

    def begin(self, batch: int) -> None:
        _start_if_nodes(self.neurons, self.network, batch)

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor = self.neurons[name](current)
        return spikes


class Layers(StepLoop):
    """All steps of a layer at once: convolutions on [T N, *shape], neurons on [T, N, *shape]."""

    time_axis = 0

    @torch.inference_mode()
    def run(self, x: Array, *, count: bool = False) -> tuple[Array, dict[str, Array]]:
        values = self.once(x)
        self.begin(len(x))
        counts = {}
        for node in self.network.nodes[1:]:
            if node.name not in self.steady:
                folded = {name: self._folded(name, values[name]) for name in node.inputs}
                if isinstance(node, IF):
                    current = self._over_time(folded[node.inputs[0]], len(x))
                    spikes = self.fire(node.name, current)
                    if count:
                        counts[node.name] = spikes.sum(dim=self.time_axis).numpy()
                    values[node.name] = spikes.flatten(0, 1)
                else:
                    values[node.name] = self.connect(node, folded)
            for name in node.inputs:
                if self.network.consumers(name)[-1] is node:
                    values.pop(name, None)
        logits = self._over_time(values[self.network.output.name], len(x)).mean(dim=self.time_axis)
        return logits.numpy(), counts

    def _over_time(self, folded: Tensor, batch: int) -> Tensor:
        steps = self.network.steps
        sizes = (batch, steps) if self.time_axis else (steps, batch)
        return folded.reshape(*sizes, *folded.shape[1:])

    def _folded(self, name: str, value: Tensor) -> Tensor:
        """A value folded over time; what is steady is repeated."""
        if name not in self.steady:
            return value
        over_time = value.unsqueeze(self.time_axis)
        sizes = [self.network.steps if n == self.time_axis else -1 for n in range(over_time.ndim)]
        return over_time.expand(sizes).flatten(0, 1)


class SpikingJellyLayers(Layers):
    """SpikingJelly's multi-step mode, its convolutions as in SeqToANNContainer."""

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        self.neurons = _if_nodes(self.populations, "m")

    def begin(self, batch: int) -> None:
        _start_if_nodes(self.neurons, self.network, batch)

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor = self.neurons[name](current)
        return spikes


class NorseLayers(Layers):
    """norse's SNN over time, with the step of its IAF neuron but soft reset, which it lacks."""

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        from norse.torch.functional.iaf import IAFFeedForwardState, IAFParameters
        from norse.torch.functional.threshold import threshold
        from norse.torch.module.snn import SNN

        def step(current: Tensor, state: Any, p: Any, dt: float) -> tuple[Tensor, Any]:
            v = state.v + current
            spikes = threshold(v - p.v_th, p.method, p.alpha)
            return spikes, IAFFeedForwardState(v=v - spikes * p.v_th)

        def nothing(current: Tensor) -> Any:
            raise NotImplementedError("every state is given")

        self.state = IAFFeedForwardState
        self.neurons = {
            node.name: SNN(step, nothing, IAFParameters(v_th=torch.tensor(_v_threshold(node))))
            for node in self.populations
        }

    def begin(self, batch: int) -> None:
        self.v = _potentials(self.network, batch)

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor
        spikes, _ = self.neurons[name](current, self.state(v=self.v[name]))
        return spikes


class SinabsLayers(Layers):
    """sinabs' IAF, which takes all steps at once, [N, T, *shape]."""

    time_axis = 1

    def __init__(self, network: Graph) -> None:
        super().__init__(network)
        from sinabs import layers
        from sinabs.activation import SingleSpike

        self.neurons = {
            node.name: layers.IAF(
                spike_threshold=torch.tensor(_v_threshold(node)), spike_fn=SingleSpike
            )
            for node in self.populations
        }

    def begin(self, batch: int) -> None:
        for name, v in _potentials(self.network, batch).items():
            self.neurons[name].v_mem = v

    def fire(self, name: str, current: Tensor) -> Tensor:
        spikes: Tensor = self.neurons[name](current)
        return spikes


FRAMEWORKS: dict[str, tuple[str, Callable[[Graph], StepLoop]]] = {
    "plain PyTorch, step by step": ("torch", StepLoop),
    "SpikingJelly, multi-step": ("spikingjelly", SpikingJellyLayers),
    "SpikingJelly, single-step": ("spikingjelly", SpikingJellyLoop),
    "snnTorch": ("snntorch", SnnTorchLoop),
    "norse": ("norse", NorseLayers),
    "sinabs": ("sinabs", SinabsLayers),
}


def _if_nodes(populations: tuple[IF, ...], mode: str) -> dict[str, Any]:
    """SpikingJelly's neurons with soft reset, for one step ("s") or for many ("m")."""
    from spikingjelly.activation_based import neuron

    return {
        node.name: neuron.IFNode(
            v_threshold=_v_threshold(node), v_reset=None, step_mode=mode
        ).eval()
        for node in populations
    }


def _start_if_nodes(neurons: dict[str, Any], network: Graph, batch: int) -> None:
    for name, v in _potentials(network, batch).items():
        neurons[name].reset()
        neurons[name].v = v


def _v_threshold(node: IF) -> float:
    """The one v_threshold of a layer."""
    return float(node.v_threshold.max())


def _potentials(network: Graph, batch: int) -> dict[str, Tensor]:
    """Initial potentials of every population, [N, *shape]."""
    return {
        node.name: torch.tensor(node.v_init)
        .float()
        .expand(batch, *network.shape(node.name))
        .clone()
        for node in network.nodes_of(IF)
    }
