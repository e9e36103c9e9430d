"""Hold our figures against NeuroBench's harness on the same small network.

NeuroBench brings torchaudio and snntorch, so it runs in an environment of its own:

    python -m venv /tmp/neurobench
    /tmp/neurobench/bin/pip install torch neurobench==2.3.0 safetensors
    PYTHONPATH=. /tmp/neurobench/bin/python benchmarks/neurobench_check.py

The network has no pooling: NeuroBench takes pooled spikes, which are no longer 0 or 1, for MACs.
Prints each figure of both and exits with 1 where one differs.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
from neurobench.models import TorchModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.evaluation.activity import measure_activity
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Node, Output
from icsnn_deploy.targets.resources import count_resources

TIME_STEPS = 5
SAMPLES = 12


def build_graph(rng: np.random.Generator) -> Graph:
    """Integers in float32, a third of the weights zero: 2x9x9 -> 4 -> 6 (stride 2) -> 10."""

    def weights(*shape: int) -> Array:
        kept = rng.random(shape) > 1 / 3
        return (rng.integers(-8, 9, shape) * kept).astype(np.float32)

    def conv(name: str, source: str, channels: tuple[int, int], stride: int) -> Conv:
        return Conv(
            name=name,
            inputs=(source,),
            weight=weights(channels[1], channels[0], 3, 3),
            bias=rng.integers(-3, 4, channels[1]).astype(np.float32),
            stride=(stride, stride),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
        )

    def population(name: str, source: str) -> IF:
        one = np.ones((1, 1, 1), np.float32)
        return IF(name=name, inputs=(source,), v_threshold=20 * one, v_init=10.5 * one)

    nodes: list[Node] = [
        Input(name="input", shape=(2, 9, 9)),
        conv("conv1", "input", (2, 4), 1),
        population("if1", "conv1"),
        conv("conv2", "if1", (4, 6), 2),
        population("if2", "conv2"),
        Flatten(name="flatten", inputs=("if2",)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=weights(10, 150),
            bias=rng.integers(-3, 4, 10).astype(np.float32),
        ),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=TIME_STEPS)


class Population(nn.Module):
    """An IF population; its potential is state, not a parameter."""

    v_threshold: Tensor
    v_init: Tensor

    def __init__(self, node: IF) -> None:
        super().__init__()
        self.register_buffer("v_threshold", torch.from_numpy(node.v_threshold.copy()))
        self.register_buffer("v_init", torch.from_numpy(node.v_init.copy()))
        self.v: Tensor | None = None

    def forward(self, current: Tensor) -> Tensor:
        v = self.v_init.expand_as(current) if self.v is None else self.v
        u = v + current
        spikes = (u >= self.v_threshold).to(u.dtype)
        self.v = u - self.v_threshold * spikes
        return spikes


class Network(nn.Module):
    """The graph's nodes as torch modules; T steps a call."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_module(node) for node in graph.nodes[1:-1]))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if isinstance(layer, Population):
                layer.v = None
        return torch.stack([self.layers(x) for _ in range(TIME_STEPS)]).mean(dim=0)


def _module(node: Node) -> nn.Module:
    if isinstance(node, IF):
        return Population(node)
    if isinstance(node, Flatten):
        return nn.Flatten()
    if isinstance(node, Conv):
        outputs, inputs = node.weight.shape[:2]
        module: nn.Conv2d | nn.Linear = nn.Conv2d(
            inputs,
            outputs,
            (node.kernel[0], node.kernel[1]),
            stride=(node.stride[0], node.stride[1]),
            padding=1,
        )
    elif isinstance(node, Linear):
        module = nn.Linear(node.weight.shape[1], node.weight.shape[0])
    else:
        raise TypeError(f"{node.name}: no module for a {node.kind}")
    module.weight = nn.Parameter(torch.from_numpy(node.weight.copy()))
    module.bias = nn.Parameter(torch.from_numpy(node.bias.copy()))
    return module


def our_figures(graph: Graph, inputs: Array) -> dict[str, float]:
    """What icsnn_deploy counts."""
    recording = ReferenceSimulator(graph).run(inputs)
    activity = measure_activity(graph, recording, inputs)
    resources = count_resources(graph)
    return {
        "footprint": resources.footprint_bytes,
        "connection_sparsity": round(resources.connection_sparsity, 4),
        "activation_sparsity": activity.activation_sparsity,
        "effective_macs": activity.effective_macs_every_step or 0.0,
        "effective_acs": activity.acs,
        "dense": activity.dense_operations,
    }


def harness_figures(graph: Graph, inputs: Array) -> dict[str, float]:
    """What NeuroBench counts."""
    model = TorchModel(Network(graph))
    model.add_activation_module(Population)
    data = TensorDataset(torch.from_numpy(inputs), torch.zeros(len(inputs)))
    loader = DataLoader(data, batch_size=len(inputs))
    static, workload = [Footprint, ConnectionSparsity], [ActivationSparsity, SynapticOperations]
    benchmark = Benchmark(model, loader, [], [], [static, workload])
    with torch.no_grad():
        found = benchmark.run(quiet=True)
    operations = found["SynapticOperations"]
    return {
        "footprint": found["Footprint"],
        "connection_sparsity": found["ConnectionSparsity"],
        "activation_sparsity": found["ActivationSparsity"],
        "effective_macs": operations["Effective_MACs"],
        "effective_acs": operations["Effective_ACs"],
        "dense": operations["Dense"],
    }


def main() -> int:
    """Compare; 0 when every figure is the same."""
    rng = np.random.default_rng(0)
    graph = build_graph(rng)
    inputs = rng.integers(0, 7, (SAMPLES, *graph.input.shape)).astype(np.float32)
    ours, theirs = our_figures(graph, inputs), harness_figures(graph, inputs)
    same = {name: abs(ours[name] - theirs[name]) <= 1e-9 * abs(theirs[name]) for name in ours}
    print(json.dumps({"ours": ours, "neurobench": theirs, "same": same}, indent=2))
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
