"""Where the factor of another threshold goes, and what type it leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv
from icsnn_deploy.passes.scale_thresholds import scale_thresholds
from tests.support.building import ann, make
from tests.support.graphs import residual_network


def doubled(graph: Graph, *names: str) -> dict[str, Array]:
    return {n.name: 2 * n.v_threshold for n in graph.nodes_of(IF) if n.name in names}


def test_a_private_connection_absorbs_the_factor() -> None:
    graph = residual_network()
    scaled = scale_thresholds(graph, doubled(graph, "stem.if"), absorb=True)
    for field in ("weight", "bias"):
        before, after = (g.node("stem.conv").arrays()[field] for g in (graph, scaled))
        np.testing.assert_array_equal(after, 2 * before)
    assert [node.name for node in scaled.nodes] == [node.name for node in graph.nodes]


def test_a_sum_passes_the_factor_on_to_its_sources() -> None:
    graph = residual_network()
    scaled = scale_thresholds(graph, doubled(graph, "block.if2"), absorb=True)
    for name in ("block.conv2", "block.shortcut"):
        for field, before in graph.node(name).arrays().items():
            after = scaled.node(name).arrays()[field]
            np.testing.assert_array_equal(after, np.broadcast_to(2 * before, after.shape))
    assert len(scaled.nodes) == len(graph.nodes)


def test_without_absorb_each_source_gets_a_factor_to_fold() -> None:
    graph = residual_network()
    scaled = scale_thresholds(graph, doubled(graph, "block.if2"), absorb=False)
    assert scaled.node("block.add").inputs == ("block.add.unit", "block.add.unit_1")
    for name, source in (("block.add.unit", "block.conv2"), ("block.add.unit_1", "block.shortcut")):
        node = scaled.node(name)
        assert isinstance(node, ChannelAffine)
        assert node.inputs == (source,)
        np.testing.assert_array_equal(node.scale, np.full((4, 1, 1), 2))
    assert scaled.node("block.conv2") is graph.node("block.conv2")


def test_a_shared_connection_gets_a_factor_on_the_way_to_one_population() -> None:
    conv = make(Conv, name="conv", weight=np.ones((2, 2, 1, 1)))
    left = make(IF, name="left", inputs=("conv",))
    right = make(IF, name="right", inputs=("conv",))
    join = ann(conv, left, right, make(Add, inputs=("left", "right")), time_steps=2)
    scaled = scale_thresholds(join, doubled(join, "left"), absorb=True)
    assert scaled.node("left").inputs == ("left.unit",)
    assert scaled.node("right").inputs == ("conv",)
    assert scaled.node("conv") is join.node("conv")


@pytest.mark.parametrize(("most", "dtype"), [(2**29, np.int32), (2**30, np.int64)])
def test_integers_stay_integers(most: int, dtype: type[np.integer]) -> None:
    weight = np.array([most // 4, 1]).reshape(2, 1, 1, 1)
    conv = make(Conv, weight=np.tile(weight, (1, 2, 1, 1)).astype(np.int32))
    conv = replace(conv, bias=np.array([-3, 5], np.int8))
    thresholds = np.array([2, 4], np.int32).reshape(2, 1, 1)
    population = make(IF, name="if", inputs=("n",), v_threshold=thresholds, v_init=thresholds / 4)
    graph = ann(conv, population, time_steps=2)
    scaled = scale_thresholds(graph, {"if": 4 * thresholds[::-1].copy()}, absorb=True)
    found = scaled.node("n")
    assert isinstance(found, Conv)
    assert found.weight.dtype == dtype
    np.testing.assert_array_equal(found.weight[:, 0, 0, 0], [2 * most, 2])
    np.testing.assert_array_equal(found.bias, [-24, 10])
    assert found.bias.dtype == np.int32


def test_only_a_population_has_a_threshold() -> None:
    graph = residual_network()
    with pytest.raises(GraphError, match=r"stem\.conv: a population is needed, this is a conv"):
        scale_thresholds(graph, {"stem.conv": np.ones((1, 1, 1))}, absorb=True)
