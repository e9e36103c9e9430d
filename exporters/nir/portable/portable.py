"""The portable form of a network: the same spikes, from operations that every reader supports.

    if, threshold per channel  ->  incoming weights scaled, one threshold
    avg_pool, scale            ->  conv or linear with a diagonal weight
    conv of several groups     ->  dense, with zeros
    any kernel and padding     ->  a square kernel, symmetric padding; some after a conv that
                                   appends zeros to the input
    add of adds, x + x         ->  one add of distinct sources, 2 x
    sources of an add          ->  the longest path first
    integer potentials         ->  v_init + 1/2, so that > and >= give the same spikes

The remaining nodes are Input, Conv, Linear, Flatten, Add, IF and Output. A spike is 0 or 1 whatever
the threshold, so scaling a channel's current, threshold and v_init by one factor changes nothing
after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError, rejection_table
from icsnn_deploy.exporters.nir.kernels import Embedding, embed, find_embedding
from icsnn_deploy.exporters.nir.portable.appended_zeros import Zeros, append_zeros, find_zeros
from icsnn_deploy.exporters.nir.portable.find_unportable import (
    are_powers_of_two,
    find_unportable,
    holds_integers,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Add, AvgPool, ChannelAffine, Conv, Node
from icsnn_deploy.graph.order import walk_back
from icsnn_deploy.passes.affine import dense
from icsnn_deploy.passes.edit import fresh_name, rewire, unique_name
from icsnn_deploy.passes.pooling import window_mean
from icsnn_deploy.passes.scale_thresholds import scale_thresholds

_MOST_TIMES = 2**31 - 1
"""Times that sums of sums may add one result: an int32 weight."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Portable:
    """The portable form of a network, and how it was made."""

    graph: Graph
    rewritten: tuple[str, ...]  # one sentence per changed node
    losses: tuple[str, ...]  # roundings to float32, one sentence each
    header: Mapping[str, Any] = field(default_factory=dict)  # additional metadata of the graph
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # and of nodes, by name


def to_portable(graph: Graph) -> Portable:
    """Rewrite a network to portable form; names and spikes stay the same.

    An integer network stays exact. A float network is rounded where thresholds whose ratios are not
    powers of two are folded, and where a mean is not over a power of two.

    Raises:
        ExportError: lists everything that has no portable form.
    """
    rejections = find_unportable(graph)
    if rejections:
        raise ExportError(rejection_table("this network has no portable NIR form", rejections))
    rewritten: list[str] = []
    losses: list[str] = []
    if holds_integers(graph):
        graph = graph.map(_off_the_lattice)
    for pool in graph.nodes_of(AvgPool):
        size = int(np.prod(pool.kernel))
        if size & (size - 1):
            losses.append(f"{pool.name}: the mean over {size} is taken with 1/{size} as float32")
        rewritten.append(f"{pool.name}: average pooling -> a diagonal convolution")
    pools = graph.nodes_of(AvgPool)
    graph = graph.replace(*(window_mean(pool, graph.shape(pool.name)[0]) for pool in pools))
    largest = {}
    for population in graph.nodes_of(IF):
        thresholds = np.unique(population.v_threshold)
        if len(thresholds) > 1:
            rewritten.append(f"{population.name}: thresholds folded into the incoming weights")
            if not are_powers_of_two(thresholds[-1] / thresholds.astype(np.float64)):
                losses.append(f"{population.name}: folding its thresholds rounds weights anew")
            largest[population.name] = np.full_like(population.v_threshold, thresholds[-1])
    graph = _plain_sums(scale_thresholds(graph, largest, absorb=True))
    scales = graph.nodes_of(ChannelAffine)
    rewritten += [f"{scale.name}: scale -> a diagonal connection" for scale in scales]
    graph = graph.replace(*(dense(scale, graph.shape(scale.name)) for scale in scales))
    graph = _plain_convolutions(graph, rewritten)
    return Portable(graph=main_path_first(graph), rewritten=tuple(rewritten), losses=tuple(losses))


def _off_the_lattice(node: Node) -> Node:
    """Move v_init between two integers, so that no potential equals its integer threshold."""
    if not isinstance(node, IF) or (node.v_init % 1).all():
        return node
    v_init = node.v_init.astype(np.float64)
    return replace(node, v_init=(v_init + 0.5 * (v_init % 1 == 0)).astype(np.float32))


def _plain_sums(graph: Graph) -> Graph:
    """Rewrite sums so that their sources are distinct and no sums; merge equal sums."""
    totals: dict[str, Counter[str]] = {}
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    known: dict[tuple[tuple[str, int], ...], str] = {}
    multiples: dict[tuple[str, int], str] = {}
    for node in graph.nodes:
        if not isinstance(node, Add):
            nodes.append(rewire(node, renamed))
            continue
        total: Counter[str] = Counter()
        for source in node.inputs:
            total.update(totals.get(source, {source: 1}))
        totals[node.name] = total
        same = known.setdefault(tuple(sorted(total.items())), node.name)
        if same != node.name:
            renamed[node.name] = same
            continue
        if len(total) == 1:
            ((source, count),) = total.items()
            nodes.append(_multiple(graph, node.name, source, count))
            continue
        for part, count in total.items():
            if count > 1 and (part, count) not in multiples:
                name = fresh_name(graph, f"{part}.times_{count}")
                multiples[part, count] = name
                nodes.append(_multiple(graph, name, part, count))
        parts = (multiples.get((part, count), part) for part, count in total.items())
        nodes.append(replace(node, inputs=tuple(parts)))
    return graph.with_nodes(_used(nodes, graph.output.name))


def _multiple(graph: Graph, name: str, source: str, count: int) -> ChannelAffine:
    """A node that multiplies a result by the number of times that it is summed."""
    if count > _MOST_TIMES:
        raise ExportError(
            f"{name}: sums of sums add {source} more than {_MOST_TIMES:,} times, which no weight "
            "holds. Multiply by a constant instead"
        )
    one = np.ones((1,) * len(graph.shape(source)), np.int32 if graph.is_integer else np.float32)
    return ChannelAffine(name=name, inputs=(source,), scale=count * one, shift=0 * one)


def _used(nodes: list[Node], output: str) -> list[Node]:
    """The nodes that lead to the output; sums of which others took the parts do not any more."""
    known = {node.name: node for node in nodes}
    used = {node.name for node in walk_back(known, [output], lambda node: True)}
    return [node for node in nodes if node.name in used]


def _plain_convolutions(graph: Graph, rewritten: list[str]) -> Graph:
    """Write each convolution with one group, a square kernel and symmetric padding.

    Args:
        graph: the network.
        rewritten: gets a sentence per changed convolution.
    """
    nodes: list[Node] = []
    taken = {node.name for node in graph.nodes}
    extended: dict[tuple[str, Zeros], str] = {}  # an input with zeros serves all that need these
    for node in graph.nodes:
        if not isinstance(node, Conv):
            nodes.append(node)
            continue
        (shape,), source = graph.source_shapes(node.name), node.inputs[0]
        embedding = find_embedding(node, shape[1:], graph.shape(node.name)[1:])
        if embedding is None:
            zeros, embedding = find_zeros(node)
            if (source, zeros) not in extended:
                name = unique_name(f"{source}.with_zeros", taken)
                taken.add(name)
                extended[source, zeros] = name
                conv = append_zeros(name, source, zeros, shape[0], integer=graph.is_integer)
                nodes.append(conv)
            source = extended[source, zeros]
            rewritten.append(f"{node.name}: its input is {source}, with zeros appended")
        if embedding.kernel != node.kernel:
            rewritten.append(f"{node.name}: kernel {node.kernel} -> {embedding.kernel}")
        if node.groups > 1:
            rewritten.append(f"{node.name}: {node.groups} groups -> dense with zeros")
        nodes.append(_plain(node, source, embedding))
    return graph.with_nodes(nodes)


def _plain(conv: Conv, source: str, embedding: Embedding) -> Conv:
    return replace(
        conv,
        inputs=(source,),
        weight=embed(conv, embedding),
        padding=tuple((size, size) for size in embedding.padding),
        dilation=embedding.dilation,
        groups=1,
    )


def main_path_first(graph: Graph) -> Graph:
    """Order nodes by their distance to the output, and a sum's sources by that from the input.

    The longest path comes first: readers that walk a graph depth first follow the first edges.
    """
    depth: dict[str, int] = {}
    for node in graph.nodes:
        depth[node.name] = 1 + max((depth[source] for source in node.inputs), default=0)
    height: dict[str, int] = {}
    for node in reversed(graph.nodes):
        height[node.name] = 1 + max((height[c.name] for c in graph.consumers(node.name)), default=0)
    ordered = sorted(graph.nodes, key=lambda node: (-height[node.name], node.name))
    placed: dict[str, Node] = {}
    for node in ordered:
        if isinstance(node, Add):
            continue  # a sum is not a node in NIR: it is placed before its first consumer
        for source in node.inputs:
            sum_ = graph.node(source)
            if isinstance(sum_, Add):
                inputs = tuple(sorted(sum_.inputs, key=lambda name: (-depth[name], name)))
                placed.setdefault(source, replace(sum_, inputs=inputs))
        placed[node.name] = node
    return graph.with_nodes(placed.values())
