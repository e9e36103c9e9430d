"""Spike paths: the chains of linear nodes from one population to the next.

    source (input or population) -> pooling, flatten, one weighted connection -> target

At a join (Add) several paths end in one target. Hardware has no nodes between populations, so a
network is checked as the set of its paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    LINEAR_NODES,
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
    Shape,
)
from icsnn_deploy.passes.pooling import is_window_sum

MAX_PATHS = 1_000
"""Paths into one target that are followed, beyond one for each node of the network. Sums of sums
have one for each way through them."""


@dataclass(frozen=True, eq=False)
class SpikePath:
    """A chain of linear nodes from a source to a target, without joins and zero points."""

    source: Input | Population
    nodes: tuple[Node, ...]
    target: Population | Output

    @property
    def weighted(self) -> tuple[Conv | Linear | ChannelAffine, ...]:
        """The nodes that multiply by a weight; sum pooling does not."""
        return tuple(node for node in self.nodes if is_weighted(node))  # type: ignore[misc]

    @property
    def pools(self) -> tuple[Conv | AvgPool, ...]:
        """The pooling nodes."""
        return tuple(node for node in self.nodes if is_pool(node))  # type: ignore[misc]


def is_pool(node: Node) -> bool:
    """Whether a node is average pooling, or a sum over windows, its form on the lattice."""
    return isinstance(node, AvgPool) or is_window_sum(node)


def is_zero_point(graph: Graph, node: Node) -> bool:
    """Whether a node only adds a constant to the input, which the sender of the input can do."""
    return (
        isinstance(node, ChannelAffine)
        and isinstance(graph.node(node.inputs[0]), Input)
        and bool(np.all(node.scale == 1))
    )


def is_weighted(node: Node) -> bool:
    """Whether a node multiplies its input by stored weights."""
    return isinstance(node, (Conv, Linear, ChannelAffine)) and not is_pool(node)


def makes_channels_of_pixels(graph: Graph, path: SpikePath) -> bool:
    """Whether a path flattens maps of several pixels into its target, without a Linear after it.

    A core, or an event, then has a channel of the target for each pixel of each map.
    """
    flattened = (node.inputs[0] for node in path.nodes if isinstance(node, Flatten))
    has_pixels = any(image_shape(graph.shape(name))[1:] != (1, 1) for name in flattened)
    return has_pixels and not any(isinstance(node, Linear) for node in path.nodes)


def paths_into(graph: Graph, target: Population | Output) -> tuple[SpikePath, ...]:
    """All paths into a population or the output, in the order of the joins' sources.

    Raises:
        TargetError: there are more than MAX_PATHS and the network's nodes.
    """
    count = _count_paths(graph, target)
    most = MAX_PATHS + len(graph.nodes)
    if count > most:
        many = f"{count:,}" if count < 10**12 else f"more than {10**12:,}"
        raise TargetError(
            f"{target.name}: {many} paths of spikes lead into it through sums of sums; up to "
            f"{most:,} are followed. Compose the network first: icsnn quantize does"
        )
    paths: list[SpikePath] = []
    open_ends: list[tuple[Node, tuple[Node, ...]]] = [(graph.node(target.inputs[0]), ())]
    while open_ends:
        node, after = open_ends.pop()
        if isinstance(node, (Input, Population)):
            paths.append(SpikePath(node, after, target))
        elif isinstance(node, LINEAR_NODES):
            skipped = isinstance(node, Add) or is_zero_point(graph, node)
            chain = after if skipped else (node, *after)
            open_ends += [(graph.node(name), chain) for name in reversed(node.inputs)]
    return tuple(paths)


def weights_into(
    graph: Graph, target: Population | Output
) -> tuple[Conv | Linear | ChannelAffine, ...]:
    """The nodes that store weights on any path into a target, in topological order."""
    before = graph.ancestors(target.name, lambda node: isinstance(node, LINEAR_NODES))
    weighted = (node for node in before if isinstance(node, (Conv, Linear, ChannelAffine)))
    return tuple(n for n in weighted if is_weighted(n) and not is_zero_point(graph, n))


def takes_input(graph: Graph, target: Population | Output) -> bool:
    """Whether a path leads from the input into a target."""
    before = graph.ancestors(target.name, lambda node: isinstance(node, LINEAR_NODES))
    return any(isinstance(node, Input) for node in before)


def _count_paths(graph: Graph, target: Population | Output) -> int:
    """The number of paths into a target, without following each."""
    count: dict[str, int] = {}
    for node in graph.ancestors(target.name, lambda node: isinstance(node, LINEAR_NODES)):
        if isinstance(node, (Input, Population)):
            count[node.name] = 1
        else:
            count[node.name] = sum(count.get(name, 0) for name in node.inputs)
    return count[target.inputs[0]]


def sinks(graph: Graph) -> tuple[Population | Output, ...]:
    """The targets of currents: the populations and the output, in topological order."""
    return tuple(node for node in graph.nodes if isinstance(node, (Population, Output)))


def weighted_of(graph: Graph) -> tuple[Conv | Linear | ChannelAffine, ...]:
    """The nodes that store weights, in topological order."""
    affine = (node for node in graph.nodes if isinstance(node, (Conv, Linear, ChannelAffine)))
    return tuple(n for n in affine if is_weighted(n) and not is_zero_point(graph, n))


def chip_targets(
    graph: Graph, *, host_first_layer: bool, host_readout: bool
) -> tuple[tuple[Population | Output, ...], tuple[str, ...]]:
    """The populations (and readout) that the chip runs, and the names of those the host runs.

    With host_first_layer the host runs the populations whose current is the same at every step.
    """
    constant = graph.constant_nodes()
    chip: list[Population | Output] = []
    host: list[str] = []
    for target in sinks(graph):
        if isinstance(target, Output):
            on_host = host_readout
        else:
            on_host = host_first_layer and target.inputs[0] in constant
        if on_host:
            host.append(target.name)
        else:
            chip.append(target)
    return tuple(chip), tuple(host)


def image_shape(shape: Shape) -> tuple[int, int, int]:
    """A shape as channels, height, width: a signal has width 1, a feature vector is 1 by 1."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


def distinct_sources(paths: Iterable[SpikePath]) -> tuple[Input | Population, ...]:
    """The sources of some paths, each once, in order."""
    return tuple({path.source.name: path.source for path in paths}.values())
