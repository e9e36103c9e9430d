"""Each NIR node as one or several nodes of our graph, every value checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError, Rejection
from icsnn_deploy.exporters.nir_metadata import V_INIT, Header
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import (
    IF,
    AvgPool,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Pairs,
    Scale,
    Shape,
)
from icsnn_deploy.simulate.nir_restore import restore_conv, restore_linear

KNOWN = (
    "Affine",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "Flatten",
    "IF",
    "Input",
    "Linear",
    "Output",
    "Scale",
    "SumPool2d",
)


def rejection(name: str, node: Any) -> Rejection | None:
    """Why a NIR node can't be run as part of an IF network with soft reset, or None."""
    kind = type(node).__name__
    if kind not in KNOWN:
        return Rejection(
            node=name,
            got=kind,
            allowed=", ".join(KNOWN),
            remedy="Only networks of IF neurons and linear connections can be read.",
        )
    if kind == "IF":
        reset = np.asarray(node.v_reset)
        if reset.dtype.kind not in "fiu" or reset.any():
            return Rejection(
                node=name,
                got="v_reset other than 0",
                allowed="v_reset = 0",
                remedy="The reset here is by subtraction: no potential is ever set to v_reset.",
            )
    return None


def read_input(node: Any, name: str, header: Header) -> Input:
    """The input, of the shape that the node says."""
    return Input(
        name=name,
        shape=_integers(node.input_type["input"], name, "shape", least=1),
        dtype=header.input_dtype,
        encoding=header.encoding,
    )


def read_node(
    node: Any, name: str, source: str, shape: Shape, about: Mapping[str, Any], spare: str
) -> tuple[Node, ...]:
    """The nodes that do what a NIR node does, the last of them under its name.

    Args:
        node: the NIR node.
        name: for the last node.
        source: name of the node whose result enters.
        shape: of that result.
        about: what the export noted about it.
        spare: a free name, for a node before the last.

    Raises:
        GraphError: a value of a wrong type or shape.
    """
    match type(node).__name__:
        case "Conv1d" | "Conv2d":
            return (restore_conv(_conv(node, name, source, shape), about, shape),)
        case "Affine" | "Linear":
            weight = _numbers(node.weight, name, "weight")
            outputs = weight.shape[0] if weight.ndim else 0
            bias = getattr(node, "bias", np.zeros(outputs, np.float32))
            bias = _numbers(bias, name, "bias")
            linear = Linear(name=name, inputs=(source,), weight=weight, bias=bias)
            return (restore_linear(linear, about),)
        case "Scale":
            return (_scale(node.scale, name, source, shape, "scale"),)
        case "SumPool2d":
            return (_sum_pool(node, name, source, shape),)
        case "AvgPool2d":
            kernel, stride, padding = _pool_sizes(node, name)
            pool = AvgPool(
                name=name, inputs=(source,), kernel=kernel, stride=stride, padding=padding
            )
            return (pool,)
        case "Flatten":
            return (_flatten(node, name, source, shape),)
        case "IF":
            return _population(node, name, source, shape, spare)
        case "Output":
            _same_shape(node.output_type["output"], shape, name, "shape")
            return (Output(name=name, inputs=(source,)),)
    raise GraphError(f"{name}: no rule for {type(node).__name__}")


def _conv(node: Any, name: str, source: str, shape: Shape) -> Conv:
    axes = int(type(node).__name__[4])
    weight = _numbers(node.weight, name, "weight")
    if weight.ndim != axes + 2:
        raise GraphError(f"{name}.weight: shape {weight.shape}, rank {axes + 2} needed")
    if node.input_shape is not None:
        _same_shape(node.input_shape, shape[1:], name, "input_shape")
    stride = _integers(node.stride, name, "stride", axes, 1)
    dilation = _integers(node.dilation, name, "dilation", axes, 1)
    (groups,) = _integers(node.groups, name, "groups", 1, 1)
    padding: Pairs
    if isinstance(node.padding, str) and node.padding == "valid":
        padding = ((0, 0),) * axes
    elif isinstance(node.padding, str) and node.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in total)  # as PyTorch does
    else:
        sizes = _integers(node.padding, name, "padding", axes, 0)
        padding = tuple((size, size) for size in sizes)
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=_numbers(node.bias, name, "bias"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _scale(value: Any, name: str, source: str, shape: Shape, field: str) -> Scale:
    scale = _per_neuron(value, name, field, shape)
    return Scale(name=name, inputs=(source,), scale=scale, shift=np.zeros_like(scale))


def _pool_sizes(node: Any, name: str) -> tuple[Shape, Shape, Pairs]:
    padding = _integers(node.padding, name, "padding", 2, 0)
    return (
        _integers(node.kernel_size, name, "kernel_size", 2, 1),
        _integers(node.stride, name, "stride", 2, 1),
        tuple((size, size) for size in padding),
    )


def _sum_pool(node: Any, name: str, source: str, shape: Shape) -> Conv:
    """A sum over windows is a diagonal convolution of ones."""
    kernel, stride, padding = _pool_sizes(node, name)
    if shape[0] * kernel[0] * kernel[1] > 2**24:
        raise GraphError(f"{name}.kernel_size: {kernel} is too large")
    return Conv(
        name=name,
        inputs=(source,),
        weight=np.ones((shape[0], 1, *kernel), np.float32),
        bias=np.zeros(shape[0], np.float32),
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        groups=shape[0],
    )


def _flatten(node: Any, name: str, source: str, shape: Shape) -> Flatten:
    (start,) = _integers(node.start_dim, name, "start_dim", 1)
    (end,) = _integers(node.end_dim, name, "end_dim", 1)
    rank = len(shape)
    if (start + rank if start < 0 else start, end + rank if end < 0 else end) != (0, rank - 1):
        raise GraphError(
            f"{name}: flattens axes {start} to {end} of shape {shape}; all of them are needed "
            "(NIR shapes have no batch axis)"
        )
    declared = node.input_type.get("input")
    if declared is not None:
        _same_shape(declared, shape, name, "input_type")
    return Flatten(name=name, inputs=(source,))


def _population(node: Any, name: str, source: str, shape: Shape, spare: str) -> tuple[Node, ...]:
    """IF; a resistance other than 1 becomes a scale before it, v += r * I."""
    resistance = _numbers(node.r, name, "r")
    before: tuple[Node, ...] = ()
    if (resistance != 1).any():
        before = (_scale(resistance, spare, source, shape, "r"),)
    else:
        _same_shape(resistance.shape, shape, name, "r")
    v_init: Any = np.zeros(shape, np.float32)
    if isinstance(node.metadata, Mapping) and V_INIT in node.metadata:
        v_init = node.metadata[V_INIT]
    population = IF(
        name=name,
        inputs=(before[0].name if before else source,),
        v_threshold=_per_neuron(node.v_threshold, name, "v_threshold", shape),
        v_init=_per_neuron(v_init, name, V_INIT, shape),
    )
    return (*before, population)


def _per_neuron(value: Any, name: str, field: str, shape: Shape) -> Array:
    """A parameter of the full shape, reduced to one value a channel where that is the same."""
    array = _numbers(value, name, field)
    _same_shape(array.shape, shape, name, field)
    if array.ndim < 2:
        return array
    channel = array[(slice(None), *(slice(1),) * (array.ndim - 1))]  # [C, 1, ...]
    return channel if (array == channel).all() else array


def _numbers(value: Any, name: str, field: str) -> Array:
    """A parameter as float32."""
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiu":
        raise GraphError(f"{name}.{field}: not an array of numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        array: Array = np.asarray(value).astype(np.float32, copy=False)
        if value.dtype.kind in "iu" and (array.astype(np.float64) != value).any():
            raise GraphError(f"{name}.{field}: integers that float32 can't hold")
    return array


def _integers(
    value: Any, name: str, field: str, count: int | None = None, least: int = -(2**31)
) -> Shape:
    """Sizes as a tuple of Python integers; one stands for all axes."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = np.array(value)
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic, tuple, list)) else None
    if array is None or array.dtype.kind not in "iu" or array.ndim > 1 or array.size > 16:
        raise GraphError(f"{name}.{field}: integers are needed")
    sizes = tuple(int(entry) for entry in array.reshape(-1))
    if count is not None and len(sizes) == 1:
        sizes *= count
    if (count is not None and len(sizes) != count) or not sizes:
        raise GraphError(f"{name}.{field}: {len(sizes)} integers, {count or 'some'} needed")
    if any(not least <= size < 2**31 for size in sizes):
        raise GraphError(f"{name}.{field}: {sizes}, each from {least} on and below 2**31 needed")
    return sizes


def _same_shape(declared: Any, shape: Shape, name: str, field: str) -> None:
    """Raise unless the file's own word about a shape agrees with what enters the node."""
    said = _integers(declared, name, field) if not isinstance(declared, tuple) else declared
    if tuple(int(size) for size in said) != shape:
        raise GraphError(f"{name}.{field}: shape {tuple(said)}, {shape} needed")
