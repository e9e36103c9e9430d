"""Fully connected layers, on vectors and at every position of tokens and images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Result, Traced, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.gather import flatten
from icsnn_deploy.conversion.frontend.kernels import (
    added_up,
    columns_of,
    mix_channels,
    replace_value,
)
from icsnn_deploy.conversion.frontend.rules.affine import bias_of, constant
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Linear, Shape

_MOST_DENSE = 2**24
"""Weights of one matrix that computes a fully connected layer at all positions at once."""


def linear(context: CallContext, x: Any, weight: Any, bias: Any = None) -> Result:
    """y = x @ weight.T + bias, along the last axis."""
    matrix = constant(context, weight)
    added = bias_of(context, bias, len(matrix))
    shape = context.source_shape(x)
    if not shape:
        raise context.unsupported("an input without features", "[B, ..., features]")
    if len(shape) == 1:
        return _on_vector(context, x, matrix, added)
    return _on_positions(context, x, matrix, added)


def _on_vector(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """A fully connected layer that reads the nodes of a vector's elements."""
    if isinstance(x.value, str):
        return context.add(Linear(name=context.name(), inputs=(x.value,), weight=matrix, bias=bias))
    elements, builder = x.value, context.builder
    sources = list(builder.numbering.sources(elements.ids))
    images = all(len(builder.shapes[source]) > 1 for source, _ in sources)
    if builder.vectors_as_images and images:
        return _as_image(context, elements, matrix, bias)
    constants = elements.constants
    if constants is not None:
        bias = bias + matrix.astype(np.float64) @ np.where(elements.ids == 0, constants, 0)
    names: list[str] = []
    if not sources:
        raise context.unsupported("an input of constants alone", "data")
    vectors = [flatten(builder, source, x.origin) for source, _ in sources]
    for (source, mask), vector in zip(sources, vectors, strict=True):
        (length,) = builder.shapes[vector]
        places = elements.ids[mask] - builder.numbering.first(source)
        own = columns_of(context, matrix, mask, places, length)
        first = not names
        names.append(
            context.add(
                Linear(
                    name=context.name(),
                    inputs=(vector,),
                    weight=own,
                    bias=bias if first else np.zeros_like(bias),
                )
            )
        )
    return added_up(context, names)


def _as_image(context: CallContext, elements: Elements, matrix: Array, bias: Array) -> Result:
    """A fully connected layer as convolutions of the whole image, with a result [F, 1, 1]."""
    builder = context.builder
    if elements.constants is not None:
        bias = bias + matrix @ np.where(elements.ids == 0, elements.constants, 0)
    names: list[str] = []
    for source, mask in builder.numbering.sources(elements.ids):
        shape = builder.shapes[source]
        size = math.prod(shape)
        own = columns_of(
            context, matrix, mask, elements.ids[mask] - builder.numbering.first(source), size
        )
        axes = len(shape) - 1
        names.append(
            context.add(
                Conv(
                    name=context.name(),
                    inputs=(source,),
                    weight=own.reshape(len(own), *shape),
                    bias=bias if not names else np.zeros_like(bias),
                    stride=(1,) * axes,
                    padding=((0, 0),) * axes,
                    dilation=(1,) * axes,
                )
            )
        )
    return builder.numbering.elements(added_up(context, names)).reshape(len(matrix))


def _on_positions(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """A fully connected layer at every position: a 1 x 1 convolution of the features."""
    elements = context.elements(x).moveaxis(-1, 0)  # [F, *positions]
    positions = elements.shape[1:]
    for grid in _grids(context, elements):
        image = elements.reshape(len(elements.ids), *grid)
        found = mix_channels(context, x, image, matrix, bias)
        if found is not None:
            return found.reshape(len(matrix), *positions).moveaxis(0, -1)
    return _dense_on_positions(context, x, matrix, bias)


def _grids(context: CallContext, elements: Elements) -> list[Shape]:
    """Spatial shapes that the positions may have: those of the sources, then their own."""
    count = math.prod(elements.shape[1:])
    shapes = [context.builder.shapes[s] for s, _ in context.builder.numbering.sources(elements.ids)]
    grids = [shape[1:] for shape in shapes if math.prod(shape[1:]) == count and len(shape) > 1]
    if len(elements.shape) in (2, 3):
        grids.append(elements.shape[1:])
    return list(dict.fromkeys(grids))


def _dense_on_positions(context: CallContext, x: Traced, matrix: Array, bias: Array) -> Result:
    """One fully connected layer that computes all positions."""
    elements = context.elements(x)
    count = math.prod(elements.shape[:-1])
    weights = count * len(matrix) * elements.ids.size
    if weights > _MOST_DENSE:
        raise context.unsupported(
            f"features that lie along no axis of a node, {list(x.shape[1:])}, which would take a "
            f"matrix of {weights:,} weights",
            f"features along the channels of an image, or at most {_MOST_DENSE:,} weights",
            "Use smaller inputs.",
        )
    every = np.kron(np.eye(count), matrix)
    flat = replace_value(x, elements.reshape(-1), (x.shape[0], elements.ids.size))
    result = _on_vector(context, flat, every, np.tile(bias, count))
    found = context.builder.numbering.elements_of(result)
    return found.reshape(*elements.shape[:-1], len(matrix))


def addmm(
    context: CallContext, x: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1
) -> Result:
    """y = beta * x + alpha * (mat1 @ mat2): a linear layer of a decomposed exported program."""
    if beta != 1 or alpha != 1 or isinstance(x, Traced):
        raise context.unsupported("a scaled or traced bias", "a constant bias, alpha = beta = 1")
    return linear(context, mat1, _transposed(context, mat2), x)


def matmul(context: CallContext, x: Any, other: Any = None, mat2: Any = None) -> Result:
    """y = x @ W for a constant matrix W, or W @ x."""
    second = other if mat2 is None else mat2
    if not isinstance(x, Traced) and isinstance(second, Traced):
        if not hasattr(x, "dim") or x.dim() != 2 or len(second.shape) < 3:
            raise _two_tensors(context)
        elements = context.elements(second).moveaxis(-1, -2)
        swapped = replace_value(second, elements, (second.shape[0], *elements.shape))
        result = linear(context.on(context.shape), swapped, x)
        found = context.builder.numbering.elements_of(result)
        return found.moveaxis(-1, -2)
    return linear(context, x, _transposed(context, second))


def _transposed(context: CallContext, value: Any) -> Any:
    if isinstance(value, Traced) or not hasattr(value, "dim") or value.dim() != 2:
        raise _two_tensors(context)
    return value.t()


def _two_tensors(context: CallContext) -> Unsupported:
    return context.unsupported(
        "a matrix product of two tensors that depend on the input, or not of rank 2",
        "a product with one constant matrix",
    )


LOWERINGS: dict[str, Lowering] = {"linear": linear, "addmm": addmm, "matmul": matmul}
