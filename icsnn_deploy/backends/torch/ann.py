"""An ANN in PyTorch, node by node: the network that a conversion starts from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ops import TorchOps, open_device
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node, Relu
from icsnn_deploy.progress import inner_tracked


class TorchANN:
    """Runs an ANN graph in PyTorch on one device."""

    def __init__(
        self, graph: Graph, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.graph = graph
        self.ops = TorchOps(graph, open_device(device), dtype)

    @torch.no_grad()
    def run(self, inputs: Array, observer: Callable[[Node, Tensor], None] | None = None) -> Array:
        """Logits [B, *output shape]; `observer` is called with each node's result [B, *shape]."""
        values = {self.graph.input.name: self.ops.tensor(check_inputs(self.graph, inputs))}
        unused = self.graph.last_uses()
        for node in inner_tracked(self.graph.nodes[1:], "layers of the ANN"):
            values[node.name] = self.ops.evaluate(node, *(values[name] for name in node.inputs))
            if observer is not None:
                observer(node, values[node.name])
            for name in unused[node.name]:
                del values[name]
        return values[self.graph.output.name].cpu().numpy()

    def run_with_activations(self, inputs: Array) -> tuple[Array, dict[str, Tensor]]:
        """Logits [B, *output shape], and the activation of each rectifier [B, *shape] by name."""
        activations: dict[str, Tensor] = {}

        def observe(node: Node, value: Tensor) -> None:
            if isinstance(node, Relu):
                activations[node.name] = value

        return self.run(inputs, observe), activations
