"""Check the values of a NIR node: numbers, sizes, shapes, parameters of neurons."""

from __future__ import annotations

from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.nir.notes import reduced
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Shape


def per_neuron(value: Any, name: str, field: str, shape: Shape) -> Array:
    """A parameter of neurons, reduced to one value per channel where each channel is constant.

    NIR stores full shapes. A single value, [C, 1, 1], and [C] where no other axis has the length of
    the channel axis are accepted too, because their meaning is unique.
    """
    array = numbers(value, name, field)
    rest = (1,) * (len(shape) - 1)
    if array.size == 1:
        array = array.reshape((1, *rest))
    elif array.shape == shape[:1] and shape[0] not in shape[1:]:
        array = array.reshape((-1, *rest))
    if array.shape not in ((1, *rest), (shape[0], *rest), shape):
        raise GraphError(f"{name}.{field}: shape {array.shape}, {shape} needed")
    return reduced(array)


def numbers(value: Any, name: str, field: str) -> Array:
    """A parameter as float32."""
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "fiu":
        raise GraphError(f"{name}.{field}: not an array of numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        array: Array = np.asarray(value).astype(np.float32, copy=False)
        if value.dtype.kind in "iu" and (array.astype(np.float64) != value).any():
            raise GraphError(f"{name}.{field}: integers that float32 can't hold")
    return array


def integers(
    value: Any, name: str, field: str, count: int | None = None, least: int = -(2**31)
) -> Shape:
    """Sizes as a tuple of Python integers; a single one applies to all axes."""
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


def same_shape(declared: Any, shape: Shape, name: str, field: str) -> None:
    """Raise GraphError unless a shape in the file equals that of what enters the node."""
    stated = integers(declared, name, field) if not isinstance(declared, tuple) else declared
    if tuple(int(size) for size in stated) != shape:
        raise GraphError(f"{name}.{field}: shape {tuple(stated)}, {shape} needed")
