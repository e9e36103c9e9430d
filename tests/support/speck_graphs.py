"""Integer networks that fit Speck, one for each kind of layer that a core holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)

KINDS = ("conv", "strided", "grouped", "pooled", "linear", "join", "hard")


def convolution(
    name: str,
    source: str,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Conv:
    return Conv(
        name=name,
        inputs=(source,),
        weight=rng.integers(-9, 11, shape).astype(np.int8),
        bias=rng.integers(-3, 4, shape[0]).astype(np.int32),
        stride=(stride, stride),
        padding=((padding, padding),) * 2,
        dilation=(1, 1),
        groups=groups,
    )


def neurons(name: str, source: str, rng: np.random.Generator, channels: int, axes: int = 2) -> IF:
    shape = (channels, *(1,) * axes)
    return IF(
        name=name,
        inputs=(source,),
        v_threshold=np.full(shape, 24, np.int32),
        v_init=(rng.integers(-5, 15, shape) + 0.5).astype(np.float32),
    )


def window_sum(name: str, source: str, channels: int, side: int) -> Conv:
    return Conv(
        name=name,
        inputs=(source,),
        weight=np.ones((channels, 1, side, side), np.int8),
        bias=np.zeros(channels, np.int8),
        stride=(side, side),
        padding=((0, 0),) * 2,
        dilation=(1, 1),
        groups=channels,
    )


def speck_network(
    kind: str, seed: int, *, layers: int = 3, bias: bool = True, threshold: int = 24
) -> Graph:
    """Spikes [3, 6, 6] through layers of a kind to a readout; the first layer shows the kind."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = [Input(name="input", shape=(3, 6, 6), dtype="uint8", encoding="events")]
    match kind:
        case "conv" | "hard":
            nodes += [convolution("c0", "input", rng, (4, 3, 3, 3), padding=1)]
        case "strided":
            nodes += [convolution("c0", "input", rng, (4, 3, 2, 2), stride=2)]
        case "grouped":
            nodes += [convolution("c0", "input", rng, (6, 1, 3, 3), padding=1, groups=3)]
        case "pooled":
            nodes += [window_sum("pool", "input", 3, 2)]
            nodes += [convolution("c0", "pool", rng, (4, 3, 3, 3), padding=1)]
        case "linear":
            weight = rng.integers(-9, 11, (7, 108)).astype(np.int8)
            own = rng.integers(-3, 4, 7).astype(np.int32)
            nodes += [Flatten(name="flat0", inputs=("input",))]
            nodes += [Linear(name="c0", inputs=("flat0",), weight=weight, bias=own)]
        case "join":
            nodes += [convolution("first", "input", rng, (4, 3, 3, 3), padding=1)]
            nodes += [neurons("p", "first", rng, 4)]
            scale = rng.integers(3, 9, (4, 1, 1)).astype(np.int32)
            shift = np.zeros((4, 1, 1), np.int32)
            nodes += [ChannelAffine(name="short", inputs=("p",), scale=scale, shift=shift)]
            nodes += [convolution("second", "p", rng, (4, 4, 3, 3), padding=1)]
            nodes += [neurons("q", "second", rng, 4)]
            nodes += [convolution("third", "q", rng, (4, 4, 3, 3), padding=1)]
            nodes += [Add(name="c0", inputs=("third", "short"))]
    vector = kind == "linear"
    channels = {"grouped": 6, "linear": 7}.get(kind, 4)
    population = neurons("p0", "c0", rng, channels, 0 if vector else 2)
    nodes.append(population)
    graph = Graph(nodes=(*nodes, Output(name="output", inputs=("p0",))), time_steps=4)
    shape = graph.shape("p0")
    for number in range(1, layers):
        width = int(np.prod(shape))
        weight = rng.integers(-9, 11, (8, width)).astype(np.int8)
        own = rng.integers(-3, 4, 8).astype(np.int32)
        nodes.append(Flatten(name=f"flat{number}", inputs=(nodes[-1].name,)))
        nodes.append(Linear(name=f"c{number}", inputs=(nodes[-1].name,), weight=weight, bias=own))
        nodes.append(neurons(f"p{number}", f"c{number}", rng, 8, 0))
        shape = (8,)
    end = Output(name="output", inputs=(nodes[-1].name,))
    graph = Graph(nodes=(*nodes, end), time_steps=4)
    return graph.map(
        lambda node: _changed(node, hard=kind == "hard", bias=bias, threshold=threshold)
    )


def scaled(name: str, source: str, shape: tuple[int, ...], *, shift: int = 0) -> ChannelAffine:
    """A diagonal connection with scales of 1 to 3, and shifts up to `shift`, of a shape."""
    values = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    return ChannelAffine(
        name=name, inputs=(source,), scale=1 + values % 3, shift=values % (shift + 1)
    )


def flattened_network(
    shape: tuple[int, ...] = (2, 2, 2), *, before: Node | None = None, after: Node | None = None
) -> Graph:
    """Spikes -> before -> flatten -> after -> population of a neuron per value -> readout."""
    nodes: list[Node] = [Input(name="input", shape=shape, dtype="uint8", encoding="events")]
    nodes += [before] if before is not None else []
    nodes.append(Flatten(name="flat", inputs=(nodes[-1].name,)))
    nodes += [after] if after is not None else []
    size = int(
        np.prod(Graph(nodes=(*nodes, Output(name="o", inputs=(nodes[-1].name,)))).shape("flat"))
    )
    nodes += [
        IF(
            name="p0",
            inputs=(nodes[-1].name,),
            v_threshold=np.full(1, 3, np.int32),
            v_init=np.full(1, 1.5, np.float32),
        ),
        Linear(
            name="c1",
            inputs=("p0",),
            weight=np.ones((2, size), np.int8),
            bias=np.zeros(2, np.int32),
        ),
        Output(name="output", inputs=("c1",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def twice(*, sum_first: bool = False, bias: int = 1) -> Graph:
    """A convolution with a bias that a sum names twice, or that reads twice the input."""
    names = ("sum", "c0") if sum_first else ("c0", "sum")
    one = Conv(
        name="c0",
        inputs=("sum",) if sum_first else ("input",),
        weight=np.ones((1, 1, 1, 1), np.int8),
        bias=np.full(1, bias, np.int32),
        stride=(1, 1),
        padding=((0, 0),) * 2,
        dilation=(1, 1),
    )
    neuron = IF(
        name="p0",
        inputs=names[1:],
        v_threshold=np.full((1, 1, 1), 4, np.int32),
        v_init=np.full((1, 1, 1), 0.5, np.float32),
    )
    total = Add(name="sum", inputs=("input", "input") if sum_first else ("c0", "c0"))
    nodes = (
        Input(name="input", shape=(1, 1, 1), dtype="uint8", encoding="events"),
        *((total, one) if sum_first else (one, total)),
        neuron,
        Output(name="output", inputs=("p0",)),
    )
    return Graph(nodes=nodes, time_steps=4)


def _changed(node: Node, *, hard: bool, bias: bool, threshold: int) -> Node:
    if isinstance(node, IF):
        node = replace(node, v_threshold=np.full(node.v_threshold.shape, threshold, np.int32))
    if isinstance(node, IF) and hard:
        return replace(node, v_reset=np.full(node.v_threshold.shape, 0.5, np.float32))
    if isinstance(node, (Conv, Linear)) and not bias:
        return replace(node, bias=np.zeros_like(node.bias))
    return node


def spikes_for(graph: Graph, count: int, seed: int, rate: float = 0.3) -> Array:
    """Random spikes [T, N, *shape]."""
    rng = np.random.default_rng(seed)
    found: Array = (rng.random((graph.steps, count, *graph.input.shape)) < rate).astype(np.uint8)
    return found
