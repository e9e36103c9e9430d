"""Operators with weights: convolutions, matrix products, normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.sizes import rank_of, shape_of
from icsnn_deploy.conversion.frontend.onnx_model.windows import (
    ends_of,
    flat,
    is_symmetric,
    padding_of,
    per_axis,
)
from icsnn_deploy.errors import ConversionError

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _axes(node: OperatorNode, w: Any) -> int:
    axes = rank_of(w) - 2
    if axes not in _CONVOLUTIONS:
        raise ConversionError(
            f"{node.path}: {node.kind} with weights of shape {shape_of(w)}: 1, 2 or 3 spatial "
            "axes are allowed"
        )
    return axes


def _conv(node: OperatorNode, x: Any, w: Any, b: Any = None) -> Any:
    axes = _axes(node, w)
    stride = per_axis(node, "strides", axes, 1)
    ends = padding_of(node, x, shape_of(w)[2:], stride)
    padding = [before for before, _ in ends]
    if not is_symmetric(ends):
        x, padding = F.pad(x, flat(ends)), [0] * axes
    dilation = per_axis(node, "dilations", axes, 1)
    return _CONVOLUTIONS[axes](x, w, b, stride, padding, dilation, node.get("group", 1))


def _conv_transpose(node: OperatorNode, x: Any, w: Any, b: Any = None) -> Any:
    axes = _axes(node, w)
    stride = per_axis(node, "strides", axes, 1)
    dilation = per_axis(node, "dilations", axes, 1)
    extra = per_axis(node, "output_padding", axes, 0)
    ends = _transposed_padding(node, x, w, stride, dilation, extra)
    groups = node.get("group", 1)
    transposed = _TRANSPOSED[axes]
    if is_symmetric(ends) and min(before for before, _ in ends) >= 0:
        padding = [before for before, _ in ends]
        return transposed(x, w, b, stride, padding, extra, groups, dilation)
    whole = transposed(x, w, b, stride, 0, extra, groups, dilation)
    return F.pad(whole, [-end for end in flat(ends)])


def _transposed_padding(
    node: OperatorNode,
    x: Any,
    w: Any,
    stride: list[int],
    dilation: list[int],
    extra: list[int],
) -> list[tuple[int, int]]:
    """What is cut off both ends, from pads, auto_pad or the shape of the output."""
    axes = len(stride)
    mode = str(node.get("auto_pad", "NOTSET"))
    wanted = node.integers("output_shape")
    if wanted is None and mode in ("NOTSET", "", "VALID"):
        return [(0, 0)] * axes if mode == "VALID" else ends_of(node, axes)
    found = []
    for i in range(axes):
        size = shape_of(x)[2 + i]
        full = stride[i] * (size - 1) + extra[i] + (shape_of(w)[2 + i] - 1) * dilation[i] + 1
        total = full - (size * stride[i] if wanted is None else wanted[-axes + i])
        half, rest = total // 2, total - total // 2
        found.append((half, rest) if mode == "SAME_UPPER" else (rest, half))
    return found


def _gemm(node: OperatorNode, a: Any, b: Any, c: Any = None) -> Any:
    """alpha A B + beta C."""
    left = a.transpose(0, 1) if node.get("transA", 0) else a
    weight = b if node.get("transB", 0) else b.transpose(0, 1)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha != 1.0:
        weight = weight * alpha
    if c is None:
        return F.linear(left, weight)
    shift = c if beta == 1.0 else c * beta
    if shift.numel() == shape_of(weight)[0] and shape_of(shift)[-1:] == [shift.numel()]:
        return F.linear(left, weight, shift.reshape(-1))
    return F.linear(left, weight) + shift


def _matmul(node: OperatorNode, a: Any, b: Any) -> Any:
    if rank_of(a) >= 2 and rank_of(b) == 2:
        return F.linear(a, b.transpose(0, 1))
    return torch.matmul(a, b)


def _batch_norm(
    node: OperatorNode, x: Any, scale: Any, shift: Any, mean: Any, variance: Any
) -> Any:
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, node.get("epsilon", 1e-5))


def _instance_norm(node: OperatorNode, x: Any, scale: Any, shift: Any) -> Any:
    return F.instance_norm(x, weight=scale, bias=shift, eps=node.get("epsilon", 1e-5))


def _layer_norm(node: OperatorNode, x: Any, scale: Any, shift: Any = None) -> Any:
    axis = node.get("axis", -1) % rank_of(x)
    shape = shape_of(x)[axis:]
    normalized = F.layer_norm(x, shape, eps=node.get("epsilon", 1e-5)) * scale
    return normalized if shift is None else normalized + shift


def _group_norm(node: OperatorNode, x: Any, scale: Any, shift: Any) -> Any:
    return F.group_norm(x, node.get("num_groups"), scale, shift, node.get("epsilon", 1e-5))


def _response_norm(node: OperatorNode, x: Any) -> Any:
    size, bias = node.get("size"), node.get("bias", 1.0)
    return F.local_response_norm(x, size, node.get("alpha", 1e-4), node.get("beta", 0.75), bias)


def _lp_normalization(node: OperatorNode, x: Any) -> Any:
    return F.normalize(x, float(node.get("p", 2)), node.get("axis", -1), eps=0.0)


def _einsum(node: OperatorNode, *operands: Any) -> Any:
    return torch.einsum(node.get("equation"), *operands)


LAYERS: dict[str, Callable[..., Any]] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _response_norm,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_normalization,
    "MatMul": _matmul,
}
