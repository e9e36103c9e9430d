"""The reference simulator: the network step by step in NumPy, written to be read.

The other backends are compared with it. Float networks run in float64, integer networks in int64:
v_init and v_reset, which are integers plus one half, are rounded down. That changes no comparison
with an integer threshold.
"""

from __future__ import annotations

import math

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array, if_step
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AnyPopulation,
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
)
from icsnn_deploy.progress import inner_tracked, report_inner, tracked


def open_reference(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network; see backends.Opener."""
    return ReferenceSimulator(bundle.network())


class ReferenceSimulator:
    """Runs a network one step after the other, every node at every step."""

    name = "reference"
    gives_logits_t = True
    cuts_batches = False

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        graph = self.graph
        dtype = np.int64 if graph.is_integer else np.float64
        half = 0.5 if graph.is_integer else 0.0  # what rounding v_init down takes from potentials
        x = check_inputs(graph, inputs).astype(dtype)
        timed = graph.input.is_timed
        batch = x.shape[1] if timed else x.shape[0]
        v: dict[str, Array] = {}
        for population in graph.nodes_of(Population):
            name = population.name
            shape = (batch, *graph.shape(name))
            v[name] = np.broadcast_to(population.v_init - half, shape).astype(dtype)
        spikes: dict[str, list[Array]] = {name: [] for name in v if record.needs_spikes}
        potentials: dict[str, list[Array]] = {name: [] for name in v if name in record.potentials}
        currents: list[Array] = []
        for step in tracked(range(graph.steps), "reference, steps", graph.steps, report_inner):
            values = {graph.input.name: x[step] if timed else x}
            for node in inner_tracked(graph.nodes[1:], "reference, layers of a step"):
                sources = [values[name] for name in node.inputs]
                if isinstance(node, Population):
                    s, u, v[node.name] = fire(node, v[node.name], sources[0], half)
                    values[node.name] = s.astype(dtype)
                    if node.name in spikes:
                        spikes[node.name].append(s)
                    if node.name in potentials:
                        potentials[node.name].append(u + half)
                else:
                    values[node.name] = evaluate(node, *sources)
            currents.append(values[graph.output.name])
        logits_t = running_mean(np.stack(currents), graph.readout_start)  # [T, B, *shape]
        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes={name: np.stack(s) for name, s in spikes.items()},
            logits_t=logits_t,
            potentials={name: np.stack(u) for name, u in potentials.items()},
        ).only(record)


def run_ann(graph: Graph, inputs: Array) -> Array:
    """Logits of an ANN graph, [B, *output shape], in double precision."""
    if graph.time_steps is not None:
        raise GraphError("an IF network can't be run as an ANN")
    values = {graph.input.name: check_inputs(graph, inputs).astype(np.float64)}
    unused = graph.last_uses()
    for node in tracked(graph.nodes[1:], "nodes of the ANN", len(graph.nodes) - 1, report_inner):
        values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
        for name in unused[node.name]:
            del values[name]
    return values[graph.output.name]


def running_mean(currents: Array, readout_start: int) -> Array:
    """Mean of currents [T, ...] over the steps in (readout_start, t] for each t; 0 before."""
    counted = currents.copy()
    counted[:readout_start] = 0
    count = np.maximum(np.arange(1, len(currents) + 1) - readout_start, 1)
    return np.cumsum(counted, axis=0) / count.reshape(-1, *(1,) * (currents.ndim - 1))


def evaluate(node: Node, *sources: Array) -> Array:
    """Result of a memoryless node, batch first, in the dtype of its sources."""
    x = sources[0]
    match node:
        case Conv():
            return _conv(node, x)
        case Linear():
            return _product(x, node.weight) + node.bias
        case ChannelAffine():
            return x * node.scale + node.shift
        case AvgPool():
            axes = tuple(range(-len(node.kernel), 0))
            ones = (1,) * len(node.kernel)
            pooled: Array = _patches(x, node.kernel, node.stride, node.padding, ones).mean(
                axis=axes
            )
            return pooled
        case Flatten():
            return x.reshape(len(x), math.prod(x.shape[1:]))
        case Add():
            return sum(sources[1:], start=x)
        case Relu():
            return _relu(node, x)
        case Output():
            return x
        case Input() | Population():
            raise GraphError(f"{node.name}: the reference has no rule for {node.kind!r}")
        case _:
            assert_never(node)


def fire(node: AnyPopulation, v: Array, current: Array, half: float) -> tuple[Array, Array, Array]:
    """Run one step of a population; returns (s, u, v) like neuron.if_step.

    Args:
        node: the population.
        v: potential after the last step, [B, *shape].
        current: input current of this step, [B, *shape].
        half: what was subtracted from v_init: 1/2 in an integer network, whose potentials are
            integers here; otherwise 0.
    """
    match node:
        case IF():
            reset = None if node.v_reset is None else (node.v_reset - half).astype(v.dtype)
            return if_step(v, current, node.v_threshold, reset)
        case _:
            assert_never(node)


def _relu(node: Relu, x: Array) -> Array:
    if node.upper is None:
        return np.maximum(x, 0)
    if node.levels is None:
        return np.clip(x, 0, node.upper)
    level = np.floor(x * node.levels / node.upper + 0.5)
    return np.clip(level, 0, node.levels) * (node.upper / node.levels)


def _patches(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> Array:
    """Every window of the zero-padded x, as a view [B, C, *positions, *kernel]."""
    axes = tuple(range(2, x.ndim))
    padded = np.pad(x, [(0, 0), (0, 0), *padding])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    strided = tuple(slice(None, None, s) for s in stride)
    dilated = tuple(slice(None, None, d) for d in dilation)
    view: Array = windows[(slice(None), slice(None), *strided, *dilated)]
    return view


def _conv(node: Conv, x: Array) -> Array:
    """Convolution as one matrix product per group: windows [B P, C K] times weights [C K, O]."""
    patches = _patches(x, node.kernel, node.stride, node.padding, node.dilation)
    batch, channels = patches.shape[:2]
    axes = len(node.kernel)
    positions = patches.shape[2 : 2 + axes]
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    per_group = channels // node.groups
    width = node.weight.shape[0] // node.groups
    results = []
    for group in range(node.groups):
        part = patches[:, group * per_group : (group + 1) * per_group]
        weight = node.weight[group * width : (group + 1) * width].reshape(width, -1)
        count = batch * math.prod(positions)
        rows = part.transpose(order).reshape(count, weight.shape[1])  # [B P, C K]
        results.append(_product(rows, weight))
    y = np.concatenate(results, axis=1) + node.bias  # [B P, O]
    return np.moveaxis(y.reshape(batch, *positions, len(node.weight)), -1, 1)


def _product(rows: Array, weight: Array) -> Array:
    """rows [M, K] times weight [O, K] transposed, in the dtype of the rows.

    NumPy multiplies integer matrices without BLAS, about fifty times slower. Below 2^53 float64 is
    exact, so integers are multiplied in float64 if no partial sum can reach that.
    """
    doubles = weight.T.astype(np.float64)
    if rows.dtype.kind == "f":
        floats: Array = rows @ doubles
        return floats
    reach = float(np.abs(rows).max(initial=0)) * float(np.abs(doubles).max()) * weight.shape[1]
    if reach < 2.0**53:
        exact: Array = (rows.astype(np.float64) @ doubles).astype(np.int64)
        return exact
    integers: Array = rows @ weight.T.astype(np.int64)
    return integers
