"""Edits of a graph: what they rewire, what they keep, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, Conv, Relu
from icsnn_deploy.passes.edit import (
    GraphEditor,
    fresh_name,
    insert_after,
    insert_on_edge,
    rewire,
    unique_name,
)
from tests.support.building import ann, make
from tests.support.graphs import residual_network


def relu(name: str, source: str) -> Relu:
    return Relu(name=name, inputs=(source,))


def add(name: str, *sources: str) -> Add:
    return Add(name=name, inputs=sources)


def inputs(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.name: node.inputs for node in graph.nodes[1:]}


def removed(graph: Graph, name: str) -> Graph:
    editor = GraphEditor(graph)
    editor.remove(name)
    return editor.build()


def test_insert_after_gives_the_node_to_all_consumers() -> None:
    graph = ann(relu("b", "a"), add("c", "a", "b"))
    found = insert_after(graph, "a", relu("n", "a"))
    assert inputs(found) == {"n": ("a",), "b": ("n",), "c": ("n", "b"), "output": ("c",)}
    assert removed(found, "n").hash() == graph.hash()


def test_insert_on_edge_leaves_the_other_consumers() -> None:
    graph = ann(relu("b", "a"), add("c", "a", "b"))
    found = insert_on_edge(graph, "a", "c", relu("n", "a"))
    assert inputs(found) == {"b": ("a",), "n": ("a",), "c": ("n", "b"), "output": ("c",)}
    assert removed(found, "n").hash() == graph.hash()


def test_a_sink_that_takes_a_source_twice_takes_the_new_node_twice() -> None:
    found = insert_on_edge(ann(add("c", "a", "a")), "a", "c", relu("n", "a"))
    assert found.node("c").inputs == ("n", "n")


def test_insert_before_gives_each_input_a_node_of_its_own() -> None:
    editor = GraphEditor(ann(relu("b", "a"), add("c", "a", "b", "a")))
    editor.insert_before("c", [relu("x", "a"), relu("y", "b"), relu("z", "a")])
    assert editor.build().node("c").inputs == ("x", "y", "z")


def test_remove_gives_the_source_to_all_consumers() -> None:
    graph = removed(ann(relu("b", "a"), relu("c", "b"), add("n", "b", "c")), "b")
    assert inputs(graph) == {"c": ("a",), "n": ("a", "c"), "output": ("n",)}


def test_substitute_puts_a_chain_in_the_place_of_a_node() -> None:
    editor = GraphEditor(ann(relu("b", "a"), add("c", "a", "b")))
    editor.substitute("b", [relu("b", "a"), relu("n", "b")])
    assert inputs(editor.build()) == {"b": ("a",), "n": ("b",), "c": ("a", "n"), "output": ("c",)}


def test_only_an_unused_node_is_discarded() -> None:
    editor = GraphEditor(ann(relu("b", "a"), relu("c", "a"), add("d", "b", "c")))
    with pytest.raises(GraphError, match="b: is an input of d; only an unused node"):
        editor.discard("b")
    editor.replace(add("d", "c", "c"))
    editor.discard("b")
    assert inputs(editor.build()) == {"c": ("a",), "d": ("c", "c"), "output": ("d",)}


def test_the_editor_answers_for_the_edited_graph() -> None:
    graph = ann(relu("b", "a"), add("c", "a", "b"))
    editor = GraphEditor(graph)
    assert [node.name for node in editor.consumers("a")] == ["b", "c"]
    editor.insert_on_edge("a", "b", relu("n", "a"))
    assert [node.name for node in editor.consumers("a")] == ["n", "c"]
    assert [node.name for node in editor.nodes_of(Relu)] == ["n", "b"]
    assert editor.shape("n") == (2, 4, 4)
    assert editor.fresh_name("n") == "n_1"
    built = editor.build()
    assert [node.name for node in built.consumers("a")] == ["n", "c"]
    assert "n" not in graph


REFUSED: dict[str, Callable[[Graph], object]] = {
    "n: must have 'a' as its only source": lambda g: insert_after(g, "a", relu("n", "b")),
    "n: must have 'b' as its only source": lambda g: insert_on_edge(g, "b", "c", relu("n", "a")),
    "b: more than one node of this name": lambda g: insert_after(g, "a", relu("b", "a")),
    "c: more than one node of this name": lambda g: GraphEditor(g).substitute(
        "b", [relu("c", "a")]
    ),
    "b: takes a, not 'c'": lambda g: insert_on_edge(g, "c", "b", relu("n", "c")),
    "output: an output can't be a source": lambda g: insert_after(g, "output", relu("n", "output")),
    "no node 'x'; there are a, b, c, output": lambda g: insert_after(g, "x", relu("n", "x")),
    "c: 1 nodes for 2 inputs": lambda g: GraphEditor(g).insert_before("c", [relu("n", "a")]),
    "b: shape (1, 4, 4), but the node that it replaces has (2, 4, 4)": lambda g: GraphEditor(
        g
    ).replace(replace(make(Conv, weight=np.ones((1, 2, 1, 1)), bias=np.ones(1)), name="b")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_graph_is_refused(message: str) -> None:
    graph = ann(relu("b", "a"), add("c", "a", "b"))
    with pytest.raises(GraphError) as caught:
        REFUSED[message](graph)
    assert message in str(caught.value)


def test_edits_keep_time_readout_and_provenance() -> None:
    graph = replace(residual_network(), readout_start=2, provenance={"recipe": "mine"})
    found = removed(graph, "block.shortcut")
    assert (found.time_steps, found.readout_start) == (8, 2)
    assert found.provenance == {"recipe": "mine"}


def test_rewire_changes_only_what_is_renamed() -> None:
    node = add("n", "a", "b", "a")
    assert rewire(node, {"c": "d"}) is node
    assert rewire(node, {"a": "x"}).inputs == ("x", "b", "x")
    assert node.inputs == ("a", "b", "a")


def test_fresh_names_are_free() -> None:
    graph = ann(relu("b", "a"), relu("b_1", "b"))
    assert fresh_name(graph, "b") == "b_2"
    assert fresh_name(graph, "c") == "c"
    assert unique_name("b", ["a"]) == "b"
