"""Operators on shapes and other integers, which the operators of a model compute sizes with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.errors import ConversionError

MOST_VALUES = 2**26
"""Largest tensor that an operator may make out of a few numbers."""


def shape_of(x: Any) -> list[int]:
    """The shape of a tensor, as plain numbers also while it is traced."""
    return [int(size) for size in x.shape]


def rank_of(x: Any) -> int:
    """The number of axes of a tensor, as a plain number also while it is traced."""
    return len(x.shape)


def integers(values: Any) -> list[int]:
    """The entries of a tensor of sizes, axes or positions."""
    return [int(one) for one in values.reshape(-1).tolist()]


def allowed(node: OperatorNode, sizes: Sequence[int]) -> list[int]:
    """The sizes, if a tensor of them is not too large.

    Raises:
        ConversionError: names the node and the sizes.
    """
    if any(size < 0 for size in sizes) or math.prod(sizes) > MOST_VALUES:
        raise ConversionError(
            f"{node.path}: {node.kind} makes a tensor of shape {list(sizes)[:8]}; at most "
            f"{MOST_VALUES:,} values are allowed. Check the sizes in the ONNX file"
        )
    return list(sizes)


def _shape(node: OperatorNode, x: Any) -> Any:
    sizes = shape_of(x)
    return torch.tensor(sizes[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def _size(node: OperatorNode, x: Any) -> Any:
    return torch.tensor(math.prod(shape_of(x)), dtype=torch.int64)


def _constant_of_shape(node: OperatorNode, shape: Any) -> Any:
    value = node.get("value")
    filler = torch.zeros(1) if value is None else value.reshape(-1)
    return filler[0].expand(allowed(node, integers(shape))).clone()


def _range(node: OperatorNode, start: Any, limit: Any, delta: Any) -> Any:
    first, end, step = start.item(), limit.item(), delta.item()
    if step == 0:
        raise ConversionError(f"{node.path}: Range with steps of 0, others are needed")
    allowed(node, [max(math.ceil((end - first) / step), 0)])
    return torch.arange(first, end, step, dtype=start.dtype)


SIZES: dict[str, Callable[..., Any]] = {
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
}
