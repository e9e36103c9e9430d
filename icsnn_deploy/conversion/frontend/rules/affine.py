"""Batch normalization, and adding or scaling: y = scale * x + shift, and sums of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.kernels import replace_value
from icsnn_deploy.conversion.frontend.pushed import push
from icsnn_deploy.conversion.frontend.remedies import APPROXIMATE
from icsnn_deploy.conversion.frontend.rules.same_source import (
    affine_of_symbol,
    multiplied,
    summed,
)
from icsnn_deploy.conversion.frontend.sums import add_elements
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Shape, broadcast_shapes


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
) -> Result:
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
) -> Result:
    """aten's batch normalization in eval mode, which also returns two empty statistics."""
    return batch_norm(context, x, running_mean, running_var, weight, bias, eps=eps)


def instance_norm(
    context: CallContext,
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Result:
    """Instance normalization with running statistics, which is a batch normalization."""
    if use_input_stats or running_mean is None:
        raise context.unsupported(
            "statistics of each sample",
            "running statistics (track_running_stats=True)",
            "Replace it by batch normalization and retrain.",
        )
    return batch_norm(context, x, running_mean, running_var, weight, bias, eps=eps)


def add(context: CallContext, x: Any, other: Any, *, alpha: float = 1) -> Result:
    """y = x + alpha * other"""
    if isinstance(x, Traced) and isinstance(other, Traced):
        fixed = _constant_alone(context, other)
        if fixed is not None:
            return _affine(context, x, 1, alpha * fixed[None])
        fixed = _constant_alone(context, x)
        if fixed is not None:
            return _affine(context, other, alpha, fixed[None])
        nodes = isinstance(x.value, str) and isinstance(other.value, str)
        found = summed(context, x, other, alpha) if nodes else None
        return found or add_elements(context, x, other, alpha)
    if isinstance(x, Traced):
        return _affine(context, x, 1, alpha * _values(context, other, x))
    return _affine(context, other, alpha, _values(context, x, other))


def _constant_alone(context: CallContext, x: Traced) -> Array | None:
    """The values of a tensor that holds nothing but constants, such as padding; None otherwise."""
    if isinstance(x.value, str):
        return None
    elements = context.elements(x)
    if elements.ids.any():
        return None
    return np.zeros(elements.shape) if elements.constants is None else elements.constants


def sub(context: CallContext, x: Any, other: Any, *, alpha: float = 1) -> Result:
    """y = x - alpha * other"""
    return add(context, x, other, alpha=-alpha)


def rsub(context: CallContext, x: Any, other: Any, alpha: float = 1) -> Result:
    """y = other - alpha * x"""
    return add(context, other, x, alpha=-alpha)


def mul(context: CallContext, x: Any, other: Any) -> Result:
    """y = x * c, c constant."""
    if isinstance(x, Traced) and isinstance(other, Traced):
        masked = multiplied(context, x, other) if x.shape == other.shape else None
        if masked is not None:
            return masked
        raise context.unsupported(
            "a product of two tensors that depend on the input",
            "a product with a constant",
            f"{APPROXIMATE}remove the gate or attention and retrain.",
        )
    data, factor = (x, other) if isinstance(x, Traced) else (other, x)
    return _affine(context, data, _values(context, factor, data), 0)


def div(context: CallContext, x: Any, other: Any, *, rounding_mode: str | None = None) -> Result:
    """y = x / c, c constant."""
    if not isinstance(x, Traced) or isinstance(other, Traced) or rounding_mode is not None:
        raise context.unsupported(
            "a rounded division, or one by data", "a division by a constant", "Remove it."
        )
    return _affine(context, x, 1 / _values(context, other, x), 0)


def addcmul(
    context: CallContext, x: Any, tensor1: Any, tensor2: Any, *, value: float = 1
) -> Result:
    """y = x + value * tensor1 * tensor2, where tensor1 or tensor2 is constant."""
    factors = [one for one in (tensor1, tensor2) if isinstance(one, Traced)]
    if not factors:
        return add(context, x, tensor1.double() * tensor2.double(), alpha=value)
    if isinstance(x, Traced) or len(factors) == 2:
        shape = np.broadcast_shapes(tuple(tensor1.shape), tuple(tensor2.shape))
        product = mul(context.on(shape), tensor1, tensor2)
        return add(context, x, replace_value(factors[0], product, shape), alpha=value)
    (data,) = factors
    factor = tensor2 if data is tensor1 else tensor1
    scale = value * _values(context, factor, data)
    return _affine(context, data, scale, _values(context, x, data))


def addcdiv(
    context: CallContext, x: Any, tensor1: Any, tensor2: Any, *, value: float = 1
) -> Result:
    """y = x + value * tensor1 / tensor2, tensor2 constant."""
    if isinstance(tensor2, Traced):
        raise context.unsupported("a division by data", "a division by a constant", "Remove it.")
    return addcmul(context, x, tensor1, 1 / tensor2.double(), value=value)


def neg(context: CallContext, x: Any) -> Result:
    """y = -x"""
    return _affine(context, x, -1, 0)


def overwritten(context: CallContext, x: Any, other: Any) -> Result:
    """The second tensor, which is written into the first."""
    return context.traced(other).value


def _affine(context: CallContext, x: Any, scale: Any, shift: Any) -> Result:
    """scale * x + shift for arrays with a batch axis of 1, or numbers."""
    data = context.traced(x)
    if isinstance(data.value, str) and context.builder.is_symbol(data.value):
        return affine_of_symbol(context, data, scale, shift)
    shape = tuple(context.shape[1:])
    if data.shape[1:] != shape:
        data = broadcast(context, data, shape)
    return _scale(
        context, data, _per_sample(context, scale, shape), _per_sample(context, shift, shape)
    )


def broadcast(context: CallContext, x: Traced, shape: Shape) -> Traced:
    """A traced tensor repeated to the shape, as PyTorch broadcasts it."""
    if x.shape[1:] == shape:
        return x
    if len(x.shape) != len(shape) + 1:
        raise context.unsupported(
            f"shapes {list(x.shape)} and {[x.shape[0], *shape]}",
            "tensors with the same number of axes, the batch first",
        )
    return replace_value(x, context.elements(x).broadcast(shape), (x.shape[0], *shape))


def _scale(context: CallContext, x: Any, scale: Array, shift: Array) -> Result:
    data = context.traced(x)
    if np.all(scale == 1) and np.all(shift == 0):
        return data.value

    def make(source: str, factor: Array, added: Array) -> str:
        name = context.name()
        return context.add(ChannelAffine(name=name, inputs=(source,), scale=factor, shift=added))

    if isinstance(data.value, str):
        return make(data.value, scale, shift)
    return push(context, data, make, scale, shift, constant=lambda c: c * scale + shift)


def _values(context: CallContext, value: Any, x: Any) -> Array:
    """A constant operand as float64."""
    context.traced(x)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return np.asarray(value, np.float64)
    return _double(context, value)


def _per_sample(context: CallContext, value: Any, shape: Shape) -> Array:
    """A constant that PyTorch broadcasts against [B, *shape], in a shape for ChannelAffine."""
    array = np.asarray(value, np.float64)
    rank = len(shape) + 1
    if array.ndim <= rank:
        array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if array.ndim == rank and len(array) > 1 and (array == array[:1]).all():
        array = array[:1]  # made in forward for the whole batch
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


def bias_of(context: CallContext, bias: Any, width: int) -> Array:
    """A bias as float32, [width]; zeros for None."""
    return np.zeros(width, np.float32) if bias is None else constant(context, bias)


def spread(value: Any, axes: int) -> tuple[int, ...]:
    """One integer per spatial axis, from one for all axes or one for each."""
    values = tuple(int(one) for one in value) if isinstance(value, (tuple, list)) else (int(value),)
    return values * axes if len(values) == 1 else values


LOWERINGS: dict[str, Lowering] = {
    "batch_norm": batch_norm,
    "native_batch_norm": native_batch_norm,
    "instance_norm": instance_norm,
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": mul,
    "div": div,
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "neg": neg,
    "overwritten": overwritten,
}
