"""Write gated linear units in parts, so that their product is fitted as any other.

glu(x, dim)    ->    a, b = x.chunk(2, dim);  a * sigmoid(b)
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from icsnn_deploy.conversion.frontend.operators import normalize


def split_gated(module: fx.GraphModule) -> bool:
    """Replace gated linear units in the module; whether there were any."""
    modules = dict(module.named_modules())
    found = False
    for node in list(module.graph.nodes):
        if not node.op.startswith("call"):
            continue
        call = normalize(node, node.args, node.kwargs, modules)
        if call.operator not in ("glu", "nn.GLU"):
            continue
        found = True
        given = {**dict(zip(("input", "dim"), call.args, strict=False)), **call.kwargs}
        dim = modules[str(node.target)].dim if node.op == "call_module" else given.get("dim", -1)
        with module.graph.inserting_before(node):
            _replace(module.graph, node, given["input"], dim)
    module.recompile()
    return found


def _replace(graph: fx.Graph, node: fx.Node, source: Any, dim: Any) -> None:
    halves = graph.call_function(torch.chunk, (source, 2, dim))
    first, second = (graph.call_function(operator.getitem, (halves, i)) for i in (0, 1))
    gate = graph.call_function(torch.sigmoid, (second,))
    product = graph.call_function(operator.mul, (first, gate))
    for made in (halves, first, second, gate, product):
        if "nn_module_stack" in node.meta:
            made.meta["nn_module_stack"] = node.meta["nn_module_stack"]
    node.replace_all_uses_with(product)
    graph.erase_node(node)
