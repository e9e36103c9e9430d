"""Prepare a float IF network for the integer lattice."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import numpy as np

from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.arrangement import unpack_input
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Input,
    InputDtype,
    Linear,
    Node,
    Population,
)
from icsnn_deploy.lattice.keep_integers import keep_integers
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.compose import compose
from icsnn_deploy.passes.edit import GraphEditor, fresh_name, insert_after, insert_on_edge
from icsnn_deploy.passes.fold_scales import fold_across_padding, fold_scales
from icsnn_deploy.passes.pooling import is_window_sum, window_sum
from icsnn_deploy.passes.scale_thresholds import scale_thresholds

_LARGEST_ZERO_POINT = 2**15 - 1
"""Limit for channels whose factor is nearly zero: the zero point would exceed integer types."""

_FEWEST_INPUT_STEPS = 4
"""Integer steps that the largest value of each of the model's inputs needs."""


def prepare(graph: Graph, samples: Array, *, per_layer: bool, input_bits: int) -> Graph:
    """Rewrite a network with integer input, sums instead of means, and affine nodes before sums.

    The nodes between two populations are composed first (see passes.compose).

        avg_pool -> conv               before
        conv (ones) -> conv / k^2      after

        if -> add                      before
        if -> scale -> add             after

    Connections that only copy spikes keep integers as weights (see lattice.keep_integers).

    Args:
        graph: a float IF network.
        samples: calibration samples, for the range of a float input.
        per_layer: give every population the threshold 1, by scaling its current.
        input_bits: 8 or 16, for a float input.

    Raises:
        LatticeError: the network is integer already, or one of several inputs is much smaller than
            the others.
    """
    if graph.is_integer:
        raise LatticeError(
            "this network is on the lattice already; give the float network that it was made from"
        )
    graph = _add_divisions_after_pools(_integer_input(compose(graph), samples, input_bits))
    if per_layer:
        ones = {p.name: np.ones((1,) * p.v_threshold.ndim, np.float32) for p in graph.nodes_of(IF)}
        graph = scale_thresholds(graph, ones, absorb=False)
    graph = fold_scales(graph)
    graph = graph.replace(
        *(window_sum(pool, graph.shape(pool.name)[0]) for pool in graph.nodes_of(AvgPool))
    )
    graph = graph.replace(*(_integer_sum(node) for node in graph.nodes if is_window_sum(node)))
    return _affine_before_sums(*keep_integers(graph))


def _add_divisions_after_pools(graph: Graph) -> Graph:
    """Insert 1 / k^2 after each pooling, which becomes a sum; it is folded into later nodes."""
    editor = GraphEditor(graph)
    for pool in graph.nodes_of(AvgPool):
        one = np.ones((1,) * len(graph.shape(pool.name)), np.float32)
        name = editor.fresh_name(f"{pool.name}.mean")
        editor.insert_after(
            pool.name, pure_scale(name, pool.name, one / float(np.prod(pool.kernel)))
        )
    return editor.build()


def is_exact(node: Node) -> TypeGuard[Conv | Linear]:
    """Whether a connection of a prepared network is not rounded: its weights are integers already.

    A sum over windows, or a connection that only copies (see lattice.keep_integers).
    """
    return isinstance(node, (Conv, Linear)) and node.weight.dtype.kind == "i"


def is_exact_sum(graph: Graph, node: Node) -> bool:
    """Whether a sum of a prepared network adds exact connections, which have one unit."""
    return isinstance(node, Add) and all(is_exact(graph.node(name)) for name in node.inputs)


def _integer_sum(conv: Conv) -> Conv:
    return replace(conv, weight=conv.weight.astype(np.int8), bias=conv.bias.astype(np.int8))


def is_zero_point(node: Node) -> bool:
    """Whether a node only subtracts an integer zero point."""
    return isinstance(node, ChannelAffine) and node.scale.dtype.kind == "i"


def _integer_input(graph: Graph, samples: Array, bits: int) -> Graph:
    """Make the input integer: pixels minus a zero point per channel, or floats in an input unit."""
    node = graph.input
    if node.is_timed:
        return graph.replace(replace(node, dtype="uint8"))
    if node.dtype != "float32":
        for scale in graph.nodes_of(ChannelAffine):
            if scale.inputs == (node.name,) and scale.shift.any():
                graph = _with_zero_point(graph, scale)
        return graph
    low, high = float(samples.min()), float(samples.max())
    if low >= 0 and bits == 8:
        dtype: InputDtype = "uint8"
        unit = (high or 1.0) / 255
    else:
        dtype = "int8" if bits == 8 else "int16"
        unit = (max(-low, high) or 1.0) / (2 ** (bits - 1) - 1)
    _check_input_steps(node, samples, unit, bits)
    factor = np.full((1,) * len(node.shape), unit, np.float32)
    scale = pure_scale(fresh_name(graph, "input.unit"), node.name, factor)
    graph = graph.replace(replace(node, dtype=dtype, unit=float(np.float32(unit))))
    return fold_scales(insert_after(graph, node.name, scale))


def _check_input_steps(node: Input, samples: Array, unit: float, bits: int) -> None:
    """Raise LatticeError where the unit that all inputs of the model share hides one of them."""
    if len(node.parts) < 2:
        return
    for name, values in unpack_input(node, samples).items():
        largest = float(np.abs(values).max())
        if 0 < largest < _FEWEST_INPUT_STEPS * unit:
            wider = ", or give --input-bits 16" if bits < 16 else ""
            raise LatticeError(
                f"input {name!r}: its values up to {largest:.3g} are {largest / unit:.2g} integer "
                f"steps of {unit:.3g}, the unit that all inputs share; {_FEWEST_INPUT_STEPS} or "
                f"more are needed. Scale the model's inputs to similar ranges{wider}"
            )


def _with_zero_point(graph: Graph, scale: ChannelAffine) -> Graph:
    """Rewrite factor x + shift as factor (x - zero) + rest, with an integer zero point.

    So padding stays zero. The rest is below half a pixel step and is folded; after a padded window
    it is folded as if there were no padding, and the calibration that follows corrects for that.
    Directly before a population or a sum, factor and rest stay a separate affine node.
    """
    factor, shift = scale.scale.astype(np.float64), scale.shift.astype(np.float64)
    shape = np.broadcast_shapes(factor.shape, shift.shape)
    nonzero = np.broadcast_to(factor != 0, shape)  # with a factor of 0 there is only the rest
    zero = np.round(np.divide(-shift, factor, out=np.zeros(shape), where=nonzero))
    zero = np.clip(zero, -_LARGEST_ZERO_POINT, _LARGEST_ZERO_POINT)
    centered = ChannelAffine(
        name=fresh_name(graph, "input.zero_point"),
        inputs=scale.inputs,
        scale=np.ones((1,) * zero.ndim, np.int8),
        shift=(-zero).astype(np.int16),
    )
    rest = replace(scale, inputs=(centered.name,), shift=factor * zero + shift)
    graph = insert_on_edge(graph, scale.inputs[0], scale.name, centered)
    return fold_across_padding(graph.replace(rest), rest)


def _affine_before_sums(graph: Graph, exact: frozenset[str]) -> Graph:
    """Insert a ChannelAffine of 1 before each sum and population whose source is not affine.

    Args:
        graph: the network.
        exact: sums of integers that have one unit, and what such a current is copied by.
    """
    editor = GraphEditor(graph)
    for sink in graph.nodes_of(Add, Population):
        if sink.name in exact:
            continue
        for source in dict.fromkeys(sink.inputs):
            if isinstance(sink, Population) and source in exact:
                continue
            node = editor.node(source)
            trained = isinstance(node, (Conv, Linear, ChannelAffine)) and not is_exact(node)
            private = not editor.is_shared(source)
            if (trained and private and not is_zero_point(node)) or isinstance(node, Add):
                continue
            one = np.ones((1,) * len(graph.shape(source)), np.float32)
            name = editor.fresh_name(f"{sink.name}.{source.rpartition('.')[2]}")
            editor.insert_on_edge(source, sink.name, pure_scale(name, source, one))
    return editor.build()
