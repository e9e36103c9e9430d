"""A strategy of integer networks with every node kind in any order, as no quantizer writes them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Encoding,
    Flatten,
    Input,
    InputDtype,
    Linear,
    Node,
    Output,
    Shape,
    broadcast_shapes,
)
from icsnn_deploy.lattice.prepare import is_exact, prepare
from icsnn_deploy.lattice.round_network import round_to_lattice
from tests.support.graphs import samples


class _Builder:
    """Nodes that are put one on the other; any earlier one of the right shape may be read again."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.hard = draw(st.sampled_from([False, False, True]))
        self.large = draw(st.sampled_from([3, 127, 1000]))  # weights of 8 bits and more

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    def put(self, node: Node) -> None:
        self.nodes.append(node)
        self.shapes[node.name] = node.output_shape(*(self.shapes[name] for name in node.inputs))

    def name(self) -> str:
        return f"n{len(self.nodes)}.{self.draw(st.sampled_from(['a', 'int', '1']))}"

    def integers(self, *shape: int) -> Array:
        values: Array = self.rng.integers(-self.large, self.large + 1, shape)
        return values.astype(np.int32 if self.large > 127 else np.int8)

    def convolve(self) -> None:
        axes = len(self.shape) - 1
        groups = self.draw(st.sampled_from([1, 1, self.shape[0]]))
        outputs = groups * self.draw(st.sampled_from([1, 2, 3]))
        kernel = [self.draw(st.integers(1, min(3, n))) for n in self.shape[1:]]
        node = Conv(
            name=self.name(),
            inputs=(self.last,),
            weight=self.integers(outputs, self.shape[0] // groups, *kernel),
            bias=self.integers(outputs),
            stride=tuple(self.draw(st.sampled_from([1, 1, 2, 3])) for _ in range(axes)),
            padding=tuple(
                (self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))) for _ in range(axes)
            ),
            dilation=tuple(
                1 if 2 * (k - 1) >= n else self.draw(st.sampled_from([1, 1, 2]))
                for k, n in zip(kernel, self.shape[1:], strict=True)
            ),
            groups=groups,
        )
        self.put(node)

    def affine(self) -> None:
        shapes = broadcast_shapes(self.shape)
        scale, shift = (self.integers(*self.draw(st.sampled_from(shapes))) for _ in range(2))
        self.put(ChannelAffine(name=self.name(), inputs=(self.last,), scale=scale, shift=shift))

    def linear(self) -> None:
        weight = self.integers(self.draw(st.integers(1, 5)), self.shape[0])
        bias = self.integers(len(weight))
        self.put(Linear(name=self.name(), inputs=(self.last,), weight=weight, bias=bias))

    def join(self) -> None:
        others = [name for name, shape in self.shapes.items() if shape == self.shape]
        other = self.draw(st.sampled_from(others))
        self.put(Add(name=self.name(), inputs=(self.last, other)))

    def flatten(self) -> None:
        self.put(Flatten(name=self.name(), inputs=(self.last,)))

    def fire(self) -> None:
        shapes = broadcast_shapes(self.shape)
        high = self.draw(st.sampled_from([5, 500, 100_000]))
        threshold = self.rng.integers(1, high, self.draw(st.sampled_from(shapes))).astype(np.int32)
        start = self.rng.integers(-high, high, self.draw(st.sampled_from(shapes))) + 0.5
        reset = None
        if self.hard:
            reset = self.rng.integers(-high, high, self.draw(st.sampled_from(shapes))) + 0.5
        node = IF(
            name=self.name(),
            inputs=(self.last,),
            v_threshold=threshold,
            v_init=start.astype(np.float32),
            v_reset=None if reset is None else reset.astype(np.float32),
        )
        self.put(node)


@st.composite
def wild_integer_graphs(draw: st.DrawFn) -> Graph:
    """An integer network of random nodes in random order, at least one of them a population.

    Sums in a row without a population, populations on the input, flattened maps of spikes and of
    sums, sums that are read twice, parameters per layer, channel and neuron, hard and soft reset;
    every encoding and type of input. It may not certify: only 32 bits are enough.
    """
    builder = _Builder(draw)
    axes = draw(st.sampled_from([0, 1, 2, 2]))
    shape = (draw(st.sampled_from([1, 2, 3])), *(draw(st.integers(2, 5)) for _ in range(axes)))
    encoding: Encoding = draw(st.sampled_from(["direct", "direct", "rate", "events"]))
    dtype: InputDtype = (
        draw(st.sampled_from(["uint8", "int8", "int16"])) if encoding == "direct" else "uint8"
    )
    builder.put(Input(name="in", shape=shape, encoding=encoding, dtype=dtype))
    since = 0  # linear nodes since the last population: sums of sums grow fast
    for _ in range(draw(st.integers(1, 6))):
        image = len(builder.shape) > 1
        kinds = ["convolve", "affine", "flatten"] if image else ["linear", "affine"]
        kind = draw(st.sampled_from([*kinds, "join", "fire", "fire"]))
        if since >= 2 and kind not in ("flatten", "join"):
            kind = "fire"
        since = 0 if kind == "fire" else since + (kind != "flatten")
        getattr(builder, kind)()
    builder.fire()
    if draw(st.booleans()):
        if len(builder.shape) > 1:
            builder.flatten()
        builder.linear()
    used = {name for node in builder.nodes for name in node.inputs}
    assert math.prod(builder.shape) > 0
    assert used | {builder.last} == set(builder.shapes)
    builder.put(Output(name="out", inputs=(builder.last,)))
    steps = draw(st.sampled_from([1, 2, 5]))
    start = draw(st.integers(0, steps - 1))
    return Graph(nodes=tuple(builder.nodes), time_steps=steps, readout_start=start)


def on_lattice(graph: Graph, bits: int = 8) -> Graph:
    """A float network of tests/support/graphs.py with integer weights of some bits."""
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    weighted = [n for n in prepared.nodes_of(Conv, Linear) if not is_exact(n)]
    widths = {node.name: bits for node in weighted}
    return round_to_lattice(prepared, {}, widths, per_layer=False).graph


def on_spikes(graph: Graph) -> Graph:
    """An integer network on events: its input is spikes."""
    return graph.replace(replace(graph.input, encoding="events", dtype="uint8"))


def linear_network(time_steps: int = 3) -> Graph:
    """One connection, and no population."""
    weight = np.arange(6, dtype=np.int8).reshape(3, 2)
    nodes = (
        Input(name="x", shape=(2,), dtype="int8"),
        Linear(name="fc", inputs=("x",), weight=weight, bias=np.ones(3, np.int8)),
        Output(name="y", inputs=("fc",)),
    )
    return Graph(nodes=nodes, time_steps=time_steps)
