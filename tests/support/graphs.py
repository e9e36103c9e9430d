"""Small networks that many tests need, and hypothesis strategies that build random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Part,
    Relu,
    broadcast_shapes,
)

DYADIC = 1 / 64
"""All random parameters are multiples of this, so that float sums are exact in any order."""

OFF_LATTICE = 2.0**-14
"""Finer than any current: input times weight is a multiple of 2**-12."""


def dyadic(rng: np.random.Generator, *shape: int, low: int = -32, high: int = 32) -> Array:
    """Random multiples of DYADIC in [low, high] / 64, float32."""
    return (rng.integers(low, high + 1, shape) * DYADIC).astype(np.float32)


def conv(
    name: str,
    source: str,
    rng: np.random.Generator,
    channels: tuple[int, int],
    kernel: tuple[int, ...] = (3, 3),
    *,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> Conv:
    """A convolution of random dyadic weights; channels = (in, out)."""
    axes = len(kernel)
    return Conv(
        name=name,
        inputs=(source,),
        weight=dyadic(rng, channels[1], channels[0] // groups, *kernel),
        bias=dyadic(rng, channels[1]),
        stride=(stride,) * axes,
        padding=((padding, padding),) * axes,
        dilation=(dilation,) * axes,
        groups=groups,
    )


def spiking(name: str, source: str, rng: np.random.Generator, shape: tuple[int, ...]) -> IF:
    """A population with a random dyadic threshold and initial potential per channel.

    v_init sits beside the lattice of all currents, so that no potential ever equals its threshold.
    """
    per_channel = (shape[0], *(1,) * (len(shape) - 1))
    v_init = dyadic(rng, *per_channel, low=0, high=48) + np.float32(OFF_LATTICE)
    return IF(
        name=name,
        inputs=(source,),
        v_threshold=dyadic(rng, *per_channel, low=48, high=128),
        v_init=v_init,
    )


def residual_network(seed: int = 0, time_steps: int = 8) -> Graph:
    """Two populations joined by an identity shortcut, pooling, a flatten and a linear readout."""
    rng = np.random.default_rng(seed)
    shape = (4, 6, 6)
    one = np.ones((1, 1, 1), np.float32)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 6, 6)),
        conv("stem.conv", "input", rng, (2, 4)),
        spiking("stem.if", "stem.conv", rng, shape),
        conv("block.conv1", "stem.if", rng, (4, 4)),
        spiking("block.if1", "block.conv1", rng, shape),
        conv("block.conv2", "block.if1", rng, (4, 4)),
        ChannelAffine(name="block.shortcut", inputs=("stem.if",), scale=one * 0.75, shift=one * 0),
        Add(name="block.add", inputs=("block.conv2", "block.shortcut")),
        spiking("block.if2", "block.add", rng, shape),
        AvgPool(
            name="pool",
            inputs=("block.if2",),
            kernel=(2, 2),
            stride=(2, 2),
            padding=((0, 0), (0, 0)),
        ),
        Flatten(name="flatten", inputs=("pool",)),
        Linear(name="head", inputs=("flatten",), weight=dyadic(rng, 10, 36), bias=dyadic(rng, 10)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps)


def sequential_network(seed: int = 0, time_steps: int = 6) -> Graph:
    """Three populations in a row, an image that is not square, pooling before two layers."""
    rng = np.random.default_rng(seed)
    unpadded = ((0, 0), (0, 0))
    nodes: list[Node] = [
        Input(name="input", shape=(2, 8, 7)),
        conv("conv1", "input", rng, (2, 4)),
        spiking("if1", "conv1", rng, (4, 8, 7)),
        AvgPool(name="pool1", inputs=("if1",), kernel=(2, 1), stride=(2, 1), padding=unpadded),
        conv("conv2", "pool1", rng, (4, 6), stride=2, groups=2),
        spiking("if2", "conv2", rng, (6, 2, 4)),
        AvgPool(name="pool2", inputs=("if2",), kernel=(2, 2), stride=(2, 2), padding=unpadded),
        Flatten(name="flatten", inputs=("pool2",)),
        Linear(name="fc", inputs=("flatten",), weight=dyadic(rng, 12, 12), bias=dyadic(rng, 12)),
        spiking("if3", "fc", rng, (12,)),
        Linear(name="head", inputs=("if3",), weight=dyadic(rng, 5, 12), bias=dyadic(rng, 5)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps, readout_start=time_steps // 3)


def with_parts(graph: Graph, seed: int = 0) -> Graph:
    """The network with two inputs and two outputs, whose values lie in it in a random order.

    One value of the input is always 0, and the first output leaves a softmax to the host. Where the
    output is a single value, there is one output, of shape ().
    """
    rng = np.random.default_rng(seed)
    shape, result = graph.input.shape, graph.shape(graph.output.name)
    values, logits = int(np.prod(shape)), int(np.prod(result))
    index = rng.permutation(values)
    index[0] = -1
    first = (values + 1) // 2
    takes = (Part("left", (first,)), Part("right", (values - first + 1, 1)))
    half = logits // 2
    gives = (Part("scores", (half, 1), "softmax"), Part("box", (logits - half,)))
    return graph.replace(
        replace(graph.input, index=index.reshape(shape), parts=takes),
        replace(graph.output, index=rng.permutation(logits), parts=gives)
        if half
        else replace(graph.output, parts=(Part("size", ()),)),
    )


def two_headed_network(seed: int = 0, time_steps: int = 8, small: float = 1.0) -> Graph:
    """Scores of five classes beside three numbers, `small` times as large, joined by a sum."""
    rng = np.random.default_rng(seed)
    scores, box = dyadic(rng, 5, 16), dyadic(rng, 3, 16)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 4, 4)),
        conv("stem.conv", "input", rng, (2, 4), stride=2),
        spiking("stem.if", "stem.conv", rng, (4, 2, 2)),
        Flatten(name="flatten", inputs=("stem.if",)),
        Linear(
            name="scores",
            inputs=("flatten",),
            weight=np.concatenate([scores, np.zeros((3, 16), np.float32)]),
            bias=np.concatenate([dyadic(rng, 5), np.zeros(3, np.float32)]),
        ),
        Linear(
            name="box",
            inputs=("flatten",),
            weight=np.concatenate([np.zeros((5, 16), np.float32), box * np.float32(small)]),
            bias=np.concatenate([np.zeros(5, np.float32), dyadic(rng, 3) * np.float32(small)]),
        ),
        Add(name="joined", inputs=("scores", "box")),
        Output(
            name="output",
            inputs=("joined",),
            index=np.array([5, 6, 7, 0, 1, 2, 3, 4]),
            parts=(Part("box", (3,)), Part("scores", (5,), "softmax")),
        ),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps)


def samples(graph: Graph, count: int, seed: int = 1) -> Array:
    """Random dyadic inputs that fit the graph, [count, *shape], float32."""
    return dyadic(np.random.default_rng(seed), count, *graph.input.shape, low=-64, high=64)


def with_hard_reset(graph: Graph, seed: int = 0) -> Graph:
    """The network with a random v_reset of each channel, beside the lattice of all currents."""
    rng = np.random.default_rng(seed)
    hard = [
        replace(node, v_reset=dyadic(rng, *node.v_init.shape) + np.float32(OFF_LATTICE))
        for node in graph.nodes_of(IF)
    ]
    return graph.replace(*hard)


@st.composite
def if_graphs(draw: st.DrawFn, resets: tuple[str, ...] = ("subtract",)) -> Graph:
    """A random IF network on one or two spatial axes whose float sums are exact in any order.

    Strides, dilation, groups, asymmetric padding, pooling, joins (identity, convolved, doubled),
    T from 1 to 6, readout_start, per-channel thresholds, negative currents; one of the resets,
    "subtract" and "v_reset".
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = draw(st.sampled_from([1, 2, 2]))
    channels = draw(st.sampled_from([1, 2, 4]))
    shape: tuple[int, ...] = (channels, *(draw(st.integers(4, 7)) for _ in range(axes)))
    nodes: list[Node] = [Input(name="input", shape=shape)]
    last = "input"
    for layer in range(draw(st.integers(1, 3))):
        name = f"layer{layer}"
        groups = draw(st.sampled_from([1, shape[0]]))
        width = groups * draw(st.sampled_from([1, 2]))
        kernel = min(draw(st.sampled_from([1, 2, 3])), *shape[1:])
        node = Conv(
            name=f"{name}.conv",
            inputs=(last,),
            weight=dyadic(rng, width, shape[0] // groups, *(kernel,) * axes),
            bias=dyadic(rng, width),
            stride=(draw(st.sampled_from([1, 1, 2])),) * axes,
            padding=tuple((draw(st.integers(0, 1)), draw(st.integers(0, 1))) for _ in range(axes)),
            dilation=(
                draw(st.sampled_from([1, 1, 2])) if kernel == 2 and min(shape[1:]) > 2 else 1,
            )
            * axes,
            groups=groups,
        )
        shape = node.output_shape(shape)
        population = spiking(f"{name}.if", node.name, rng, shape)
        nodes += [node, population]
        last = population.name
        join = draw(st.sampled_from(["none", "identity", "conv", "double"]))
        if join != "none":
            branch = conv(f"{name}.branch", last, rng, (shape[0],) * 2, (1,) * axes, padding=0)
            scale = ChannelAffine(
                name=f"{name}.shortcut",
                inputs=(last,),
                scale=dyadic(rng, shape[0], *(1,) * axes),
                shift=dyadic(rng, 1, *(1,) * axes),
            )
            other = {"identity": scale.name, "conv": last, "double": branch.name}[join]
            add = Add(name=f"{name}.add", inputs=(branch.name, other))
            joined = spiking(f"{name}.join", add.name, rng, shape)
            nodes += [branch, *([scale] if join == "identity" else []), add, joined]
            last = joined.name
        if min(shape[1:]) >= 2 and draw(st.booleans()):
            pool = AvgPool(
                name=f"{name}.pool",
                inputs=(last,),
                kernel=(2,) * axes,
                stride=(2,) * axes,
                padding=((0, 0),) * axes,
            )
            shape = pool.output_shape(shape)
            nodes.append(pool)
            last = pool.name
    time_steps = draw(st.integers(1, 6))
    features = int(np.prod(shape))
    head = Linear(
        name="head", inputs=("flatten",), weight=dyadic(rng, 3, features), bias=dyadic(rng, 3)
    )
    nodes += [
        Flatten(name="flatten", inputs=(last,)),
        head,
        Output(name="output", inputs=("head",)),
    ]
    start = draw(st.integers(0, time_steps - 1))
    graph = Graph(nodes=tuple(nodes), time_steps=time_steps, readout_start=start)
    if draw(st.sampled_from(resets)) == "v_reset":
        graph = with_hard_reset(graph, draw(st.integers(0, 2**32 - 1)))
    return graph


class _Layers:
    """Nodes stacked one on the other, with the shape of the last."""

    def __init__(self, draw: st.DrawFn, shape: tuple[int, ...]) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes: list[Node] = [Input(name="input", shape=shape)]
        self.shape = shape

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    def put(self, node: Node) -> str:
        """Append a node that takes the last one, or others of its shape."""
        self.nodes.append(node)
        self.shape = node.output_shape(*(self.shape,) * len(node.inputs))
        return node.name

    def maybe_scale(self, name: str) -> str:
        """A Scale or none: per layer, channel or neuron, with a shift or pure."""
        if not self.draw(st.booleans()):
            return self.last
        allowed = broadcast_shapes(self.shape)
        shift = dyadic(self.rng, *self.draw(st.sampled_from(allowed)))
        scale = ChannelAffine(
            name=name,
            inputs=(self.last,),
            scale=dyadic(self.rng, *self.draw(st.sampled_from(allowed)), low=-64, high=64),
            shift=shift if self.draw(st.booleans()) else shift * 0,
        )
        return self.put(scale)

    def convolution(self, name: str) -> str:
        """Random groups, kernel, stride and asymmetric padding."""
        axes = len(self.shape) - 1
        groups = self.draw(st.sampled_from([1, self.shape[0]]))
        width = groups * self.draw(st.sampled_from([1, 2]))
        kernel = min(self.draw(st.sampled_from([1, 2, 3])), *self.shape[1:])
        pads = st.tuples(st.integers(0, 1), st.integers(0, 1))
        return self.put(
            Conv(
                name=name,
                inputs=(self.last,),
                weight=dyadic(self.rng, width, self.shape[0] // groups, *(kernel,) * axes),
                bias=dyadic(self.rng, width),
                stride=(self.draw(st.sampled_from([1, 1, 2])),) * axes,
                padding=self.draw(st.sampled_from([((0, 0),) * axes, None]))
                or tuple(self.draw(pads) for _ in range(axes)),
                dilation=(1,) * axes,
                groups=groups,
            )
        )

    def pool(self, name: str) -> str:
        axes = len(self.shape) - 1
        pad = self.draw(st.integers(0, 1))
        return self.put(
            AvgPool(
                name=name,
                inputs=(self.last,),
                kernel=(2,) * axes,
                stride=(self.draw(st.sampled_from([1, 2])),) * axes,
                padding=((0, pad),) * axes,
            )
        )

    def rectifier(self, name: str) -> str:
        upper = self.draw(st.sampled_from([None, None, 0.75]))
        return self.put(Relu(name=name, inputs=(self.last,), upper=upper))

    def join(self, name: str) -> None:
        """A convolved branch and an identity or a scaled shortcut, summed."""
        fork, axes = self.last, len(self.shape) - 1
        width = self.shape[0]
        branch = self.put(conv(f"{name}.branch", fork, self.rng, (width,) * 2, (3,) * axes))
        shortcut = fork
        if self.draw(st.booleans()):
            shortcut = self.put(
                ChannelAffine(
                    name=f"{name}.shortcut",
                    inputs=(fork,),
                    scale=dyadic(self.rng, width, *(1,) * axes),
                    shift=dyadic(self.rng, 1, *(1,) * axes),
                )
            )
        self.put(Add(name=f"{name}.add", inputs=(branch, shortcut)))
        self.rectifier(f"{name}.relu_join")


@st.composite
def ann_graphs(draw: st.DrawFn) -> Graph:
    """A random ANN on one or two spatial axes, with Scales in every place that can hold one.

    Grouped, strided, unevenly padded convolutions, bounded rectifiers, residual joins whose fork
    may be a Scale, padded pooling, a flatten and a linear readout.
    """
    axes = draw(st.sampled_from([1, 2]))
    shape = (draw(st.sampled_from([1, 2, 4])), *(draw(st.integers(3, 5)) for _ in range(axes)))
    layers = _Layers(draw, shape)
    for number in range(draw(st.integers(1, 2))):
        name = f"layer{number}"
        layers.maybe_scale(f"{name}.before")
        layers.convolution(f"{name}.conv")
        layers.maybe_scale(f"{name}.norm")
        layers.rectifier(f"{name}.relu")
        layers.maybe_scale(f"{name}.amplitude")
        if draw(st.booleans()):
            layers.join(name)
            layers.maybe_scale(f"{name}.joined")
        if min(layers.shape[1:]) >= 2 and draw(st.booleans()):
            layers.pool(f"{name}.pool")
            layers.maybe_scale(f"{name}.pooled")
    layers.put(Flatten(name="flatten", inputs=(layers.last,)))
    layers.maybe_scale("features")
    weight = dyadic(layers.rng, 3, layers.shape[0])
    bias = dyadic(layers.rng, 3)
    layers.put(Linear(name="head", inputs=(layers.last,), weight=weight, bias=bias))
    layers.maybe_scale("temperature")
    return Graph(nodes=(*layers.nodes, Output(name="output", inputs=(layers.last,))))


def residual_ann(seed: int = 0) -> Graph:
    """Three rectifiers, the last behind a sum with an identity shortcut."""
    rng = np.random.default_rng(seed)
    nodes = (
        Input(name="input", shape=(2, 5, 5)),
        conv("conv1", "input", rng, (2, 3)),
        Relu(name="relu1", inputs=("conv1",)),
        conv("conv2", "relu1", rng, (3, 3)),
        Relu(name="relu2", inputs=("conv2",)),
        conv("conv3", "relu2", rng, (3, 3)),
        Add(name="join", inputs=("conv3", "relu1")),
        Relu(name="relu3", inputs=("join",)),
        Flatten(name="flatten", inputs=("relu3",)),
        Linear(
            name="linear",
            inputs=("flatten",),
            weight=rng.normal(size=(4, 75)).astype(np.float32) / 8,
            bias=np.zeros(4, np.float32),
        ),
        Output(name="output", inputs=("linear",)),
    )
    return Graph(nodes=nodes)


def spiking_network(ann: Graph, steps: int = 6) -> Graph:
    column = np.full((1, 1, 1), 1.5, np.float32)
    populations = {
        relu.name: PopulationParameters(v_threshold=column, v_init=column / 2)
        for relu in ann.nodes_of(Relu)
    }
    return to_spiking(ann, populations, steps)


def random_images(count: int = 6) -> Array:
    return np.random.default_rng(1).normal(size=(count, 2, 5, 5)).astype(np.float32)
