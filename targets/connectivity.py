"""Count the synapses of every neuron.

A synapse is one weight between one source neuron and one target neuron. A convolution has one for
each position and tap that is inside the map, so taps on the zero padding are not counted. The
linear nodes between two populations are combined: a spike that is pooled and then convolved reaches
as many neurons as the pooled value does.

Counts are float64, exact below 2^53, because NumPy multiplies integer matrices slowly. Sums of sums
may have more; a count stops at 2^62.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
    Shape,
)
from icsnn_deploy.passes.pooling import window_sum
from icsnn_deploy.targets.paths import SpikePath

MOST = 2.0**62
"""Where a count stops; a 64-bit integer holds it."""


def fan_in(graph: Graph, *, dense: bool = False) -> dict[str, Array]:
    """Synapses into each neuron of the populations and the output, [*shape].

    Args:
        graph: the network.
        dense: count zero weights as well.
    """
    sources = (node.name for node in graph.nodes if isinstance(node, (Population, Input)))
    return arriving(graph, {name: np.ones(graph.shape(name)) for name in sources}, dense=dense)


def arriving(graph: Graph, sent: Mapping[str, Array], *, dense: bool = False) -> dict[str, Array]:
    """Synaptic events at each neuron of the populations and the output, [*shape].

    Args:
        graph: the network.
        sent: how many spikes each population and the input send, [*shape] each.
        dense: count events of zero weights as well.
    """
    values: dict[str, Array] = {}
    result: dict[str, Array] = {}
    for node in graph.nodes:
        if isinstance(node, (Population, Output)):
            result[node.name] = values[node.inputs[0]]
        if isinstance(node, (Population, Input)):
            values[node.name] = sent[node.name].astype(np.float64)
        elif not isinstance(node, Output):
            sources = [values[name] for name in node.inputs]
            values[node.name] = np.minimum(_forward(node, sources, dense), MOST)
    return result


def fan_out(graph: Graph, *, dense: bool = False) -> dict[str, Array]:
    """Synapses that each value of each node has, [*shape], by node."""
    pending = {node.name: np.zeros(graph.shape(node.name)) for node in graph.nodes}
    for node in reversed(graph.nodes):
        if isinstance(node, Input):
            continue
        arriving = pending[node.name]
        if isinstance(node, (Population, Output)):
            arriving = np.ones(graph.shape(node.name))
        for name in node.inputs:
            found = pending[name] + _backward(node, arriving, graph.shape(name), dense)
            pending[name] = np.minimum(found, MOST)
    return pending


def reached(graph: Graph, path: SpikePath) -> Array:
    """Number of target neurons that each source neuron of a path sends to, [*source shape].

    Zero weights are not counted. With overlapping pooling a neuron counts once per window, up to
    the number of the target's neurons.
    """
    count = np.ones(graph.shape(path.target.name))
    most = count.size
    for node in reversed(path.nodes):
        count = _backward(node, count, graph.shape(node.inputs[0]), dense=False)
    result: Array = np.minimum(count.reshape(graph.shape(path.source.name)), most)
    return result


def _forward(node: Node, sources: list[Array], dense: bool) -> Array:
    x = sources[0]
    match node:
        case Conv() | AvgPool():
            return _conv_forward(_as_conv(node, x.shape), x, dense)
        case Linear():
            result: Array = _pattern(node.weight, dense) @ x
            return result
        case ChannelAffine():
            scaled: Array = x * _pattern(node.scale, dense)
            return scaled
        case Flatten():
            return x.reshape(-1)
        case Add():
            joined: Array = np.sum(sources, axis=0)
            return joined
        case Input() | Relu() | Population() | Output():
            raise _unknown(node)
        case _:
            assert_never(node)


def _backward(node: Node, y: Array, shape: Shape, dense: bool) -> Array:
    """The transpose of a linear node: from counts of its results to counts of its inputs."""
    match node:
        case Conv() | AvgPool():
            return _conv_backward(_as_conv(node, shape), y, shape, dense)
        case Linear():
            result: Array = _pattern(node.weight, dense).T @ y
            return result
        case ChannelAffine():
            return y * _pattern(node.scale, dense)
        case Flatten():
            return y.reshape(shape)
        case Add() | Population() | Output():
            return y
        case Input() | Relu():
            raise _unknown(node)
        case _:
            assert_never(node)


def _unknown(node: Node) -> TargetError:
    return TargetError(f"{node.name}: a {node.kind} has no synapses to count; convert to IF first")


def _pattern(weight: Array, dense: bool) -> Array:
    return np.ones(weight.shape) if dense else (weight != 0).astype(np.float64)


def _as_conv(node: Conv | AvgPool, shape: Shape) -> Conv:
    return node if isinstance(node, Conv) else window_sum(node, shape[0])


def _windows(node: Conv, positions: Shape) -> Iterator[tuple[Array, tuple[slice, ...]]]:
    """For each tap, its index in the kernel, and the part of the padded map that it reads."""
    for tap in np.ndindex(*node.kernel):
        starts = [d * k for d, k in zip(node.dilation, tap, strict=True)]
        view = tuple(
            slice(start, start + step * (count - 1) + 1, step)
            for start, step, count in zip(starts, node.stride, positions, strict=True)
        )
        yield np.array(tap), view


def _tap(node: Conv, tap: Array, dense: bool) -> Array:
    """Which outputs read which inputs by this tap, [groups, out / groups, in / groups]."""
    weight = node.weight[(slice(None), slice(None), *tap)]
    return _pattern(weight, dense).reshape(node.groups, -1, weight.shape[1])


def _conv_forward(node: Conv, x: Array, dense: bool) -> Array:
    shape = node.output_shape(x.shape)
    padded = np.pad(x, [(0, 0), *node.padding])
    total = np.zeros((node.groups, shape[0] // node.groups, int(np.prod(shape[1:]))))
    for tap, view in _windows(node, shape[1:]):
        seen = padded[(slice(None), *view)].reshape(node.groups, -1, total.shape[2])
        total += _tap(node, tap, dense) @ seen
    return total.reshape(shape)


def _conv_backward(node: Conv, y: Array, shape: Shape, dense: bool) -> Array:
    padded = np.zeros(
        [shape[0], *(n + sum(p) for n, p in zip(shape[1:], node.padding, strict=True))]
    )
    columns = y.reshape(node.groups, y.shape[0] // node.groups, -1)
    for tap, view in _windows(node, y.shape[1:]):
        share = _tap(node, tap, dense).transpose(0, 2, 1) @ columns
        padded[(slice(None), *view)] += share.reshape(shape[0], *y.shape[1:])
    inside = (slice(p[0], p[0] + n) for n, p in zip(shape[1:], node.padding, strict=True))
    return padded[(slice(None), *inside)]
