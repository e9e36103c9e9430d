"""Linear layers on batches, in NumPy: convolution by matrix products, pooling, scaling, sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Layer:
    """One node of a connection, without bias; the fields are those of the network's nodes."""

    name: str
    kind: str  # conv, linear, scale, avg_pool, flatten or add
    inputs: tuple[str, ...]
    geometry: Mapping[str, Any]  # kernel, stride, padding, dilation, groups
    array: Any = None  # weight or scale


class LinearMap:
    """The layers between two populations, evaluated in one floating dtype.

    Args:
        source: name of the input.
        layers: in topological order; the last is the result.
        dtype: float32 or float64; exact for integers if it holds every partial sum.
        integer: whether the result is int32.
    """

    def __init__(self, source: str, layers: tuple[Layer, ...], dtype: Any, integer: bool) -> None:
        self._source, self._layers, self._integer = source, layers, integer
        self._dtype = np.dtype(dtype)
        self._arrays = {
            layer.name: layer.array.astype(dtype) for layer in layers if layer.array is not None
        }

    def __call__(self, x: Any) -> Any:
        """W x, batch first."""
        values = {self._source: x.astype(self._dtype)}
        result = values[self._source]
        for layer in self._layers:
            sources = [values[name] for name in layer.inputs]
            result = self._evaluate(layer, sources)
            values[layer.name] = result
        return result.astype(np.int32) if self._integer else result

    def _evaluate(self, layer: Layer, sources: list[Any]) -> Any:
        x = sources[0]
        if layer.kind == "conv":
            return convolve(x, self._arrays[layer.name], layer.geometry)
        if layer.kind == "linear":
            return x @ self._arrays[layer.name].T
        if layer.kind == "scale":
            return x * self._arrays[layer.name]
        if layer.kind == "avg_pool":
            return average(x, layer.geometry)
        if layer.kind == "flatten":
            return x.reshape(len(x), -1)
        if layer.kind == "add":
            return sum(sources[1:], start=x)
        raise ValueError(f"{layer.name}: no rule for {layer.kind!r}")


def _taps(x: Any, geometry: Mapping[str, Any]) -> Iterator[Any]:
    """For each position in the kernel, the values that it reads, as a view [B, C, *positions]."""
    kernel, stride, padding = geometry["kernel"], geometry["stride"], geometry["padding"]
    dilation = geometry.get("dilation", [1] * len(kernel))
    if any(before or after for before, after in padding):
        x = np.pad(x, ((0, 0), (0, 0), *padding))
    axes = list(zip(kernel, dilation, stride, x.shape[2:], strict=True))
    for place in itertools.product(*map(range, kernel)):
        window = tuple(
            slice(p * d, length - (k - 1 - p) * d, s)
            for p, (k, d, s, length) in zip(place, axes, strict=True)
        )
        yield x[(slice(None), slice(None), *window)]


def convolve(x: Any, weight: Any, geometry: Mapping[str, Any]) -> Any:
    """Cross-correlation over one or two axes: weights [O, C K] times windows [C K, positions]."""
    groups, outputs = geometry["groups"], len(weight)
    windows = np.stack(list(_taps(x, geometry)), axis=2)  # [B, C, K, *positions]
    batch, positions = len(x), windows.shape[3:]
    count = int(np.prod(positions))
    if groups == 1:
        y = weight.reshape(outputs, -1) @ windows.reshape(batch, -1, count)  # [B, O, P]
    else:
        rows = weight.reshape(groups, outputs // groups, -1)
        y = rows @ windows.reshape(batch, groups, -1, count)  # [B, G, O / G, P]
    return y.reshape(batch, outputs, *positions)


def average(x: Any, geometry: Mapping[str, Any]) -> Any:
    """Mean over windows; padded zeros count."""
    return sum(_taps(x, geometry)) / int(np.prod(geometry["kernel"]))
