"""Find everything in a network that has no portable NIR form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icsnn_deploy.errors import Rejection
from icsnn_deploy.exporters.nir.kernels import find_embedding
from icsnn_deploy.exporters.nir.portable.appended_zeros import find_zeros
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, AvgPool, ChannelAffine, Conv, Node, Population, Shape
from icsnn_deploy.passes.affine import is_per_channel

MAX_WEIGHTS = 2**26
"""Largest number of weights of a connection that is written dense: 256 MiB as float32."""


def find_unportable(graph: Graph) -> list[Rejection]:
    """A rejection for everything in an IF network that has no portable form."""
    integers = holds_integers(graph)
    rejections: list[Rejection] = []
    for node in graph.nodes:
        shape = graph.shape(node.name)
        if len(shape) > 3:
            rejections.append(
                Rejection(
                    node=node.name,
                    got=f"shape {shape}",
                    allowed="(F,), (C, L) or (C, H, W)",
                    remedy="Export it with profile spec.",
                )
            )
        elif isinstance(node, IF):
            rejections += _population(node, integers=integers)
        elif isinstance(node, Population):
            rejections.append(
                Rejection(
                    node=node.name,
                    got=f"a population of kind {node.kind!r}",
                    allowed=f"{IF.kind!r}",
                    remedy="Export it with profile spec.",
                )
            )
        elif isinstance(node, ChannelAffine):
            rejections += _scale(node, shape)
        elif isinstance(node, (Conv, AvgPool)):
            rejections += _window(node, graph.shape(node.inputs[0]), shape)
    return rejections


def holds_integers(graph: Graph) -> bool:
    """Whether all currents are integers: the input and every parameter but v_init."""
    if graph.input.dtype == "float32" or graph.nodes_of(AvgPool):
        return False
    return all(
        not (value % 1).any()
        for node in graph.nodes
        for field, value in node.parameters().items()
        if field != "v_init"
    )


def are_powers_of_two(ratios: Array) -> bool:
    """Whether all factors are powers of two, so that scaling by them is exact."""
    return bool((np.frexp(ratios)[0] == 0.5).all())


def _population(node: IF, *, integers: bool) -> Iterator[Rejection]:
    if node.v_reset is not None:
        yield Rejection(
            node=node.name,
            got="hard reset",
            allowed="reset by subtraction",
            remedy="Export it with profile spec, which writes v_reset.",
        )
    if not is_per_channel(node.v_threshold):
        yield Rejection(
            node=node.name,
            got=f"thresholds of shape {node.v_threshold.shape}",
            allowed="one threshold per layer, or one per channel",
            remedy="Convert with one threshold per channel, or export with profile spec.",
        )
        return
    thresholds = np.unique(node.v_threshold).astype(np.float64)
    if integers and not are_powers_of_two(thresholds[-1] / thresholds):
        yield Rejection(
            node=node.name,
            got=f"{len(thresholds)} thresholds, {thresholds[0]:.0f} to {thresholds[-1]:.0f}",
            allowed="integer thresholds of one layer with ratios that are powers of two",
            remedy="Quantize with one threshold per layer: icsnn quantize --per-layer.",
        )


def _scale(node: ChannelAffine, shape: Shape) -> Iterator[Rejection]:
    if not (is_per_channel(node.scale) and is_per_channel(node.shift)):
        yield Rejection(
            node=node.name,
            got="a scale or shift that differs in space",
            allowed="one value per channel",
            remedy="Export it with profile spec.",
        )
    yield from _dense(node, shape[0] ** 2)


def _window(node: Conv | AvgPool, shape: Shape, result: Shape) -> Iterator[Rejection]:
    axes = len(shape) - 1
    conv = Conv(
        name=node.name,
        inputs=node.inputs,
        weight=np.ones((1, 1, *node.kernel), np.int8),
        bias=np.zeros(1, np.int8),
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation if isinstance(node, Conv) else (1,) * axes,
    )
    embedding = find_embedding(conv, shape[1:], result[1:])
    appending = 0
    if embedding is None:
        _, embedding = find_zeros(conv)
        appending = shape[0] ** 2 * 2**axes
    weights = result[0] * shape[0] * int(np.prod(embedding.kernel))
    yield from _dense(node, max(weights, appending))


def _dense(node: Node, weights: int) -> Iterator[Rejection]:
    if weights > MAX_WEIGHTS:
        yield Rejection(
            node=node.name,
            got=f"{weights:,} weights in dense form",
            allowed=f"{MAX_WEIGHTS:,} weights per connection",
            remedy="Use fewer channels, or export with profile spec.",
        )
