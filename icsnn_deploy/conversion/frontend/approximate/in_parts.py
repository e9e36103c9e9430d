"""Write operators that hold a product in parts, so that the product is fitted as any other.

glu(x, dim)                  ->    a, b = x.chunk(2, dim);  a * sigmoid(b)
addcmul(x, a, b, value=c)    ->    x + a * b * c
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from icsnn_deploy.conversion.frontend.example_run import CallResult, TensorMeta
from icsnn_deploy.conversion.frontend.operators import Call, normalize


def write_in_parts(module: fx.GraphModule, results: Mapping[fx.Node, CallResult]) -> bool:
    """Replace gated linear units, and addcmul of two tensors; whether there were any.

    Args:
        module: the captured calls; changed.
        results: of each on the example.
    """
    modules = dict(module.named_modules())
    found = False
    for node in list(module.graph.nodes):
        if not node.op.startswith("call"):
            continue
        call = normalize(node, node.args, node.kwargs, modules)
        if call.operator in ("glu", "nn.GLU"):
            given = _named(call, "input", "dim")
            dim = modules[str(node.target)].dim if node.op == "call_module" else given.get("dim")
            with module.graph.inserting_before(node):
                made = _gated(module.graph, given["input"], -1 if dim is None else dim)
        elif call.operator == "addcmul" and _of_two(call, results) and not results[node].changed:
            given = _named(call, "input", "tensor1", "tensor2")
            with module.graph.inserting_before(node):
                made = _product_added(module.graph, given)
        else:
            continue
        found = True
        _put_in_place(node, made)
    module.recompile()
    return found


def _named(call: Call, *names: str) -> dict[str, Any]:
    return {**dict(zip(names, call.args, strict=False)), **call.kwargs}


def _of_two(call: Call, results: Mapping[fx.Node, CallResult]) -> bool:
    """Whether both factors depend on the input."""
    given = _named(call, "input", "tensor1", "tensor2")
    factors = [results[given[name]].value for name in ("tensor1", "tensor2")]
    return all(isinstance(one, TensorMeta) for one in factors)


def _gated(graph: fx.Graph, source: Any, dim: int) -> list[fx.Node]:
    halves = graph.call_function(torch.chunk, (source, 2, dim))
    first, second = (graph.call_function(operator.getitem, (halves, i)) for i in (0, 1))
    gate = graph.call_function(torch.sigmoid, (second,))
    product = graph.call_function(operator.mul, (first, gate))
    return [halves, first, second, gate, product]


def _product_added(graph: fx.Graph, given: Mapping[str, Any]) -> list[fx.Node]:
    product = graph.call_function(operator.mul, (given["tensor1"], given["tensor2"]))
    scaled = graph.call_function(operator.mul, (product, given.get("value", 1)))
    return [product, scaled, graph.call_function(operator.add, (given["input"], scaled))]


def _put_in_place(node: fx.Node, made: list[fx.Node]) -> None:
    """Replace a call by the last of the calls made for it."""
    for one in made:
        if "nn_module_stack" in node.meta:
            one.meta["nn_module_stack"] = node.meta["nn_module_stack"]
    node.replace_all_uses_with(made[-1])
    node.graph.erase_node(node)
