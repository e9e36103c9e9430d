"""The resource report: what a network needs, independent of a target.

Definitions:
    neurons             IF neurons; the readout's outputs are counted separately
    synapses            one per weight and pair of connected neurons, see connectivity.py
    dense, non-zero     with and without zero weights
    weights             stored values: a kernel counts once, however many positions use it
    connection sparsity zero weights / weights over convolutions and fully connected layers,
                        NeuroBench's definition (Yik et al., 2025); pooling has no weights
    footprint           bytes of all parameters as the graph stores them (NeuroBench: parameters
                        and buffers); membrane potentials are not part of it
    memory bits         each array at the narrowest signed width that holds it
    potential bits      width of a signed register that holds every potential, by the certificate
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.certificate import Certificate, certify, signed_bits
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    LINEAR_NODES,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Linear,
    Output,
    Population,
    Shape,
)
from icsnn_deploy.targets.connectivity import fan_in, fan_out
from icsnn_deploy.targets.paths import (
    image_shape,
    is_pool,
    is_zero_point,
    sinks,
    weighted_of,
    weights_into,
)

FLOAT_BITS = 32


@dataclass(frozen=True, kw_only=True)
class LayerResources:
    """The resources of one population, or the readout, with its incoming synapses."""

    layer: str
    kind: str  # "population" or "readout"
    shape: Shape
    neurons: int
    synapses_dense: int
    synapses: int  # non-zero
    fan_in: int  # largest, non-zero
    fan_out: int  # largest, non-zero; 0 for the readout
    weight_bits: int  # widest of its connections
    potential_bits: int | None  # None for a float network
    thresholds: int  # distinct values of v_threshold


@dataclass(frozen=True, kw_only=True)
class ConnectionResources:
    """The resources of a node that stores weights."""

    node: str
    kind: str
    weights: int
    nonzero: int
    weight_bits: int
    memory_bits: int  # weights and biases


@dataclass(frozen=True, kw_only=True)
class ResourceReport:
    """The resources of a network: layers, connections and totals."""

    graph_hash: str
    time_steps: int
    layers: tuple[LayerResources, ...]
    connections: tuple[ConnectionResources, ...]
    neurons: int
    synapses_dense: int
    synapses: int
    weights: int
    weight_bits: int
    potential_bits: int | None
    fan_in: int
    fan_out: int
    memory_bits: int  # weights, biases, thresholds and initial potentials
    footprint_bytes: int
    connection_sparsity: float

    def layer(self, name: str) -> LayerResources:
        """The row of one population or of the readout."""
        for row in self.layers:
            if row.layer == name:
                return row
        raise TargetError(f"no population {name!r}; there are {[r.layer for r in self.layers]}")

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def count_resources(graph: Graph) -> ResourceReport:
    """Count what a network needs.

    Raises:
        TargetError: the graph is an ANN.
    """
    if graph.time_steps is None:
        raise TargetError("resources are counted for an IF network; convert the ANN first")
    certificate = certificate_of(graph)
    bits = {b.layer: b.bits for b in certificate.bounds} if certificate else {}
    layers = _layers(graph, bits)
    connections = tuple(_connection(node) for node in weighted_of(graph))
    arrays = [
        value
        for node in graph.nodes
        if not is_pool(node)
        for field, value in node.parameters().items()
        if field not in ("weight", "bias", "scale", "shift")
    ]
    return ResourceReport(
        graph_hash=graph.hash(),
        time_steps=graph.steps,
        layers=layers,
        connections=connections,
        neurons=sum(row.neurons for row in layers if row.kind == "population"),
        synapses_dense=sum(row.synapses_dense for row in layers),
        synapses=sum(row.synapses for row in layers),
        weights=sum(row.weights for row in connections),
        weight_bits=max((row.weight_bits for row in connections), default=0),
        potential_bits=max(bits.values()) if bits else None,
        fan_in=max(row.fan_in for row in layers),
        fan_out=max(row.fan_out for row in layers),
        memory_bits=sum(c.memory_bits for c in connections)
        + sum(value.size * array_bits(value) for value in arrays),
        footprint_bytes=sum(v.nbytes for node in graph.nodes for v in node.parameters().values()),
        connection_sparsity=_sparsity(graph),
    )


def certificate_of(graph: Graph) -> Certificate | None:
    """The certificate of an integer network; None for a float network."""
    if not graph.is_integer or graph.nodes_of(AvgPool):
        return None
    return certify(graph)


def array_bits(values: Array) -> int:
    """Width of the narrowest signed register that holds integers or half integers; 32 for float."""
    floor = np.floor(values.astype(np.float64))
    if values.dtype.kind == "f" and not np.isin(values - floor, (0.0, 0.5)).all():
        return FLOAT_BITS
    return signed_bits(int(floor.min()), int(floor.max()))


def _layers(graph: Graph, bits: dict[str, int]) -> tuple[LayerResources, ...]:
    dense, real, out = fan_in(graph, dense=True), fan_in(graph), fan_out(graph)
    rows = []
    for target in sinks(graph):
        weights = weights_into(graph, target)
        population = isinstance(target, Population)
        rows.append(
            LayerResources(
                layer=target.name,
                kind="population" if population else "readout",
                shape=graph.shape(target.name),
                neurons=math.prod(graph.shape(target.name)),
                synapses_dense=int(dense[target.name].sum()),
                synapses=int(real[target.name].sum()),
                fan_in=int(real[target.name].max()),
                fan_out=int(out[target.name].max()) if population else 0,
                weight_bits=max((array_bits(weight_of(node)) for node in weights), default=1),
                potential_bits=bits.get(target.name),
                thresholds=np.unique(target.v_threshold).size
                if isinstance(target, Population)
                else 0,
            )
        )
    return tuple(rows)


def weight_of(node: Conv | Linear | ChannelAffine) -> Array:
    """The array that a connection multiplies by."""
    return node.scale if isinstance(node, ChannelAffine) else node.weight


def bias_of(node: Conv | Linear | ChannelAffine) -> Array:
    """The array that a connection adds."""
    return node.shift if isinstance(node, ChannelAffine) else node.bias


def total_bias(graph: Graph, target: Population | Output) -> Array:
    """The sum of the biases of the last connections into a target, int64, broadcasts to [C, H, W].

    A bias counts once for each way through the sums after it: twice where a sum names it twice,
    once where the connection reads a sum. Zero points of the input do not count.
    """
    sums: dict[str, Array] = {}
    for node in graph.ancestors(target.name, lambda node: isinstance(node, LINEAR_NODES)):
        if isinstance(node, Add):
            total = sum((sums[name] for name in node.inputs[1:]), start=sums[node.inputs[0]])
        elif isinstance(node, Flatten):
            shape = image_shape(graph.shape(node.inputs[0]))
            total = np.broadcast_to(sums[node.inputs[0]], shape).reshape(-1, 1, 1)
        elif is_pool(node):
            total = sums[node.inputs[0]][:, :1, :1]
        elif isinstance(node, (Conv, Linear, ChannelAffine)) and not is_zero_point(graph, node):
            values = bias_of(node).astype(np.int64)
            total = values.reshape(*values.shape, *(1,) * (3 - values.ndim))
        else:  # a source, which sends no bias
            total = np.zeros((1, 1, 1), np.int64)
        sums[node.name] = total
    return sums[target.inputs[0]]


def _connection(node: Conv | Linear | ChannelAffine) -> ConnectionResources:
    weight, bias = weight_of(node), bias_of(node)
    return ConnectionResources(
        node=node.name,
        kind=node.kind,
        weights=weight.size,
        nonzero=int(np.count_nonzero(weight)),
        weight_bits=array_bits(weight),
        memory_bits=weight.size * array_bits(weight) + bias.size * array_bits(bias),
    )


def _sparsity(graph: Graph) -> float:
    weights = [node.weight for node in weighted_of(graph) if not isinstance(node, ChannelAffine)]
    total = sum(weight.size for weight in weights)
    zeros = total - sum(int(np.count_nonzero(weight)) for weight in weights)
    return zeros / total if total else 0.0
