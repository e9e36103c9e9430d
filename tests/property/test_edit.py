"""Many edits on one GraphEditor are the same graph, hash included, as a Graph after every edit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import ChannelAffine, Input, Node, Output
from icsnn_deploy.passes.affine import pure_scale
from icsnn_deploy.passes.edit import GraphEditor, fresh_name, rewire
from tests.support.graphs import ann_graphs, if_graphs


def one_on(graph: Graph, source: str) -> ChannelAffine:
    factor = np.ones((1,) * len(graph.shape(source)), np.float32)
    return pure_scale(fresh_name(graph, "new"), source, factor)


def edited(graph: Graph, editor: GraphEditor, data: st.DataObject) -> Graph:
    """The graph after a random edit by hand; the editor makes the same."""
    node = data.draw(st.sampled_from(graph.nodes[1:]))
    source = data.draw(st.sampled_from(node.inputs))
    nodes: list[Node] = list(graph.nodes)
    match data.draw(st.sampled_from(["after", "edge", "before", "remove", "substitute"])):
        case "after":
            new = one_on(graph, source)
            editor.insert_after(source, new)
            return graph.with_nodes([*(rewire(n, {source: new.name}) for n in nodes), new])
        case "edge":
            new = one_on(graph, source)
            editor.insert_on_edge(source, node.name, new)
            taker = rewire(node, {source: new.name})
            return graph.with_nodes([*(taker if n is node else n for n in nodes), new])
        case "before":
            news = [replace(one_on(graph, s), name=f"new{i}") for i, s in enumerate(node.inputs)]
            if any(n.name in graph for n in news):
                return graph
            editor.insert_before(node.name, news)
            taker = replace(node, inputs=tuple(n.name for n in news))
            return graph.with_nodes([*(taker if n is node else n for n in nodes), *news])
        case "remove" if isinstance(node, ChannelAffine):
            editor.remove(node.name)
            kept = (rewire(n, {node.name: source}) for n in nodes if n is not node)
            return graph.with_nodes(kept)
        case "substitute" if not isinstance(node, (Input, Output)):
            behind = replace(one_on(graph, node.name))
            editor.substitute(node.name, [node, behind])
            kept = (rewire(n, {node.name: behind.name}) for n in nodes if n is not node)
            return graph.with_nodes([*kept, node, behind])
    return graph


@settings(deadline=None)
@given(st.one_of(ann_graphs(), if_graphs()), st.data())
def test_one_graph_in_the_end_is_a_graph_after_every_edit(
    graph: Graph, data: st.DataObject
) -> None:
    editor = GraphEditor(graph)
    for _ in range(data.draw(st.integers(1, 6))):
        graph = edited(graph, editor, data)
        for node in graph.nodes:
            assert editor.shape(node.name) == graph.shape(node.name)
            names = [consumer.name for consumer in editor.consumers(node.name)]
            assert names == [consumer.name for consumer in graph.consumers(node.name)]
    assert editor.build().hash() == graph.hash()
