"""How far float32 can be from the exact potential of a population whose input spikes are equal.

A sum of n terms, in any order, has an error of at most gamma(n) sum |terms|, with
gamma(n) = n u / (1 - n u) and u = 2^-24 (Higham, Accuracy and Stability, Sec. 4.2). So with m the
largest |value| of a node and e its largest error

    connection:   m' = sum |w| m + |b|    e' = sum |w| e + gamma(n + 2) m'
    sum of k:     m' = sum m              e' = sum e + gamma(k) m'
    population:   error of u after T steps <= T (e + 3 u V),  V the largest potential

A population's spikes are 0 or 1 and, where they agree, without error. So the bound of a layer
depends on its own connections only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Input,
    Linear,
    Node,
    Population,
)

_UNIT = 2.0**-24


@dataclass(frozen=True)
class _Reach:
    """Largest |value|, |partial sum| on the way to it, and error, of a node."""

    value: float
    partial: float
    error: float


def rounding_bounds(graph: Graph, largest_input: float = math.inf) -> dict[str, float]:
    """The largest error of u in float32, by population, in the network's units.

    Args:
        graph: a float network.
        largest_input: largest |value| of a direct float input; infinite if it is not known.
    """
    found: dict[str, _Reach] = {}
    bounds: dict[str, float] = {}
    for node in graph.nodes:
        sources = [found[name] for name in node.inputs]
        if isinstance(node, Population):
            bounds[node.name] = _bound(node, sources[0], graph.steps)
        found[node.name] = _reach(node, sources, largest_input)
    return bounds


def _gamma(terms: int) -> float:
    return terms * _UNIT / (1 - terms * _UNIT) if terms * _UNIT < 0.5 else math.inf


def _reach(node: Node, sources: list[_Reach], largest_input: float) -> _Reach:
    if isinstance(node, Input):
        value = 1.0 if node.is_timed else largest_input
        if not node.is_timed and node.dtype != "float32":
            limits = np.iinfo(node.dtype)
            value = float(max(-int(limits.min), int(limits.max)))
        return _Reach(value, value, 0.0)
    if isinstance(node, Population):
        return _Reach(1.0, 1.0, 0.0)
    if isinstance(node, Conv | Linear):
        return _connection(node, sources[0])
    if isinstance(node, ChannelAffine):
        scale, shift = _largest(node.scale), _largest(node.shift)
        one = sources[0]
        partial = scale * one.partial + shift  # a runtime may scale the weights before it
        return _Reach(scale * one.value + shift, partial, scale * one.error + _gamma(4) * partial)
    if isinstance(node, Add):
        value = sum(one.value for one in sources)
        partial = sum(one.partial for one in sources)
        error = sum(one.error for one in sources) + _gamma(len(sources)) * partial
        return _Reach(value, partial, error)
    if isinstance(node, AvgPool):
        one = sources[0]
        return _Reach(
            one.value, one.partial, one.error + _gamma(math.prod(node.kernel) + 2) * one.partial
        )
    return sources[0]


def _connection(node: Conv | Linear, source: _Reach) -> _Reach:
    rows = np.abs(node.weight.reshape(len(node.weight), -1).astype(np.float64))
    sums = rows.sum(axis=1)
    terms = rows.shape[1]
    if not math.isfinite(source.value):
        return source
    value = float((sums * source.value + np.abs(node.bias.astype(np.float64))).max())
    partial = float((sums * source.partial + np.abs(node.bias.astype(np.float64))).max())
    error = float(sums.max()) * source.error + _gamma(terms + 2) * partial
    return _Reach(value, partial, error)


def _bound(node: Population, current: _Reach, steps: int) -> float:
    """T (e + 3 u V), with V from |v_init|, and T currents and thresholds."""
    reset = _largest(node.v_reset) if isinstance(node, IF) and node.v_reset is not None else 0.0
    step = current.value + _largest(node.v_threshold)
    potential = max(_largest(node.v_init), reset) + steps * step
    return steps * (current.error + 3 * _UNIT * potential)


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))
