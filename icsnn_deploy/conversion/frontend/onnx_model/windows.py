"""Padding of convolutions and poolings: as numbers, or as a rule to compute them by."""

from __future__ import annotations

from typing import Any

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.sizes import shape_of
from icsnn_deploy.errors import ConversionError

Ends = list[tuple[int, int]]
"""Padding before and after, for each spatial axis."""


def per_axis(node: OperatorNode, name: str, axes: int, default: int) -> list[int]:
    """An attribute with a number for each spatial axis."""
    return _of_length(node, name, axes) or [default] * axes


def ends_of(node: OperatorNode, axes: int) -> Ends:
    """The attribute pads; zeros where there is none."""
    pads = _of_length(node, "pads", 2 * axes) or [0] * (2 * axes)
    return list(zip(pads[:axes], pads[axes:], strict=True))


def _of_length(node: OperatorNode, name: str, count: int) -> list[int] | None:
    values = node.integers(name)
    if values and len(values) != count:
        raise ConversionError(
            f"{node.path}: {node.kind} with {name} {values[:8]}; {count} numbers are needed. Check "
            "the file with onnx.checker.check_model"
        )
    return values


def padding_of(node: OperatorNode, x: Any, kernel: list[int], reach: list[int]) -> Ends:
    """The padding of a window operator.

    Args:
        node: its attributes pads and auto_pad.
        x: [B, C, ...].
        kernel: size of the window along each axis.
        reach: strides.
    """
    axes = len(kernel)
    mode = str(node.get("auto_pad", "NOTSET"))
    if mode in ("NOTSET", ""):
        return ends_of(node, axes)
    if mode == "VALID":
        return [(0, 0)] * axes
    dilations = per_axis(node, "dilations", axes, 1)
    found = []
    for i, (k, stride, dilation) in enumerate(zip(kernel, reach, dilations, strict=True)):
        size = shape_of(x)[2 + i]
        last = (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1
        total = max(last - size, 0)
        small, large = total // 2, total - total // 2
        found.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return found


def flat(ends: Ends) -> list[int]:
    """As torch.nn.functional.pad takes it: the last axis first."""
    return [end for pair in reversed(ends) for end in pair]


def is_symmetric(ends: Ends) -> bool:
    """Whether both ends of each axis have the same padding, as PyTorch's layers need it."""
    return all(before == after for before, after in ends)
