"""Graphs: what is refused and by what message, hashes, immutability, order, rewriting."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    IF,
    LINEAR_NODES,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Encoding,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Relu,
)
from tests.support.building import ann, make, node_of, refused
from tests.support.graphs import if_graphs, residual_network

# What a graph refuses


def relu(name: str, source: str) -> Relu:
    return Relu(name=name, inputs=(source,))


BAD_GRAPHS: dict[str, Callable[[], object]] = {
    "b: more than one node of this name": lambda: ann(relu("b", "a"), relu("b", "a")),
    "b: its source 'c' is not in the graph": lambda: ann(relu("b", "c")),
    "a cycle runs through b, c, output": lambda: ann(relu("b", "c"), relu("c", "b")),
    "a cycle runs through b, output": lambda: ann(relu("b", "b")),
    "b: its result is not used; remove the node": lambda: ann(relu("b", "a"), relu("c", "a")),
    "0 input nodes []": lambda: Graph(nodes=()),
    "2 input nodes ['a', 'n'], exactly one is needed": lambda: ann(make(Input), relu("b", "n")),
    "0 output nodes [], exactly one is needed": lambda: Graph(nodes=(make(Input),)),
    "2 output nodes ['output', 'o'], exactly": lambda: ann().with_nodes(
        (*ann().nodes, Output(name="o", inputs=("a",)))
    ),
    "output: an output can't be a source": lambda: ann().with_nodes(
        (*ann().nodes, relu("b", "output"), relu("c", "b"), make(Add, inputs=("b", "c")))
    ),
    "n: an IF population needs a graph with time_steps": lambda: ann(make(IF)),
    "readout_start needs time_steps": lambda: ann(relu("b", "a"), readout_start=1),
    "b: a Relu in a graph with time_steps": lambda: ann(relu("b", "a"), time_steps=4),
    "time_steps 0, readout_start 0": lambda: ann(make(IF), time_steps=0),
    "time_steps -3, readout_start 0": lambda: ann(make(IF), time_steps=-3),
    "time_steps 4, readout_start 4": lambda: ann(make(IF), time_steps=4, readout_start=4),
    "time_steps 4, readout_start -1": lambda: ann(make(IF), time_steps=4, readout_start=-1),
    "time_steps 4.0: an integer >= 1 is needed": lambda: ann(make(IF), time_steps=4.0),
    "time_steps True: an integer >= 1 is needed": lambda: ann(make(IF), time_steps=True),
    "no node 'x'; there are a, output": lambda: ann().node("x"),
    "this graph is an ANN (no time_steps)": lambda: ann().steps,
}


@pytest.mark.parametrize("message", BAD_GRAPHS)
def test_a_graph_refuses(message: str) -> None:
    refused(message, BAD_GRAPHS[message])


@pytest.mark.parametrize("look", ["shape", "consumers", "source_shapes"])
def test_a_name_that_is_not_there_is_refused_everywhere(look: str) -> None:
    refused("no node 'x'", lambda: getattr(ann(), look)("x"))


def test_a_node_to_replace_must_be_there() -> None:
    refused("no node 'x'", lambda: ann().replace(relu("x", "a")))


# Shapes


def test_shapes_follow_the_nodes() -> None:
    graph = residual_network()
    shapes = {node.name: graph.shape(node.name) for node in graph.nodes}
    assert shapes["stem.conv"] == shapes["block.add"] == (4, 6, 6)
    assert (shapes["pool"], shapes["flatten"], shapes["output"]) == ((4, 3, 3), (36,), (10,))
    assert graph.source_shapes("block.add") == ((4, 6, 6), (4, 6, 6))
    assert graph.source_shapes("input") == ()


# Hash


def test_equal_graphs_have_equal_hashes() -> None:
    assert residual_network(seed=1).hash() == residual_network(seed=1).hash()
    assert re.fullmatch("[0-9a-f]{64}", residual_network().hash())


def test_the_provenance_is_not_hashed() -> None:
    graph = residual_network()
    other = replace(graph, provenance={"recipe": "mine"})
    assert other.provenance == {"recipe": "mine"}
    assert other.hash() == graph.hash()


def test_the_memory_layout_is_not_hashed() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    forms = [weight, np.asfortranarray(weight), weight.astype(">f4"), weight.astype("f8")]
    hashes = {ann(make(Linear, weight=form), shape=(3,)).hash() for form in forms}
    assert len(hashes) == 1


@given(if_graphs(), st.data())
def test_every_bit_of_every_array_is_hashed(graph: Graph, data: st.DataObject) -> None:
    node = data.draw(st.sampled_from([node for node in graph.nodes if node.arrays()]))
    field = data.draw(st.sampled_from(sorted(node.arrays())))
    value: Any = node.arrays()[field].copy()
    bits = value.reshape(-1).view(np.uint32)
    # Mantissa bits only: whatever they are, the value stays finite and keeps its sign.
    bits[data.draw(st.integers(0, len(bits) - 1))] ^= 1 << data.draw(st.integers(0, 22))
    assert graph.replace(replace(node, **{field: value})).hash() != graph.hash()


CHANGED_FIELDS: dict[str, tuple[Node, dict[str, Any]]] = {
    "input dtype": (make(Input), {"dtype": "int8"}),
    "input encoding": (make(Input), {"encoding": "rate"}),
    "conv stride": (make(Conv, padding=((1, 1), (1, 1))), {"stride": (1, 2)}),
    "conv padding": (make(Conv), {"padding": ((0, 0), (0, 1))}),
    "conv dilation": (make(Conv, padding=((1, 1), (1, 1))), {"dilation": (1, 2)}),
    "conv bias": (make(Conv), {"bias": np.ones(2)}),
    "pool kernel": (make(AvgPool), {"kernel": (2, 1)}),
    "pool stride": (make(AvgPool), {"stride": (2, 1)}),
    "relu upper": (make(Relu), {"upper": 6.0}),
    "relu upper value": (make(Relu, upper=6.0), {"upper": 6.5}),
    "relu levels": (make(Relu, upper=6.0), {"levels": 4}),
    "bits read as integers": (
        make(ChannelAffine, scale=np.ones((2, 1, 1), np.float32)),
        {"scale": np.ones((2, 1, 1), np.float32).view(np.int32)},
    ),
    "window turned around": (
        make(Conv, weight=np.ones((2, 2, 2, 1))),
        {"weight": np.ones((2, 2, 1, 2))},
    ),
    "scale dtype": (make(ChannelAffine), {"scale": np.ones((2, 1, 1), np.int8)}),
    "scale shape": (make(ChannelAffine), {"scale": np.ones((1, 1, 1))}),
    "scale sign of zero": (
        make(ChannelAffine, shift=np.zeros((1, 1, 1))),
        {"shift": -np.zeros((1, 1, 1))},
    ),
    "name": (make(Relu), {"name": "m"}),
}


@pytest.mark.parametrize("name", CHANGED_FIELDS)
def test_every_field_is_hashed(name: str) -> None:
    node, fields = CHANGED_FIELDS[name]
    changed = replace(node, **fields)
    if isinstance(node, Input):
        one, other = (Graph(nodes=(n, Output(name="o", inputs=("n",)))) for n in (node, changed))
    else:
        one, other = ann(node), ann(changed)
    assert one.hash() != other.hash()


def test_time_and_readout_are_hashed() -> None:
    graph = residual_network(time_steps=8)
    assert replace(graph, time_steps=9).hash() != graph.hash()
    assert replace(graph, readout_start=1).hash() != graph.hash()


def test_the_order_of_sources_is_hashed() -> None:
    b, c = relu("b", "a"), relu("c", "a")
    one, other = (ann(b, c, make(Add, inputs=inputs)) for inputs in (("b", "c"), ("c", "b")))
    assert one.hash() != other.hash()


# Immutability


def test_fields_of_a_graph_cannot_be_changed() -> None:
    graph = residual_network()
    for field, value in (("nodes", ()), ("time_steps", 3), ("readout_start", 1)):
        with pytest.raises(FrozenInstanceError):
            setattr(graph, field, value)
    assert isinstance(graph.nodes, tuple)


# Order


@given(if_graphs(), st.randoms(use_true_random=False))
def test_nodes_may_come_in_any_order(graph: Graph, shuffler: random.Random) -> None:
    shuffled = list(graph.nodes)
    shuffler.shuffle(shuffled)
    found = graph.with_nodes(shuffled)
    position = {node.name: index for index, node in enumerate(found.nodes)}
    assert set(position) == {node.name for node in graph.nodes}
    for node in found.nodes:
        assert all(position[source] < position[node.name] for source in node.inputs)


@given(if_graphs())
def test_an_order_that_fits_is_kept(graph: Graph) -> None:
    assert graph.with_nodes(graph.nodes).nodes == graph.nodes


def test_ties_keep_the_given_order() -> None:
    branches = [relu(name, "a") for name in ("z", "m", "b")]
    graph = ann(*branches, make(Add, inputs=("z", "m", "b")))
    assert [node.name for node in graph.nodes] == ["a", "z", "m", "b", "n", "output"]


# Looking


def test_nodes_by_name_and_type() -> None:
    graph = residual_network()
    assert "stem.if" in graph
    assert "nothing" not in graph
    assert graph.node("stem.if").kind == "if"
    assert (graph.input.name, graph.output.name) == ("input", "output")
    assert [node.name for node in graph.nodes_of(IF)] == ["stem.if", "block.if1", "block.if2"]
    assert [node.name for node in graph.nodes_of(Linear, Flatten)] == ["flatten", "head"]
    assert graph.steps == 8


def test_a_consumer_that_takes_a_result_twice_is_listed_twice() -> None:
    graph = ann(make(Add, inputs=("a", "a")))
    assert [node.name for node in graph.consumers("a")] == ["n", "n"]
    assert graph.consumers("output") == ()


def upstream(graph: Graph, name: str) -> list[str]:
    linear = graph.ancestors(name, lambda node: isinstance(node, LINEAR_NODES))
    return [node.name for node in linear]


def test_upstream_ends_at_what_the_walk_may_not_pass() -> None:
    graph = residual_network()
    assert upstream(graph, "block.if2") == [
        "stem.if",
        "block.if1",
        "block.conv2",
        "block.shortcut",
        "block.add",
    ]
    assert upstream(graph, "stem.if") == ["input", "stem.conv"]
    assert upstream(graph, "input") == []
    assert [n.name for n in graph.ancestors("block.if2", lambda node: False)] == ["block.add"]


def test_upstream_takes_each_node_once_however_many_ways_there_are() -> None:
    doubled = [make(Add, name=f"n{i}", inputs=(f"n{i - 1}",) * 2) for i in range(1, 60)]
    graph = ann(make(Add, name="n0", inputs=("a", "a")), *doubled)
    assert upstream(graph, "output") == ["a", *(f"n{i}" for i in range(60))]


def test_what_does_not_change_over_time_is_steady() -> None:
    assert residual_network().constant_nodes() == {"input", "stem.conv"}


def test_a_sum_is_steady_only_if_all_its_sources_are() -> None:
    constant = make(Add, name="constant", inputs=("a", "a"))
    population = make(IF, name="if", inputs=("constant",))
    mixed = make(Add, name="mixed", inputs=("constant", "if"))
    assert ann(constant, population, mixed, time_steps=4).constant_nodes() == {"a", "constant"}


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_nothing_is_steady_under_spiking_input(encoding: Encoding) -> None:
    graph = residual_network()
    assert graph.replace(replace(graph.input, encoding=encoding)).constant_nodes() == frozenset()


def test_the_tail_is_what_changes_over_time_and_leads_to_no_population() -> None:
    assert residual_network().readout_nodes() == {"pool", "flatten", "head", "output"}


def test_what_leads_to_a_population_or_is_steady_is_not_of_the_tail() -> None:
    first = make(IF, name="first")
    shared = make(Add, name="shared", inputs=("first", "first"))
    second = make(IF, name="second", inputs=("shared",))
    steady = make(Add, name="steady", inputs=("a", "a"))
    late = make(Add, name="late", inputs=("second", "shared", "steady"))
    graph = ann(first, shared, second, steady, late, time_steps=4)
    assert graph.readout_nodes() == {"late", "output"}
    spiking = graph.replace(replace(graph.input, encoding="rate"))
    assert spiking.readout_nodes() == {"steady", "late", "output"}


def test_the_input_is_never_of_the_tail() -> None:
    assert ann(time_steps=1).readout_nodes() == frozenset()
    timed = ann(time_steps=1)
    assert timed.replace(replace(timed.input, encoding="rate")).readout_nodes() == {"output"}


def test_the_last_to_take_a_result_uses_it_up() -> None:
    twice = make(Add, name="twice", inputs=("a", "a"))
    both = make(Add, name="both", inputs=("a", "twice"))
    graph = ann(twice, both, relu("b", "both"))
    assert graph.last_uses() == {
        "a": (),
        "twice": (),
        "both": ("a", "twice"),
        "b": ("both",),
        "output": ("b",),
    }


@given(if_graphs())
def test_values_can_go_at_their_last_use(graph: Graph) -> None:
    alive: set[str] = set()
    spent = graph.last_uses()
    for node in graph.nodes:
        assert alive.issuperset(node.inputs)
        alive.difference_update(spent[node.name])
        alive.add(node.name)
    assert alive == {graph.output.name}


# Rewriting


def test_replace_puts_nodes_in_the_place_of_their_namesakes() -> None:
    graph = ann(relu("b", "a"), relu("c", "b"))
    bounded = Relu(name="b", inputs=("a",), upper=1.0)
    found = graph.replace(bounded)
    assert found.node("b") is bounded
    assert found.node("c") is graph.node("c")
    assert node_of(graph, "b", Relu).upper is None


def test_replace_checks_the_new_graph() -> None:
    graph = ann(relu("b", "a"))
    refused("b: its source 'x' is not in the graph", lambda: graph.replace(relu("b", "x")))


def test_map_applies_to_every_node() -> None:
    graph = ann(relu("b", "a"), relu("c", "b"))
    found = graph.map(lambda n: replace(n, upper=2.0) if isinstance(n, Relu) else n)
    assert [node.upper for node in found.nodes_of(Relu)] == [2.0, 2.0]


def test_rewriting_keeps_time_readout_and_provenance() -> None:
    graph = replace(residual_network(), readout_start=2, provenance={"recipe": "mine"})
    found = graph.map(lambda node: node)
    assert (found.time_steps, found.readout_start) == (8, 2)
    assert found.provenance == {"recipe": "mine"}
