"""The function that some calls of a model compute of one tensor, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import fx

from icsnn_deploy.conversion.frontend.approximate.calls import Fittable
from icsnn_deploy.conversion.frontend.example_run import CallResult
from icsnn_deploy.graph.neuron import Array


class CalledFunction:
    """f: float64 [P] -> float64 [P]

    Args:
        module: the captured calls.
        results: of each on the example, for the constants.
        one: calls with one source.
    """

    def __init__(
        self, module: fx.GraphModule, results: Mapping[fx.Node, CallResult], one: Fittable
    ) -> None:
        self.one = one
        holder = torch.nn.Module()
        for node in one.calls:
            if node.op == "call_module":
                _register(
                    holder, str(node.target), deepcopy(module.get_submodule(str(node.target)))
                )
        self.module = holder.double()
        self.constants = {
            node: _double(results[node].value)
            for call in one.calls
            for node in call.all_input_nodes
            if node not in one.calls and node not in one.sources
        }

    def __call__(self, x: Array) -> Array:
        (source,) = self.one.sources
        run = fx.Interpreter(self.module, garbage_collect_values=False, graph=fx.Graph())
        run.env = {**self.constants, source: torch.from_numpy(np.array(x, np.float64))}
        with torch.no_grad():
            for node in self.one.calls:
                run.env[node] = run.run_node(node)
        result: Array = run.env[self.one.node].double().reshape(x.shape).numpy()
        return result


def _register(holder: torch.nn.Module, path: str, module: torch.nn.Module) -> None:
    *parents, name = path.split(".")
    for part in parents:
        if part not in holder._modules:
            holder.add_module(part, torch.nn.Module())
        holder = holder.get_submodule(part)
    holder.add_module(name, module)


def _double(value: object) -> object:
    is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if is_float else value  # type: ignore[attr-defined]
