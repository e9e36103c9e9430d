"""Composing what lies between populations changes no result and leaves single connections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Relu,
)
from icsnn_deploy.passes.compose import compose
from tests.support.graphs import conv, dyadic

SHAPE = (4, 7, 6)
ONE = np.ones((1, 1, 1), np.float32)
POINTWISE = ("pointwise", "scale")
KINDS = ("conv", "depthwise", "pick", "pool", *POINTWISE)


def node_after(
    draw: st.DrawFn, rng: np.random.Generator, name: str, source: str, kinds: tuple[str, ...]
) -> Node:
    """A random linear node that keeps the number of channels."""
    per_channel = (SHAPE[0], 1, 1)
    kind = draw(st.sampled_from(kinds))
    stride, padding = draw(st.sampled_from([1, 1, 2])), draw(st.integers(0, 1))
    if kind == "scale":
        shift = dyadic(rng, *per_channel) * draw(st.booleans())
        return ChannelAffine(
            name=name, inputs=(source,), scale=dyadic(rng, *per_channel), shift=shift
        )
    if kind == "pool":
        pair = (padding, padding)
        return AvgPool(
            name=name, inputs=(source,), kernel=(2, 2), stride=(1, 1), padding=(pair, pair)
        )
    size = {"pointwise": 1, "pick": 2}.get(kind, draw(st.sampled_from([1, 2, 3])))
    groups = {"depthwise": 4, "pick": 4}.get(kind, draw(st.sampled_from([1, 2])))
    made = conv(
        name,
        source,
        rng,
        (4, 4),
        (size, size),
        stride=stride,
        padding=min(padding, size - 1),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
    )
    if kind == "pick":
        weight = np.zeros_like(made.weight)
        weight[..., rng.integers(2), rng.integers(2)] = 1
        made = replace(made, weight=weight)
    return made if draw(st.booleans()) else replace(made, bias=np.zeros(4, np.float32))


@st.composite
def linear_tangles(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Graph:
    """Two rectifiers, and between them and the output linear nodes, with joins, in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes: list[Node] = [
        Input(name="input", shape=SHAPE),
        conv("first", "input", rng, (4, 4)),
        Relu(name="a", inputs=("first",)),
        conv("second", "a", rng, (4, 4)),
        Relu(name="b", inputs=("second",)),
    ]
    shapes: dict[str, tuple[int, ...]] = {"a": SHAPE, "b": SHAPE}
    for number in range(draw(st.integers(2, 6))):
        name, source = f"n{number}", draw(st.sampled_from(sorted(shapes)))
        alike = [other for other, shape in shapes.items() if shape == shapes[source]]
        if draw(st.booleans()):
            node: Node = Add(name=name, inputs=(source, draw(st.sampled_from(alike))))
        else:
            node = node_after(draw, rng, name, source, kinds)
        if min((*shapes[source][1:], 9)) < 4:
            continue  # too small for another window
        try:
            shapes[name] = node.output_shape(*(shapes[s] for s in node.inputs))
        except GraphError:
            continue  # a dilated window reaches further
        nodes.append(node)
    # Every end is flattened into one readout, some through another rectifier.
    taken = {source for node in nodes for source in node.inputs}
    sums = []
    for name in [n for n in shapes if n not in taken]:
        last = name
        if draw(st.booleans()):
            nodes.append(Relu(name=f"{name}.relu", inputs=(name,)))
            last = f"{name}.relu"
        nodes.append(Flatten(name=f"{name}.flat", inputs=(last,)))
        width = int(np.prod(shapes[name]))
        head = Linear(
            name=f"{name}.head",
            inputs=(f"{name}.flat",),
            weight=dyadic(rng, 3, width),
            bias=dyadic(rng, 3),
        )
        nodes.append(head)
        sums.append(head.name)
    if len(sums) > 1:
        nodes.append(Add(name="sum", inputs=tuple(sums)))
    nodes.append(Output(name="output", inputs=(nodes[-1].name,)))
    return Graph(nodes=tuple(nodes))


@settings(max_examples=150, deadline=None)
@given(linear_tangles())
def test_results_stay(graph: Graph) -> None:
    assert_results_stay(graph)


def assert_results_stay(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    expected, found = run_ann(graph, x), run_ann(compose(graph), x)
    size = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * size)


@settings(max_examples=50, deadline=None)
@given(linear_tangles(POINTWISE))
def test_what_always_composes_leaves_single_connections(graph: Graph) -> None:
    composed = compose(graph)
    for node in composed.nodes_of(Conv, ChannelAffine):
        assert isinstance(composed.node(node.inputs[0]), (Relu, Input))


@settings(max_examples=50, deadline=None)
@given(linear_tangles())
def test_each_sum_has_connections_of_its_own(graph: Graph) -> None:
    composed = compose(graph)
    for node in composed.nodes_of(Conv, Linear, ChannelAffine):
        consumers = composed.consumers(node.name)
        assert len(consumers) == 1 or not any(isinstance(one, Add) for one in consumers)


def pool(name: str, source: str, size: int) -> AvgPool:
    return AvgPool(
        name=name,
        inputs=(source,),
        kernel=(size, size),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
    )


@pytest.mark.parametrize(
    "foreign",
    [pool("c.p", "a", 2), ChannelAffine(name="c.p", inputs=("a",), scale=ONE * 2, shift=ONE)],
    ids=["pool", "scale"],
)
def test_a_pooling_made_in_front_is_not_another_node_of_its_name(foreign: Node) -> None:
    rng = np.random.default_rng(0)
    pointwise = conv("c", "a", rng, (4, 4), (1, 1), padding=0)
    heads: list[Node] = []
    for name, size in ((foreign.name, foreign.output_shape(SHAPE)), ("p", (4, 5, 4))):
        heads.append(Flatten(name=f"{name}.flat", inputs=(name,)))
        weight = dyadic(rng, 3, int(np.prod(size)))
        zeros = np.zeros(3, np.float32)
        inputs = (f"{name}.flat",)
        heads.append(Linear(name=f"{name}.head", inputs=inputs, weight=weight, bias=zeros))
    ends = (
        Add(name="sum", inputs=("c.p.head", "p.head")),
        Output(name="output", inputs=("sum",)),
    )
    start = (Input(name="input", shape=SHAPE), Relu(name="a", inputs=("input",)))
    assert_results_stay(Graph(nodes=(*start, foreign, pointwise, pool("p", "c", 3), *heads, *ends)))


def test_a_source_is_pooled_once_for_all_its_connections() -> None:
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="input", shape=SHAPE),
        Relu(name="a", inputs=("input",)),
        conv("b", "a", rng, (4, 4), (1, 1), padding=0),
        conv("c", "a", rng, (4, 4), (1, 1), padding=0),
        Add(name="sum", inputs=("b", "c")),
        pool("p", "sum", 2),
        Output(name="output", inputs=("p",)),
    )
    graph = Graph(nodes=nodes)
    assert [node.inputs for node in compose(graph).nodes_of(AvgPool)] == [("a",)]
    assert_results_stay(graph)


def test_a_flattened_sum_of_populations_becomes_connections_from_each() -> None:
    rng = np.random.default_rng(0)
    scale = dyadic(rng, 4, 1, 1)
    nodes = (
        Input(name="input", shape=SHAPE),
        Relu(name="a", inputs=("input",)),
        conv("c", "a", rng, (4, 4)),
        Relu(name="b", inputs=("c",)),
        ChannelAffine(name="scaled", inputs=("b",), scale=scale, shift=dyadic(rng, 4, 1, 1)),
        Add(name="sum", inputs=("a", "scaled")),
        Flatten(name="flat", inputs=("sum",)),
        Linear(name="h", inputs=("flat",), weight=dyadic(rng, 3, 168), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("h",)),
    )
    graph = Graph(nodes=nodes)
    composed = compose(graph)
    flattened = [composed.node(node.inputs[0]) for node in composed.nodes_of(Linear)]
    assert [node.inputs for node in flattened] == [("a",), ("b",)]
    assert_results_stay(graph)


@settings(max_examples=50, deadline=None)
@given(linear_tangles())
def test_composing_twice_is_composing_once(graph: Graph) -> None:
    once = compose(graph)
    assert compose(once).hash() == once.hash()


def test_a_sum_with_the_input_itself_composes() -> None:
    """conv(x + conv(x)): the input is a summand that stands for no node."""
    rng = np.random.default_rng(0)
    graph = Graph(
        nodes=(
            Input(name="x", shape=(2, 5, 5)),
            conv("a", "x", rng, (2, 2), padding=1),
            Add(name="sum", inputs=("x", "a")),
            conv("b", "sum", rng, (2, 2)),
            Output(name="y", inputs=("b",)),
        )
    )
    x = np.random.default_rng(1).normal(size=(3, 2, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(run_ann(compose(graph), x), run_ann(graph, x), atol=1e-5)
