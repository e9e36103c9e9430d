"""Folding and merging keep what a network computes, fold all that they can, and are idempotent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
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
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise
from tests.support.graphs import ann_graphs, conv, dyadic, samples

SHAPE = (2, 5, 5)
CHANNEL, NEURON, LAYER = (2, 1, 1), SHAPE, (1, 1, 1)


def magnitude(graph: Graph, x: Array) -> float:
    """Bound of every partial sum of the network: all signs positive, no rectifier cuts."""

    def positive(node: Node) -> Node:
        if isinstance(node, Relu):
            return replace(node, upper=None)
        values: dict[str, Any] = {name: np.abs(value) for name, value in node.arrays().items()}
        return replace(node, **values)

    return float(run_ann(graph.map(positive), np.abs(x)).max())


def assert_same_function(graph: Graph, other: Graph) -> None:
    x = samples(graph, 3)
    tolerance = 1e-5 * magnitude(graph, x)
    np.testing.assert_allclose(run_ann(other, x), run_ann(graph, x), rtol=0, atol=tolerance)


def chain(*nodes: Node, shape: tuple[int, ...] = SHAPE) -> Graph:
    """Input, the nodes, output."""
    output = Output(name="output", inputs=(nodes[-1].name,))
    return Graph(nodes=(Input(name="input", shape=shape), *nodes, output))


def scale(
    name: str, source: str, factor: tuple[int, ...], shift: tuple[int, ...] | None = None
) -> ChannelAffine:
    """Random positive factors; random shifts, or none."""
    rng = np.random.default_rng(7)
    return ChannelAffine(
        name=name,
        inputs=(source,),
        scale=dyadic(rng, *factor, low=1, high=64),
        shift=np.zeros((1,) * len(factor)) if shift is None else dyadic(rng, *shift, low=1),
    )


def kinds(graph: Graph) -> list[str]:
    return [node.kind for node in graph.nodes[1:-1]]


@given(ann_graphs())
def test_folding_keeps_the_outputs(graph: Graph) -> None:
    folded = fold_scales(graph)
    assert_same_function(graph, folded)
    assert fold_scales(folded).hash() == folded.hash()


@given(ann_graphs())
def test_merging_keeps_the_outputs(graph: Graph) -> None:
    merged = merge_pointwise(graph)
    assert_same_function(graph, merged)
    assert merge_pointwise(merged).hash() == merged.hash()


@given(ann_graphs())
def test_no_scale_is_left_where_it_could_fold(graph: Graph) -> None:
    folded = fold_scales(graph)
    for left in folded.nodes_of(ChannelAffine):
        per_channel = all(n == 1 for n in (*left.scale.shape[1:], *left.shift.shape[1:]))
        for consumer in folded.consumers(left.name):
            assert not isinstance(consumer, (Linear, Flatten)), left.name
            if isinstance(consumer, (Conv, AvgPool)) and per_channel:
                assert left.shift.any(), left.name
                assert any(sum(pair) for pair in consumer.padding), left.name
        source = folded.node(left.inputs[0])
        alone = len(folded.consumers(source.name)) == 1
        assert not (isinstance(source, (Linear, ChannelAffine)) and alone), left.name
        assert not (isinstance(source, Conv) and alone and per_channel), left.name


@pytest.mark.parametrize("factor", [LAYER, CHANNEL])
def test_a_pure_scale_folds_into_a_padded_convolution(factor: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    graph = chain(scale("s", "input", factor), conv("conv", "s", rng, (2, 3)))
    folded = fold_scales(graph)
    assert kinds(folded) == ["conv"]
    assert_same_function(graph, folded)


@pytest.mark.parametrize("consumer", ["conv", "pool"])
def test_a_shift_in_front_of_padding_stays(consumer: str) -> None:
    rng = np.random.default_rng(0)
    pool = AvgPool(
        name="pool", inputs=("s",), kernel=(2, 2), stride=(2, 2), padding=((0, 1), (0, 0))
    )
    behind = conv("conv", "s", rng, (2, 3)) if consumer == "conv" else pool
    graph = chain(scale("s", "input", CHANNEL, LAYER), behind)
    assert fold_scales(graph).hash() == graph.hash()


def test_a_shift_folds_into_the_bias_of_an_unpadded_grouped_convolution() -> None:
    rng = np.random.default_rng(0)
    grouped = conv("conv", "s", rng, (4, 8), groups=2, stride=2, padding=0)
    graph = chain(scale("s", "input", (4, 1, 1), (4, 1, 1)), grouped, shape=(4, 5, 5))
    folded = fold_scales(graph)
    assert kinds(folded) == ["conv"]
    assert_same_function(graph, folded)


def test_a_scale_per_neuron_stays_beside_a_convolution() -> None:
    rng = np.random.default_rng(0)
    before = chain(scale("s", "input", NEURON), conv("conv", "s", rng, (2, 2)))
    after = chain(conv("conv", "input", rng, (2, 2)), scale("s", "conv", NEURON))
    for graph in (before, after):
        assert fold_scales(graph).hash() == graph.hash()


@pytest.mark.parametrize("factor", [LAYER, CHANNEL, NEURON])
def test_a_scale_moves_through_flatten_into_linear(factor: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        scale("s", "input", factor, factor),
        Flatten(name="flatten", inputs=("s",)),
        Linear(name="head", inputs=("flatten",), weight=dyadic(rng, 3, 50), bias=dyadic(rng, 3)),
    )
    folded = fold_scales(graph)
    assert kinds(folded) == ["flatten", "linear"]
    assert_same_function(graph, folded)


def test_a_scale_moves_through_pooling_into_a_convolution() -> None:
    rng = np.random.default_rng(0)
    pool = AvgPool(
        name="pool", inputs=("s",), kernel=(2, 2), stride=(2, 2), padding=((0, 1), (1, 0))
    )
    graph = chain(scale("s", "input", CHANNEL), pool, conv("conv", "pool", rng, (2, 3)))
    folded = fold_scales(graph)
    assert kinds(folded) == ["avg_pool", "conv"]
    assert_same_function(graph, folded)


def test_successive_scales_become_one() -> None:
    graph = chain(scale("a", "input", NEURON, LAYER), scale("b", "a", CHANNEL, NEURON))
    folded = fold_scales(graph)
    assert kinds(folded) == ["scale"]
    assert_same_function(graph, folded)


def test_each_consumer_of_a_scale_takes_it_or_keeps_it() -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        scale("s", "input", CHANNEL),
        conv("conv", "s", rng, (2, 2)),
        Add(name="add", inputs=("conv", "s")),
    )
    folded = fold_scales(graph)
    assert folded.node("conv").inputs == ("input",)
    assert folded.node("add").inputs == ("conv", "s")
    assert_same_function(graph, folded)


def test_a_scale_disappears_once_all_its_consumers_took_it() -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        scale("s", "input", CHANNEL),
        conv("left", "s", rng, (2, 2)),
        conv("right", "s", rng, (2, 2)),
        Add(name="add", inputs=("left", "right")),
    )
    folded = fold_scales(graph)
    assert kinds(folded) == ["conv", "conv", "add"]
    assert_same_function(graph, folded)


def test_a_scale_shared_by_flatten_and_a_convolution_splits() -> None:
    rng = np.random.default_rng(0)
    pooled = AvgPool(
        name="pool", inputs=("conv",), kernel=(5, 5), stride=(1, 1), padding=((0, 0), (0, 0))
    )
    graph = chain(
        scale("s", "input", NEURON),
        conv("conv", "s", rng, (2, 3)),  # can't take a factor per neuron
        Flatten(name="flatten", inputs=("s",)),
        Linear(name="one", inputs=("flatten",), weight=dyadic(rng, 3, 50), bias=dyadic(rng, 3)),
        pooled,
        Flatten(name="vector", inputs=("pool",)),
        Add(name="add", inputs=("one", "vector")),
    )
    folded = fold_scales(graph)
    assert folded.node("flatten").inputs == ("input",)
    assert folded.node("conv").inputs == ("s",)
    assert_same_function(graph, folded)


# merge_pointwise


def pointwise(name: str, source: str, weight: Array, stride: int = 1, groups: int = 1) -> Conv:
    """A convolution of kernel 1 without bias; weight [C_out, C_in / groups]."""
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight.reshape(*weight.shape, 1, 1),
        bias=np.zeros(len(weight)),
        stride=(stride, stride),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=groups,
    )


def pad(name: str, source: str, channels: int, padding: tuple[tuple[int, int], ...]) -> Conv:
    """A depthwise identity that pads."""
    return replace(
        pointwise(name, source, np.ones((channels, 1)), groups=channels), padding=padding
    )


def option_a(x: Array) -> Array:
    return np.pad(x[:, :, ::2, ::2], ((0, 0), (1, 1), (0, 0), (0, 0)))


SLICE = np.ones((2, 1))
CHANNELS = np.eye(4, 2, -1)  # one zero channel on either side


def test_a_slice_and_padded_channels_are_one_strided_convolution() -> None:
    graph = chain(
        pointwise("slice", "input", SLICE, stride=2, groups=2), pointwise("pad", "slice", CHANNELS)
    )
    merged = merge_pointwise(graph)
    assert kinds(merged) == ["conv"]
    (left,) = merged.nodes_of(Conv)
    assert (left.name, left.kernel, left.stride, left.groups) == ("pad", (1, 1), (2, 2), 1)
    x = samples(graph, 2)
    np.testing.assert_array_equal(run_ann(merged, x), option_a(x))


def test_a_chain_of_three_merges_into_one() -> None:
    graph = chain(
        pointwise("rows", "input", SLICE, stride=2, groups=2),
        pointwise("pad", "rows", CHANNELS),
        pointwise("same", "pad", np.eye(4)),
    )
    merged = merge_pointwise(graph)
    assert [node.name for node in merged.nodes] == ["input", "same", "output"]
    x = samples(graph, 2)
    np.testing.assert_array_equal(run_ann(merged, x), option_a(x))


def test_a_spatial_pad_goes_into_the_next_convolution() -> None:
    rng = np.random.default_rng(0)
    graph = chain(
        pad("pad", "input", 2, ((1, 0), (2, 1))),
        conv("conv", "pad", rng, (2, 4), stride=2, groups=2),
    )
    merged = merge_pointwise(graph)
    (left,) = merged.nodes_of(Conv)
    assert left.padding == ((2, 1), (3, 2))
    assert left.groups == 2
    assert run_ann(merged, samples(graph, 2)).tolist() == run_ann(graph, samples(graph, 2)).tolist()


def test_a_selection_merges_with_a_grouped_convolution_before_it() -> None:
    rng = np.random.default_rng(0)
    grouped = replace(conv("conv", "input", rng, (2, 4), groups=2), bias=np.zeros(4))
    graph = chain(grouped, pointwise("choose", "conv", np.eye(4)[[3, 0]]))
    merged = merge_pointwise(graph)
    assert kinds(merged) == ["conv"]
    assert_same_function(graph, merged)


def biased(node: Conv) -> Conv:
    return replace(node, bias=np.ones(len(node.bias)))


REFUSED: dict[str, Callable[[], tuple[Conv, Conv]]] = {
    "bias of the first": lambda: (
        biased(pointwise("a", "input", SLICE, groups=2)),
        pointwise("b", "a", CHANNELS),
    ),
    "two trained layers": lambda: (
        pointwise("a", "input", np.full((2, 2), 0.5)),
        pointwise("b", "a", np.full((2, 2), 0.5)),
    ),
    "stride behind a window": lambda: (
        replace(conv("a", "input", np.random.default_rng(0), (2, 2)), bias=np.zeros(2)),
        pointwise("b", "a", np.eye(2), stride=2),
    ),
    "padding of the second": lambda: (
        pointwise("a", "input", SLICE, stride=2, groups=2),
        replace(pointwise("b", "a", CHANNELS), padding=((1, 1), (1, 1))),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_one_convolution_stays_two(name: str) -> None:
    graph = chain(*REFUSED[name]())
    assert merge_pointwise(graph).hash() == graph.hash()


def test_a_convolution_with_two_consumers_is_not_merged_away() -> None:
    slices = pointwise("slice", "input", SLICE, stride=2, groups=2)
    graph = chain(
        slices,
        pointwise("left", "slice", CHANNELS),
        pointwise("right", "slice", CHANNELS),
        Add(name="add", inputs=("left", "right")),
    )
    assert merge_pointwise(graph).hash() == graph.hash()


@st.composite
def pointwise_chains(draw: st.DrawFn) -> Graph:
    """Selections, pads, trained layers, some with bias, stride and groups, one after the other."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes: list[Node] = []
    width, last = 2, "input"
    for number in range(draw(st.integers(1, 4))):
        name, stride = f"conv{number}", draw(st.sampled_from([1, 1, 2]))
        match draw(st.sampled_from(["choose", "depthwise", "pad", "trained", "window"])):
            case "choose":
                rows = np.vstack([np.eye(width), np.zeros((1, width))])
                chosen = rows[rng.integers(0, width + 1, 3)]
                node = pointwise(name, last, chosen, stride)
            case "depthwise":
                node = pointwise(name, last, dyadic(rng, width, 1), stride, groups=width)
            case "pad":
                node = pad(name, last, width, ((1, 0), (0, 1)))
            case "trained":
                node = pointwise(name, last, dyadic(rng, 2, width), stride)
            case _:
                window = conv(name, last, rng, (width, 2 * width), stride=stride, groups=width)
                node = replace(window, bias=np.zeros(2 * width))
        if draw(st.sampled_from([False, False, True])):
            node = replace(node, bias=dyadic(rng, len(node.bias)))
        nodes.append(node)
        width, last = len(node.bias), name
    return chain(*nodes)


@given(pointwise_chains())
def test_merging_a_chain_keeps_its_outputs(graph: Graph) -> None:
    merged = merge_pointwise(graph)
    assert_same_function(graph, merged)
    assert merge_pointwise(merged).hash() == merged.hash()
