"""Convolutions, fully connected layers, batch normalization, and adding or scaling by constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import CallContext, Lowering, Traced
from icsnn_deploy.conversion.frontend.rules.same_source import (
    affine_of_symbol,
    multiplied,
    summed,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    ChannelAffine,
    Conv,
    Linear,
    Pairs,
    Shape,
    broadcast_shapes,
)


def conv(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> str:
    """Conv1d and Conv2d; a zero padding before it becomes part of the convolution."""
    kernels = constant(context, weight)
    axes = kernels.ndim - 2
    if axes not in (1, 2):
        raise context.unsupported(f"{axes} spatial axes", "one or two", "Use Conv1d or Conv2d.")
    if padding_mode != "zeros":
        raise context.unsupported(
            f"padding_mode {padding_mode!r}", "padding_mode 'zeros'", "Retrain with zero padding."
        )
    source = context.source(x)
    if len(context.source_shape(x)) != axes + 1:
        raise context.unsupported("an input without a batch axis", f"[B, C] and {axes} more axes")
    holes = spread(dilation, axes)
    pads = _conv_padding(padding, kernels.shape[2:], holes)
    if source in context.builder.paddings:
        source, before = context.builder.paddings[source]
        pads = tuple((p[0] + q[0], p[1] + q[1]) for p, q in zip(pads, before, strict=True))
    return context.add(
        Conv(
            name=context.name(),
            inputs=(source,),
            weight=kernels,
            bias=_bias(context, bias, len(kernels)),
            stride=spread(stride, axes),
            padding=pads,
            dilation=holes,
            groups=groups,
        )
    )


def convolution(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> str:
    """aten.convolution: any convolution of a decomposed exported program."""
    if transposed:
        raise context.unsupported("transposed", "Conv1d, Conv2d", "Replace it by a convolution.")
    return conv(context, x, weight, bias, stride, padding, dilation, groups)


def linear(context: CallContext, x: Any, weight: Any, bias: Any = None) -> str:
    """y = x @ weight.T + bias, on vectors."""
    matrix = constant(context, weight)
    if len(context.source_shape(x)) != 1:
        raise context.unsupported(
            f"an input of shape {context.source_shape(x)}",
            "(features,)",
            "Flatten to [B, -1] before.",
        )
    bias = _bias(context, bias, len(matrix))
    return context.add(
        Linear(name=context.name(), inputs=(context.source(x),), weight=matrix, bias=bias)
    )


def addmm(
    context: CallContext, x: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1
) -> str:
    """y = beta * x + alpha * (mat1 @ mat2): a linear layer of a decomposed exported program."""
    if beta != 1 or alpha != 1 or isinstance(x, Traced):
        raise context.unsupported("a scaled or traced bias", "a constant bias, alpha = beta = 1")
    return linear(context, mat1, _transposed(context, mat2), x)


def matmul(context: CallContext, x: Any, other: Any = None, mat2: Any = None) -> str:
    """y = x @ W for a constant matrix W."""
    return linear(context, x, _transposed(context, other if mat2 is None else mat2))


def batch_norm(
    context: CallContext,
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> str:
    """y = weight * (x - running_mean) / sqrt(running_var + eps) + bias, per channel"""
    if running_mean is None or running_var is None:
        raise context.unsupported(
            "no running statistics", "track_running_stats=True", "Retrain with running statistics."
        )
    if training:
        raise context.unsupported("training mode", "eval mode", "Call model.eval() before.")
    mean, variance = _double(context, running_mean), _double(context, running_var)
    scale = 1 / np.sqrt(variance + eps)
    if weight is not None:
        scale = scale * _double(context, weight)
    shift = -mean * scale
    if bias is not None:
        shift = shift + _double(context, bias)
    per_channel = (-1, *(1,) * (len(context.source_shape(x)) - 1))
    return _scale(context, x, scale.reshape(per_channel), shift.reshape(per_channel))


def native_batch_norm(
    context: CallContext,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> str:
    """aten's batch normalization in eval mode, which also returns two empty statistics."""
    return batch_norm(context, x, running_mean, running_var, weight, bias, eps=eps)


def add(context: CallContext, x: Any, other: Any, *, alpha: float = 1) -> str:
    """y = x + alpha * other"""
    if isinstance(x, Traced) and isinstance(other, Traced):
        return summed(context, x, other, alpha) or _sum(context, x, other, alpha)
    if isinstance(x, Traced):
        return _affine(context, x, 1, alpha * _values(context, other, x))
    return _affine(context, other, alpha, _values(context, x, other))


def sub(context: CallContext, x: Any, other: Any, *, alpha: float = 1) -> str:
    """y = x - alpha * other"""
    return add(context, x, other, alpha=-alpha)


def rsub(context: CallContext, x: Any, other: Any, alpha: float = 1) -> str:
    """y = other - alpha * x"""
    return add(context, other, x, alpha=-alpha)


def mul(context: CallContext, x: Any, other: Any) -> str:
    """y = x * c, c constant."""
    if isinstance(x, Traced) and isinstance(other, Traced):
        masked = multiplied(context, x, other)
        if masked is not None:
            return masked
        raise context.unsupported(
            "a product of two tensors that depend on the input",
            "a product with a constant",
            "Remove the gate or attention and retrain.",
        )
    data, factor = (x, other) if isinstance(x, Traced) else (other, x)
    return _affine(context, data, _values(context, factor, data), 0)


def div(context: CallContext, x: Any, other: Any, *, rounding_mode: str | None = None) -> str:
    """y = x / c, c constant."""
    if isinstance(other, Traced) or rounding_mode is not None:
        raise context.unsupported(
            "a rounded division, or one by data", "a division by a constant", "Remove it."
        )
    return _affine(context, x, 1 / _values(context, other, x), 0)


def neg(context: CallContext, x: Any) -> str:
    """y = -x"""
    return _affine(context, x, -1, 0)


def _sum(context: CallContext, x: Traced, other: Traced, alpha: float) -> str:
    first, second = context.source(x), context.source(other)
    if x.shape != other.shape:
        raise context.unsupported(
            f"shapes {x.shape[1:]} and {other.shape[1:]}", "two tensors of one shape"
        )
    name = context.name()
    if alpha != 1:
        ones = np.ones((1,) * (len(x.shape) - 1))
        node = ChannelAffine(
            name=context.name("scale"), inputs=(second,), scale=ones * alpha, shift=ones * 0
        )
        second = context.add(node)
    return context.add(Add(name=name, inputs=(first, second)))


def _affine(context: CallContext, x: Any, scale: Any, shift: Any) -> str:
    """scale * x + shift for arrays with a batch axis of 1, or numbers."""
    if isinstance(x, Traced) and context.builder.is_symbol(x.node):
        return affine_of_symbol(context, x, scale, shift)
    shape = context.source_shape(x)
    return _scale(
        context, x, _per_sample(context, scale, shape), _per_sample(context, shift, shape)
    )


def _scale(context: CallContext, x: Any, scale: Array, shift: Array) -> str:
    if np.all(scale == 1) and np.all(shift == 0):
        return context.source(x)
    node = ChannelAffine(name=context.name(), inputs=(context.source(x),), scale=scale, shift=shift)
    return context.add(node)


def _values(context: CallContext, value: Any, x: Any) -> Array:
    """A constant operand as float64."""
    context.function_source_shape(x)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return np.asarray(value, np.float64)
    return _double(context, value)


def _per_sample(context: CallContext, value: Any, shape: Shape) -> Array:
    """A constant that PyTorch broadcasts against [B, *shape], in a shape for ChannelAffine."""
    array = np.asarray(value, np.float64)
    rank = len(shape) + 1
    if array.ndim <= rank:
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    fits = array.ndim == rank and all(
        a in (1, b) for a, b in zip(array.shape, (1, *shape), strict=True)
    )
    if not fits:
        raise context.unsupported(
            f"a constant of shape {np.shape(value)}",
            f"one that broadcasts to {shape}, the same for every sample",
        )
    array = array[0]
    return array if array.shape in broadcast_shapes(shape) else np.broadcast_to(array, shape)


def constant(context: CallContext, value: Any) -> Array:
    """A parameter of the model as float32; raises Unsupported if it depends on the input."""
    return _double(context, value).astype(np.float32)


def _double(context: CallContext, value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        raise context.unsupported(
            "a parameter that depends on the input", "constant parameters", "Make it constant."
        )
    if value.is_complex():
        raise context.unsupported("complex numbers", "real numbers", "Use a real-valued model.")
    array: Array = value.detach().to("cpu", torch.float64).numpy()
    return array


def _transposed(context: CallContext, value: Any) -> Any:
    if not isinstance(value, torch.Tensor) or value.dim() != 2:
        raise context.unsupported(
            "a matrix product of two tensors that depend on the input, or not of rank 2",
            "a product with one constant matrix",
        )
    return value.t()


def _bias(context: CallContext, bias: Any, width: int) -> Array:
    return np.zeros(width, np.float32) if bias is None else constant(context, bias)


def spread(value: Any, axes: int) -> tuple[int, ...]:
    """One integer per spatial axis, from one for all axes or one for each."""
    values = tuple(int(one) for one in value) if isinstance(value, (tuple, list)) else (int(value),)
    return values * axes if len(values) == 1 else values


def _conv_padding(padding: Any, kernel: Shape, dilation: Shape) -> Pairs:
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((t // 2, math.ceil(t / 2)) for t in total)
    return tuple((p, p) for p in spread(padding, len(kernel)))


LOWERINGS: dict[str, Lowering] = {
    "conv": conv,
    "convolution": convolution,
    "linear": linear,
    "addmm": addmm,
    "matmul": matmul,
    "batch_norm": batch_norm,
    "native_batch_norm": native_batch_norm,
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": mul,
    "div": div,
    "neg": neg,
}
