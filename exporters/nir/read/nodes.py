"""Read each NIR node as one or several nodes of a graph, and check every value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError, Rejection
from icsnn_deploy.exporters.nir.metadata import V_INIT, NirHeader, Reset
from icsnn_deploy.exporters.nir.read.restore import restore_conv, restore_linear, restore_stored
from icsnn_deploy.exporters.nir.read.values import integers, numbers, per_neuron, same_shape
from icsnn_deploy.graph.nodes import (
    IF,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Pairs,
    Shape,
)
from icsnn_deploy.passes.pooling import window_sum

KNOWN = (
    "Affine",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "Flatten",
    "IF",
    "Input",
    "LIF",
    "Linear",
    "Output",
    "Scale",
    "SumPool2d",
)


def rejection(name: str, node: Any, reset: Reset) -> Rejection | None:
    """Why a NIR node can't be part of an IF network with this reset; None if it can."""
    kind = type(node).__name__
    if kind == "LIF" and not _is_without_leak(node):
        return Rejection(
            node=name,
            got="LIF with a leak",
            allowed="LIF with tau and r infinite and v_leak 0, which is IF",
            remedy="Train it without a leak (beta = 1).",
        )
    if kind not in KNOWN:
        return Rejection(
            node=name,
            got=kind,
            allowed=", ".join(KNOWN),
            remedy="Only networks of IF neurons and linear connections can be read.",
        )
    if kind in ("IF", "LIF") and reset == "subtract":
        v_reset = np.asarray(node.v_reset)
        if v_reset.dtype.kind not in "fiu" or v_reset.any():
            return Rejection(
                node=name,
                got="v_reset other than 0",
                allowed="v_reset = 0, or none",
                remedy="Reset by subtraction sets no potential: read it with reset='v_reset'.",
            )
    return None


def _is_without_leak(node: Any) -> bool:
    """Whether a LIF has no leak: snnTorch writes beta = 1 as tau = r = infinity."""
    values = [np.asarray(value) for value in (node.tau, node.r, node.v_leak)]
    if any(value.dtype.kind not in "fiu" for value in values):
        return False
    tau, r, v_leak = values
    return bool((tau == np.inf).all() and (r == np.inf).all() and not v_leak.any())


def read_input(node: Any, name: str, header: NirHeader) -> Input:
    """The input, with the shape in the file."""
    return Input(
        name=name,
        shape=integers(node.input_type["input"], name, "shape", least=1),
        dtype=header.input_dtype,
        encoding=header.encoding,
        unit=header.input_unit,
    )


@dataclass(frozen=True, kw_only=True)
class NodePlace:
    """The place of a NIR node in the graph that is read."""

    name: str  # of the node in the graph
    source: str  # the graph node whose result it takes
    shape: Shape  # of that result
    after: tuple[Any, ...]  # the NIR nodes that take its own result
    spare: str  # a free name, for a graph node before it


def read_node(
    node: Any, place: NodePlace, about: Mapping[str, Any], reset: Reset
) -> tuple[Node, ...]:
    """Read a NIR node as graph nodes that compute the same; the last has its name.

    Args:
        node: the NIR node.
        place: its place in the graph.
        about: the note that the export wrote on it.
        reset: of the network's populations.

    Raises:
        GraphError: a value of a wrong type or shape.
    """
    *before, last = _read_node(node, place, about, reset)
    return (*before, restore_stored(last, about))


def _read_node(
    node: Any, place: NodePlace, about: Mapping[str, Any], reset: Reset
) -> tuple[Node, ...]:
    name, source, shape = place.name, place.source, place.shape
    match type(node).__name__:
        case "Conv1d" | "Conv2d":
            return (restore_conv(_conv(node, name, source, shape), about, shape),)
        case "Affine" | "Linear":
            weight = numbers(node.weight, name, "weight")
            outputs = weight.shape[0] if weight.ndim else 0
            bias = getattr(node, "bias", np.zeros(outputs, np.float32))
            bias = numbers(bias, name, "bias")
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
            return (_flatten(node, place),)
        case "IF" | "LIF":
            return _population(node, place, reset)
        case "Output":
            same_shape(node.output_type["output"], shape, name, "shape")
            return (Output(name=name, inputs=(source,)),)
    raise GraphError(f"{name}: no rule for {type(node).__name__}")


def _conv(node: Any, name: str, source: str, shape: Shape) -> Conv:
    axes = int(type(node).__name__[4])
    weight = numbers(node.weight, name, "weight")
    if weight.ndim != axes + 2:
        raise GraphError(f"{name}.weight: shape {weight.shape}, rank {axes + 2} needed")
    if node.input_shape is not None:
        same_shape(node.input_shape, shape[1:], name, "input_shape")
    stride = integers(node.stride, name, "stride", axes, 1)
    dilation = integers(node.dilation, name, "dilation", axes, 1)
    (groups,) = integers(node.groups, name, "groups", 1, 1)
    padding: Pairs
    if isinstance(node.padding, str) and node.padding == "valid":
        padding = ((0, 0),) * axes
    elif isinstance(node.padding, str) and node.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in total)  # as PyTorch does
    else:
        sizes = integers(node.padding, name, "padding", axes, 0)
        padding = tuple((size, size) for size in sizes)
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=numbers(node.bias, name, "bias"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _scale(value: Any, name: str, source: str, shape: Shape, field: str) -> ChannelAffine:
    scale = per_neuron(value, name, field, shape)
    return ChannelAffine(name=name, inputs=(source,), scale=scale, shift=np.zeros_like(scale))


def _pool_sizes(node: Any, name: str) -> tuple[Shape, Shape, Pairs]:
    padding = integers(node.padding, name, "padding", 2, 0)
    return (
        integers(node.kernel_size, name, "kernel_size", 2, 1),
        integers(node.stride, name, "stride", 2, 1),
        tuple((size, size) for size in padding),
    )


def _sum_pool(node: Any, name: str, source: str, shape: Shape) -> Conv:
    """A sum over windows, as a diagonal convolution of ones."""
    kernel, stride, padding = _pool_sizes(node, name)
    if shape[0] * kernel[0] * kernel[1] > 2**24:
        raise GraphError(f"{name}.kernel_size: {kernel} is too large")
    pool = AvgPool(name=name, inputs=(source,), kernel=kernel, stride=stride, padding=padding)
    return window_sum(pool, shape[0], np.float32)


def _flatten(node: Any, place: NodePlace) -> Flatten:
    """A flatten of all axes into one.

    NIR shapes have no batch axis, but some frameworks count one: start_dim 1 is then the first
    axis. This is assumed where the node's own input_type has one axis more, or where all nodes
    after it take every value.
    """
    name, shape = place.name, place.shape
    (start,) = integers(node.start_dim, name, "start_dim", 1)
    (end,) = integers(node.end_dim, name, "end_dim", 1)
    declared = node.input_type.get("input")
    stated = None if declared is None else integers(declared, name, "input_type")
    rank = len(shape)
    weights = [np.asarray(getattr(after, "weight", None)) for after in place.after]
    whole = bool(weights) and all(weight.shape[1:] == (math.prod(shape),) for weight in weights)
    batched = stated is not None and stated[1:] == shape
    if batched or (whole and start == 1):
        start, end = (axis - 1 if axis > 0 else axis for axis in (start, end))
    if batched:
        stated = None
    if (start + rank if start < 0 else start, end + rank if end < 0 else end) != (0, rank - 1):
        raise GraphError(
            f"{name}: flattens axes {start} to {end} of shape {shape}; all of them are needed "
            "(NIR shapes have no batch axis)"
        )
    if stated is not None:
        same_shape(stated, shape, name, "input_type")
    return Flatten(name=name, inputs=(place.source,))


def _population(node: Any, place: NodePlace, reset: Reset) -> tuple[Node, ...]:
    """A population; a resistance other than 1 becomes a ChannelAffine before it: v += r * I."""
    name, shape = place.name, place.shape
    without_leak = type(node).__name__ == "LIF"  # its r is infinite, r / tau is 1
    resistance = np.ones(1, np.float32) if without_leak else numbers(node.r, name, "r")
    before: tuple[Node, ...] = ()
    if (resistance != 1).any():
        before = (_scale(resistance, place.spare, place.source, shape, "r"),)
    else:
        per_neuron(resistance, name, "r", shape)
    v_init: Any = np.zeros(1, np.float32)
    if isinstance(node.metadata, Mapping) and V_INIT in node.metadata:
        v_init = node.metadata[V_INIT]
    v_threshold = per_neuron(node.v_threshold, name, "v_threshold", shape)
    hard = reset == "v_reset"
    population = IF(
        name=name,
        inputs=(before[0].name if before else place.source,),
        # NIR fires at v > v_threshold. With hard reset the threshold is only compared, so that the
        # next larger float32 does the same with >=; with soft reset it is subtracted as well.
        v_threshold=np.nextafter(v_threshold, np.float32(np.inf)) if hard else v_threshold,
        v_init=per_neuron(v_init, name, V_INIT, shape),
        v_reset=per_neuron(node.v_reset, name, "v_reset", shape) if hard else None,
    )
    return (*before, population)
