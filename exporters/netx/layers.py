"""Plan the layers of a .net file for a sequential integer network, or list all that misfits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError, Rejection, rejection_table
from icsnn_deploy.exporters.netx.fold_pooling import fold_into_conv, fold_into_linear, is_foldable
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    BaseNode,
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

REGISTER = 2**23
"""Potentials, thresholds and biases have 24 bits (Loihi; lava.proc.lif.models, uv_bitwidth)."""

_MOST_GROUPS = 127  # lava.proc.conv.models keeps the number in an int8
_WEIGHTS = "-128 to 127, even -256 to 254, or 0 to 255, with one above 0"


@dataclass(frozen=True, kw_only=True)
class NetxLayer:
    """A connection with the population after it, or without one at the readout."""

    name: str  # of the population, or of the readout's connection
    connection: Conv | Linear
    padding: Shape  # on both sides; convolutions only
    shape: Shape  # of the result
    population: IF | None
    flatten: bool  # whether its input is an image to flatten


@dataclass(frozen=True, kw_only=True)
class NetxPlan:
    """Content of a .net file."""

    zero_point: Array | None  # to subtract from the input, [C, 1, 1]
    layers: tuple[NetxLayer, ...]


def plan_layers(graph: Graph) -> NetxPlan:
    """Plan the layers of a network, with pooling folded into the next connection.

    Args:
        graph: an integer network.

    Raises:
        ExportError: it is not an integer network, or everything in it that .net can't hold.
    """
    if not graph.is_integer:
        raise ExportError(
            "netx: .net files hold integers; put the network on the lattice with icsnn quantize"
        )
    planner = _Planner(graph)
    if not planner.rejections:
        planner.walk()
    if planner.rejections:
        raise ExportError(
            rejection_table("this network can't be written for lava-dl netx", planner.rejections)
        )
    return NetxPlan(zero_point=planner.zero_point, layers=tuple(planner.layers))


class _Planner:
    """Walks along the chain of nodes, and collects layers and rejections."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rejections: list[Rejection] = []
        self.layers: list[NetxLayer] = []
        self.zero_point: Array | None = None
        self._pending: Conv | None = None  # a sum over windows, to be folded
        self._flatten = False
        for node in graph.nodes:
            self._check_node(node)

    def _reject(self, node: BaseNode, got: str, allowed: str, remedy: str) -> None:
        self.rejections.append(Rejection(node=node.name, got=got, allowed=allowed, remedy=remedy))

    def _check_node(self, node: Node) -> None:
        """Reject what a .net file can't hold, wherever the node is."""
        nir = "Export to NIR instead."
        if len(node.inputs) > 1:
            self._reject(node, f"a sum of {len(node.inputs)} sources", "one source", nir)
        takers = len(self.graph.consumers(node.name))
        if takers > 1:
            self._reject(node, f"a result that {takers} nodes take", "one taker", nir)
        if isinstance(node, Population) and not isinstance(node, IF):
            self._reject(node, f"a population of kind {node.kind!r}", f"{IF.kind!r}", nir)
        elif isinstance(node, IF) and node.v_reset is not None:
            self._reject(node, "hard reset", "reset by subtraction", nir)
        if isinstance(node, Input) and node.is_timed:
            self._reject(node, f"{node.encoding} encoding", "direct encoding", nir)
        if isinstance(node, Conv):
            if len(node.kernel) != 2:
                self._reject(node, f"{len(node.kernel)} spatial axis", "two spatial axes", nir)
            elif node.groups > _MOST_GROUPS and not is_foldable(node):
                self._reject(node, f"{node.groups} groups", f"at most {_MOST_GROUPS}", nir)
        held = (
            {"bias": getattr(node, "bias", None)}
            if not isinstance(node, Population)
            else node.arrays()
        )
        for field, value in held.items():
            if value is not None and np.abs(value.astype(np.float64)).max() >= REGISTER:
                got = f"{field} beyond 24 bits"
                self._reject(node, got, "24 bits, signed", "Quantize to fewer bits.")

    def walk(self) -> None:
        """Turn the chain into layers."""
        node: Node = self.graph.input
        while not isinstance(node, Output):
            (node,) = self.graph.consumers(node.name)
            match node:
                case Flatten():
                    self._flatten = len(self.graph.source_shapes(node.name)[0]) > 1
                case ChannelAffine():
                    self._take_scale(node)
                case Conv() | Linear():
                    self._take_connection(node)
                case Population():
                    self._misplaced(node)
                case Input() | AvgPool() | Add() | Relu() | Output():
                    pass
                case _:
                    assert_never(node)

    def _take_scale(self, node: ChannelAffine) -> None:
        first = node.inputs == (self.graph.input.name,)
        if first and (node.scale == 1).all() and not self.layers:
            self.zero_point = -node.shift
            return
        self._reject(
            node,
            "a diagonal connection",
            "convolutions and linear layers; at the input a zero point",
            "Fold it into the layer beside it.",
        )

    def _take_connection(self, node: Conv | Linear) -> None:
        (taker,) = self.graph.consumers(node.name)
        behind = taker
        while isinstance(behind, Flatten):
            (behind,) = self.graph.consumers(behind.name)
        if isinstance(node, Conv) and is_foldable(node) and isinstance(behind, (Conv, Linear)):
            if self._pending is not None:
                self._apart(node)
            self._pending = node
            return
        connection = self._folded(node)
        if connection is None:
            return
        population = taker if isinstance(taker, IF) else None
        if population is None and not (isinstance(node, Linear) and isinstance(taker, Output)):
            self._apart(node)
            return
        self._check_weights(connection)
        self.layers.append(
            NetxLayer(
                name=population.name if population else node.name,
                connection=connection,
                padding=self._padding(connection),
                shape=self.graph.shape(node.name),
                population=population,
                flatten=self._flatten,
            )
        )
        self._flatten = False

    def _folded(self, node: Conv | Linear) -> Conv | Linear | None:
        """The connection with the pooling before it folded in; None where that is not possible."""
        pool, self._pending = self._pending, None
        if pool is None:
            return node
        lengths = self.graph.source_shapes(pool.name)[0][1:]
        positions = self.graph.shape(pool.name)[1:]
        if isinstance(node, Linear):
            return fold_into_linear(pool, lengths, positions, node)
        folded = fold_into_conv(pool, lengths, positions, node)
        if folded is None:
            self._reject(
                pool,
                "pooling whose dropped or overlapping edge the next layer pads",
                "pooling that folds into the next layer",
                "Pool windows that do not overlap, over a length they divide.",
            )
        return folded

    def _check_weights(self, node: Conv | Linear) -> None:
        """Reject weights that Lava would change when it shifts them to fill 8 bits and a sign.

        (lava-dl 0.6.0, netx/utils.py, optimize_weight_bits: it fails on zeros, and matrices
        without a positive weight can come out wrong.)
        """
        low, high = int(node.weight.min()), int(node.weight.max())
        even = not (node.weight % 2).any()
        fits = (low >= -128 and high <= 127) or (low >= 0 and high <= 255)
        fits = fits or (even and low >= -256 and high <= 254)
        if not fits or high <= 0:
            remedy = "Quantize to 8 bits." if high > 0 else "Remove the layer: it never excites."
            self._reject(node, f"weights from {low} to {high}", _WEIGHTS, remedy)

    def _padding(self, node: Conv | Linear) -> Shape:
        """The padding of each axis, which .net has once for both sides."""
        if isinstance(node, Linear):
            return ()
        lengths = self.graph.shape(node.inputs[0])[1:]
        before = tuple(pads[0] for pads in node.padding)
        reach = [d * (k - 1) + 1 for d, k in zip(node.dilation, node.kernel, strict=True)]
        positions = tuple(
            (length + 2 * pad - span) // stride + 1
            for length, pad, span, stride in zip(lengths, before, reach, node.stride, strict=True)
        )
        if positions != self.graph.shape(node.name)[1:]:
            self._reject(
                node,
                f"padding {node.padding}",
                "the same padding on both sides of an axis",
                "Pad both sides alike.",
            )
        return before

    def _apart(self, node: Node) -> None:
        self._reject(
            node,
            "a connection without a population behind it",
            "a population behind each, and a linear layer as the readout",
            "Put a ReLU behind it, or make it one layer with the next.",
        )

    def _misplaced(self, node: Population) -> None:
        if not self.layers or self.layers[-1].population is not node:
            self._reject(
                node,
                "a population without a connection in front of it",
                "a convolution or linear layer in front of each population",
                "Put one there.",
            )
