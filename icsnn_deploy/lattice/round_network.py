"""Round every parameter of a prepared network to integers on its lattice.

One integer step of a connection has a real value per output channel, its unit. Connections that are
summed share their units (see shared_units), and so do the channels of one of the model's outputs
(see output_units). The unit of a population is that of its current; its
threshold, in whole units, then differs slightly from the calibrated one, and the outgoing weights
are scaled by the ratio before they are rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
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
from icsnn_deploy.lattice.copied_units import CopiedUnits
from icsnn_deploy.lattice.output_units import largest_of_group, output_groups
from icsnn_deploy.lattice.prepare import is_exact, is_exact_sum, is_zero_point
from icsnn_deploy.lattice.rounding import best_scales, round_weights
from icsnn_deploy.lattice.shared_units import per_channel, sharing_groups, thresholds_of
from icsnn_deploy.passes.pooling import is_window_sum
from icsnn_deploy.progress import report_inner

DIAGONAL_BITS = 16
"""Largest weight width of a diagonal connection. The weight of a shortcut is the whole threshold of
its source, many times any other weight of the sum; hardware spends several synapses on it."""

THRESHOLD_BITS = 8
"""Largest number of bits that a threshold has beyond the weights that feed its population."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """An integer network, and the real value of one integer step of each node's result by name."""

    graph: Graph
    units: Mapping[str, Array]  # ready to broadcast


def even_widths(prepared: Graph, bits: int) -> dict[str, int]:
    """The same weight width for every trained Conv and Linear of a prepared network."""
    return {node.name: bits for node in prepared.nodes_of(Conv, Linear) if not is_exact(node)}


def round_to_lattice(
    graph: Graph, moments: Mapping[str, Array], bits: Mapping[str, int], *, per_layer: bool
) -> Lattice:
    """Round a prepared network to integers.

    Args:
        graph: as lattice.prepare leaves it.
        moments: second moments of the inputs by node (see lattice.input_moments); a node without
            one is rounded weight by weight.
        bits: signed width of the weights of each Conv and Linear.
        per_layer: one unit per layer, not one per channel; before the output, one per group of
            channels.
    """
    return _Rounder(graph, moments, bits, per_layer).run()


class _Rounder:
    def __init__(
        self,
        graph: Graph,
        moments: Mapping[str, Array],
        bits: Mapping[str, int],
        per_layer: bool,
    ) -> None:
        self.graph = graph
        self.moments = moments
        self.bits = bits
        self.per_layer = per_layer
        self.units: dict[str, Array] = {}
        self.done: dict[str, Node] = {}
        self.copies = CopiedUnits(graph)
        self.groups = sharing_groups(graph)
        self.waiting = {root: len(members) for root, members in self.groups.items()}
        self.root = {m: root for root, members in self.groups.items() for m in members}
        self.output_groups = output_groups(graph, self.groups)
        self.thresholds = thresholds_of(graph)

    def run(self) -> Lattice:
        for number, node in enumerate(self.graph.nodes):
            report_inner("rounding", number, len(self.graph.nodes))
            if node.name in self.root:
                root = self.root[node.name]
                self.waiting[root] -= 1
                if self.waiting[root] == 0:
                    self._settle(self.groups[root])
            elif isinstance(node, Population):
                self._population(node)
            else:
                self.units[node.name] = self._passed_on(node)
        report_inner("rounding", len(self.graph.nodes), len(self.graph.nodes))
        nodes = [self.done.get(node.name, node) for node in self.graph.nodes]
        return Lattice(graph=self.graph.with_nodes(nodes), units=self.units)

    def _passed_on(self, node: Node) -> Array:
        """Unit of a node that keeps the unit of its source: zero point, sum, pooling, flatten."""
        rank = len(self.graph.shape(node.name))
        if isinstance(node, Input):
            return np.ones((1,) * rank)
        unit = self.units[node.inputs[0]]
        match node:
            case Conv() | Linear() if is_exact(node) and not is_window_sum(node):
                return self.copies.of_connection(node, unit)
            case Add() if is_exact_sum(self.graph, node):
                return self.copies.of_sum(node, [self.units[name] for name in node.inputs])
            case Flatten():
                shape = self.graph.shape(node.inputs[0])
                flat: Array = np.broadcast_to(unit, shape).reshape(-1)
                return flat
            case Conv():  # a sum over windows, channel by channel
                return per_channel(unit)
            case Linear() | ChannelAffine() | Add() | AvgPool() | Relu() | Population() | Output():
                return unit
            case _:
                assert_never(node)

    def _settle(self, members: list[str]) -> None:
        """Choose the common unit of summed connections and round them."""
        nodes = [self.graph.node(name) for name in members]
        weights = {n.name: self._real_weight(n) for n in nodes}
        shape = self.graph.shape(members[0])
        unit = self._unit(nodes, weights)  # [C]
        ready = unit.reshape(-1, *(1,) * (len(shape) - 1))
        for node in nodes:
            self.done[node.name] = self._rounded(node, weights[node.name], unit, ready)
            self.units[node.name] = ready

    def _real_weight(self, node: Node) -> Array:
        """Real weights for integer inputs: rows [O, K], or the scale of a ChannelAffine."""
        unit = self.units[node.inputs[0]]
        if isinstance(node, ChannelAffine):
            scaled: Array = node.scale.astype(np.float64) * unit
            return scaled
        if isinstance(node, Linear):
            width = node.weight.shape[1]
            columns = np.broadcast_to(unit.reshape(-1), (width,))
            rows: Array = node.weight.astype(np.float64) * columns
            return rows
        if not isinstance(node, Conv):
            raise LatticeError(f"{node.name}: a {node.kind} has no weights to round")
        per_output = _group_rows(node, per_channel(unit).reshape(-1))  # [O, C_in / g]
        weight = node.weight.astype(np.float64)
        weight = weight * per_output.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2))
        return weight.reshape(len(weight), -1)

    def _unit(self, nodes: list[Node], weights: Mapping[str, Array]) -> Array:
        """One value of an integer step per channel, [C], > 0."""
        channels = self.graph.shape(nodes[0].name)[0]
        trained = [n for n in nodes if isinstance(n, (Conv, Linear))]
        if trained:
            parts = [self._wanted(node, weights[node.name]) for node in trained]
        else:
            largest = 2 ** (DIAGONAL_BITS // 2 - 1) - 1
            peaks = [np.abs(per_channel(weights[n.name])).reshape(-1) / largest for n in nodes]
            parts = [np.broadcast_to(peak, (channels,)) for peak in peaks]
        unit: Array = np.max(parts, axis=0)
        common = self._common(nodes, channels)
        if common is not None and not trained:
            unit = largest_of_group(unit, common)
        width = max((self.bits[node.name] for node in trained), default=DIAGONAL_BITS // 2)
        for node in nodes:
            if node.name in self.thresholds:  # a channel of tiny weights needs no finer unit
                least = self.thresholds[node.name] / 2 ** (width + THRESHOLD_BITS)
                unit = np.maximum(unit, least)
            if isinstance(
                node, ChannelAffine
            ):  # beside tiny weights a shortcut must not be cut off
                real = np.abs(weights[node.name])
                peak = real.max(axis=tuple(range(1, real.ndim))) / (2 ** (DIAGONAL_BITS - 1) - 1)
                if common is not None:
                    peak = largest_of_group(peak, common)
                unit = np.maximum(unit, peak)
        fallback = unit.max() or 1.0
        return np.where(unit > 0, unit, fallback)

    def _common(self, nodes: list[Node], channels: int) -> Array | None:
        """The group of each channel, [C], whose channels share a unit; None: each has its own."""
        for node in nodes:
            if node.name in self.output_groups:
                return self.output_groups[node.name]
        return np.zeros(channels, np.int64) if self.per_layer else None

    def _wanted(self, node: Conv | Linear, weight: Array) -> Array:
        """The unit of least rounding error for one connection, [O]."""
        largest = 2 ** (self.bits[node.name] - 1) - 1
        moment = self._moment(node)
        energy = np.ones((1, weight.shape[1]))
        if moment is not None:
            diagonal = np.diagonal(moment, axis1=1, axis2=2).reshape(_groups_of(node), -1) + 1e-12
            # [O, K], or [1, K] where all channels take the same inputs
            copies = len(weight) // len(diagonal) if len(diagonal) > 1 else 1
            energy = np.repeat(diagonal, copies, axis=0)
        common = self._common([node], len(weight))
        if common is None:
            return best_scales(weight, energy, largest)
        scales = np.empty(len(weight))
        for group in np.unique(common):
            rows = common == group
            everywhere = np.broadcast_to(energy, weight.shape)[rows].reshape(1, -1)
            scales[rows] = best_scales(weight[rows].reshape(1, -1), everywhere, largest)
        return scales

    def _moment(self, node: Conv | Linear) -> Array | None:
        """Second moment of the integer inputs, [groups, K, K] or in smaller blocks."""
        moment = self.moments.get(node.name)
        source = self.graph.node(node.inputs[0])
        if moment is None or _is_integer_valued(self.graph, source):
            return moment
        taps = int(np.prod(node.weight.shape[2:]))
        unit = np.broadcast_to(self.units[source.name], self.graph.shape(source.name))
        values = unit.reshape(-1) if isinstance(node, Linear) else per_channel(unit).reshape(-1)
        columns = np.repeat(values, taps).reshape(len(moment), -1)  # [groups, K]
        scaled: Array = moment / (columns[:, :, None] * columns[:, None, :])
        return scaled

    def _rounded(self, node: Node, weight: Array, unit: Array, ready: Array) -> Node:
        if isinstance(node, ChannelAffine):
            largest = 2 ** (DIAGONAL_BITS - 1) - 1
            integers = np.clip(np.round(weight / ready), -largest, largest)
            shift = np.round(node.shift / ready)
            return replace(node, scale=integers.astype(np.int32), shift=shift.astype(np.int32))
        if not isinstance(node, (Conv, Linear)):
            raise LatticeError(f"{node.name}: a {node.kind} has no weights to round")
        bits = self.bits[node.name]
        integers = np.empty(weight.shape, np.int8 if bits <= 8 else np.int16)
        for rows, columns, moment in self._blocks(node, weight):
            integers[rows, columns] = round_weights(
                weight[rows, columns], unit[rows], moment, 2 ** (bits - 1) - 1
            )
        # A bias beyond int32 fails the certificate, which reports it.
        bias = np.clip(np.round(node.bias / unit), -(2**31), 2**31 - 1).astype(np.int32)
        return replace(node, weight=integers.reshape(node.weight.shape), bias=bias)

    def _blocks(
        self, node: Conv | Linear, weight: Array
    ) -> Iterator[tuple[slice, slice, Array | None]]:
        """Parts of the weights [O, K] that are rounded apart, and the moment of their inputs."""
        moment, groups = self._moment(node), _groups_of(node)
        width = len(weight) // groups
        blocks = 1 if moment is None else len(moment) // groups
        length = weight.shape[1] // blocks
        for group in range(groups):
            rows = slice(group * width, (group + 1) * width)
            for block in range(blocks):
                columns = slice(block * length, (block + 1) * length)
                part = None if moment is None else moment[group * blocks + block]
                yield rows, columns, part

    def _population(self, node: AnyPopulation) -> None:
        match node:
            case IF():
                self._integrate_and_fire(node)
            case _:
                assert_never(node)

    def _integrate_and_fire(self, node: IF) -> None:
        unit = self.units[node.inputs[0]]
        v_threshold = np.maximum(np.round(node.v_threshold / unit), 1)
        hard = node.v_reset is not None
        self.done[node.name] = replace(
            node,
            v_threshold=v_threshold.astype(np.int32),
            v_init=_half_integers(node.v_init / unit),
            v_reset=_half_integers(node.v_reset / unit) if hard else None,
        )
        # With soft reset a spike represents its threshold: slightly more or less than the outgoing
        # weights assume. With hard reset no potential is carried over, and a spike is a spike.
        ratio = v_threshold * unit / node.v_threshold
        self.units[node.name] = np.ones_like(ratio) if hard else ratio


def _groups_of(node: Conv | Linear) -> int:
    return node.groups if isinstance(node, Conv) else 1


def _half_integers(values: Array) -> Array:
    # Beyond 2^22 float32 has no half integers: the certificate fails there and reports it.
    return (np.clip(np.floor(values), -(2**22), 2**22 - 1) + 0.5).astype(np.float32)


def _is_integer_valued(graph: Graph, node: Node) -> bool:
    """Whether a value of the prepared network equals that of the integer network."""
    passed_on = isinstance(node, Flatten) or is_exact(node) or is_zero_point(node)
    if passed_on or is_exact_sum(graph, node):
        return all(_is_integer_valued(graph, graph.node(name)) for name in node.inputs)
    return isinstance(node, (Population, Input))


def _group_rows(node: Conv, values: Array) -> Array:
    """Values of the input channels that each output channel reads, [O, C_in / groups]."""
    per_group = node.weight.shape[1]
    channels = per_group * node.groups
    grouped = np.broadcast_to(values, (channels,)).reshape(node.groups, per_group)
    return np.repeat(grouped, len(node.weight) // node.groups, axis=0)
