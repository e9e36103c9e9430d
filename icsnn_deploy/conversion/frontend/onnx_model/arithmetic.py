"""Operators that compute each value from the values at the same place."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.sizes import integers, rank_of, shape_of
from icsnn_deploy.conversion.frontend.onnx_model.types import TORCH_TYPES
from icsnn_deploy.errors import ConversionError


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator without attributes."""
    return lambda node, *operands: function(*operands)


def _folded(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator of any number of operands."""
    return lambda node, *operands: functools.reduce(function, operands)


def _mean(node: OperatorNode, *operands: Any) -> Any:
    return functools.reduce(operator.add, operands) / len(operands)


def _divide(node: OperatorNode, a: Any, b: Any) -> Any:
    """Integers are divided towards zero."""
    if a.is_floating_point() or b.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _modulo(node: OperatorNode, a: Any, b: Any) -> Any:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


def _clip(node: OperatorNode, x: Any, low: Any = None, high: Any = None) -> Any:
    """The bounds are attributes in operator sets below 11, inputs from there on."""
    least = node.get("min") if low is None else _bound(node, "lower", low)
    most = node.get("max") if high is None else _bound(node, "upper", high)
    return x if least is None and most is None else torch.clamp(x, least, most)


def _bound(node: OperatorNode, which: str, bound: Any) -> Any:
    if bound.numel() != 1:
        raise ConversionError(
            f"{node.path}: Clip with a {which} bound of shape {shape_of(bound)}: one number is "
            "needed. Use Max and Min, which take a bound for each channel"
        )
    return bound.item()


def _prelu(node: OperatorNode, x: Any, slope: Any) -> Any:
    """The slope is broadcast to x: one for all, or one per channel, wherever the channels are."""
    if slope.numel() == 1 or shape_of(slope) == [shape_of(x)[1], *(1,) * (rank_of(x) - 2)]:
        return F.prelu(x, slope.reshape(-1))
    return torch.relu(x) - slope * torch.relu(-x)


def _hard_sigmoid(node: OperatorNode, x: Any) -> Any:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


def _gelu(node: OperatorNode, x: Any) -> Any:
    return F.gelu(x, approximate=node.get("approximate", "none"))


def _swish(node: OperatorNode, x: Any) -> Any:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


def _thresholded(node: OperatorNode, x: Any) -> Any:
    return F.threshold(x, node.get("alpha", 1.0), 0.0)


def _shrink(node: OperatorNode, x: Any) -> Any:
    limit, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    if bias == limit:
        return F.softshrink(x, limit)
    shifted = torch.where(x < -limit, x + bias, torch.zeros_like(x))
    return torch.where(x > limit, x - bias, shifted)


def _selu(node: OperatorNode, x: Any) -> Any:
    alpha, gamma = node.get("alpha", 1.6732632), node.get("gamma", 1.0507010)
    return gamma * F.elu(x, alpha)


def _softmax(function: Callable[..., Any]) -> Callable[..., Any]:
    """Below operator set 13 over all axes from `axis` on, from there on over that axis alone."""

    def over_axis(node: OperatorNode, x: Any) -> Any:
        last, since = rank_of(x) - 1, node.opset >= 13
        axis = node.get("axis", -1 if since else 1) % rank_of(x)
        if since or axis == last:
            return function(x, dim=axis)
        return function(x.flatten(axis), dim=axis).reshape(shape_of(x))

    return over_axis


def _cast(node: OperatorNode, x: Any) -> Any:
    """Between floating types nothing is done: the model is computed in one precision."""
    kind = TORCH_TYPES.get(node.get("to"))
    if kind is None:
        raise ConversionError(
            f"{node.path}: Cast to the type {node.get('to')}: real numbers of 16 to 64 bits, "
            "integers and booleans are allowed. Export the model without this conversion"
        )
    return _as_type(x, kind)


def _as_type(x: Any, kind: torch.dtype) -> Any:
    if kind.is_floating_point:
        return x if x.is_floating_point() else x.float()
    return x.to(kind)


def _power(node: OperatorNode, x: Any, exponent: Any) -> Any:
    """A power of 1 or 2 is often all that is meant."""
    return torch.pow(x, exponent.item() if exponent.numel() == 1 else exponent)


def _along_axis(node: OperatorNode, x: Any, values: Any) -> Any:
    """One value for all of x, or values along an axis of it, ready to broadcast."""
    if values is None or values.numel() == 1:
        return values
    shape = [1] * rank_of(x)
    shape[node.get("axis", 1) % rank_of(x)] = -1
    return values.reshape(shape)


def _dequantize(node: OperatorNode, x: Any, scale: Any, zero: Any = None) -> Any:
    """Of stored integers alone: (x - zero) scale, along one axis or for all."""
    scale, zero = _along_axis(node, x, scale), _along_axis(node, x, zero)
    shifted = x.to(scale.dtype)
    return (shifted if zero is None else shifted - zero.to(scale.dtype)) * scale


def _quantize(node: OperatorNode, x: Any, scale: Any, zero: Any = None) -> Any:
    """Of constants alone: round(x / scale) + zero, within the range of the type."""
    kind = torch.uint8 if zero is None else zero.dtype
    scale, zero = _along_axis(node, x, scale), _along_axis(node, x, zero)
    levels = torch.round(x / scale) + (0 if zero is None else zero.to(x.dtype))
    limits = torch.iinfo(kind)
    return levels.clamp(limits.min, limits.max).to(kind)


def _cumulative_sum(node: OperatorNode, x: Any, axis: Any) -> Any:
    """Of the values up to each place, or from each place on; exclusive without the place's own."""
    along, backwards = integers(axis)[0], bool(node.get("reverse", 0))
    ordered = torch.flip(x, [along]) if backwards else x
    sums = torch.cumsum(ordered, along)
    if node.get("exclusive", 0):
        sums = sums - ordered
    return torch.flip(sums, [along]) if backwards else sums


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(operator.add),
    "And": _plain(torch.logical_and),
    "Cast": _cast,
    "CastLike": lambda node, x, like: _as_type(x, like.dtype),
    "Ceil": _plain(torch.ceil),
    "Celu": lambda node, x: F.celu(x, node.get("alpha", 1.0)),
    "Clip": _clip,
    "Cos": _plain(torch.cos),
    "CumSum": _cumulative_sum,
    "DequantizeLinear": _dequantize,
    "Div": _divide,
    "Dropout": lambda node, x, *ratio: x,
    "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Floor": _plain(torch.floor),
    "Gelu": _gelu,
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le),
    "Log": _plain(torch.log),
    "LogSoftmax": _softmax(F.log_softmax),
    "Max": _folded(torch.maximum),
    "Mean": _mean,
    "Min": _folded(torch.minimum),
    "Mish": _plain(F.mish),
    "Mod": _modulo,
    "Mul": _plain(operator.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "PRelu": _prelu,
    "Pow": _power,
    "QuantizeLinear": _quantize,
    "Reciprocal": _plain(torch.reciprocal),
    "Relu": _plain(torch.relu),
    "Round": _plain(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _plain(torch.sigmoid),
    "Sign": _plain(torch.sign),
    "Sin": _plain(torch.sin),
    "Softmax": _softmax(F.softmax),
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(operator.sub),
    "Sum": _folded(operator.add),
    "Swish": _swish,
    "Tanh": _plain(torch.tanh),
    "ThresholdedRelu": _thresholded,
    "Where": _plain(torch.where),
}
