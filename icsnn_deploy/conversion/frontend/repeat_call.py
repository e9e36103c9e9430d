"""Repeat a call of the model in PyTorch with other operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import Traced

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
            return modules[str(node.target)](*given, **named)
        if node.op == "call_method":
            return getattr(given[0], str(node.target))(*given[1:], **named)
        return node.target(*given, **named)  # type: ignore[operator]


def example_of(operand: Any) -> Any:
    """A tensor of zeros like a traced one."""
    if not isinstance(operand, Traced):
        return operand
    return torch.zeros(operand.shape, dtype=operand.dtype)
