"""Repeat a call of the model in PyTorch with other operands."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import Traced
from icsnn_deploy.conversion.frontend.operators import Call

FREES = {"set"}
"""Operators that give the memory of a tensor back, which no later call of the model uses."""

FILLED = frozenset(
    [
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "rand_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_tensor",
    ]
)
"""Operators that make a constant from the shape of a tensor."""


def run_call(
    node: fx.Node,
    modules: Mapping[str, Any],
    args: Any,
    kwargs: Any,
    substitute: Callable[[Any], Any],
) -> Any:
    """The call in PyTorch, with each operand that is a tensor replaced."""
    leaves, tree = pytree.tree_flatten((args, kwargs))
    tensors = (Traced, torch.Tensor)
    changed = [substitute(leaf) if isinstance(leaf, tensors) else leaf for leaf in leaves]
    given, named = pytree.tree_unflatten(changed, tree)
    with torch.no_grad():
        if node.op == "call_module":
            module = modules[str(node.target)]
            if any(one.dtype == torch.float64 for one in changed if isinstance(one, torch.Tensor)):
                module = copy.deepcopy(module).double()
            return module(*given, **named)
        if node.op == "call_method":
            return getattr(given[0], str(node.target))(*given[1:], **named)
        return node.target(*given, **named)  # type: ignore[operator]


def takes_one(call: Call) -> bool:
    """Whether a call takes one of the results of another, by position or name."""
    named = call.operator.startswith("attribute.")
    return (call.operator == "getitem" or named) and not isinstance(call.args[0], Traced)


def example_of(operand: Any) -> Any:
    """A tensor of zeros like a traced one."""
    if not isinstance(operand, Traced):
        return operand
    return torch.zeros(operand.shape, dtype=operand.dtype)
