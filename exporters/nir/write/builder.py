"""A NIR graph in the making: nodes, edges, names, and what each graph node became."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icsnn_deploy.exporters.nir.metadata import KEY, NirProfile, dump
from icsnn_deploy.exporters.nir.notes import TIMES, array_note, sum_note
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Node, Shape
from icsnn_deploy.passes.edit import unique_name


class NirBuilder:
    """Collects NIR nodes and edges; a sum has no node, it is several edges into its consumer."""

    def __init__(
        self,
        graph: Graph,
        profile: NirProfile = "spec",
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.graph = graph
        self.profile = profile
        self.more = more or {}  # to note on graph nodes
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.losses: list[str] = []
        self.rewritten: list[str] = []
        # for the graph's metadata: up to NIR 1.0.4 many nodes can't be read with one of their own
        self.notes: dict[str, Mapping[str, Any]] = {}
        self._names: dict[str, str] = {}  # of the graph's own nodes; others avoid them
        for node in graph.nodes:
            self._names[node.name] = unique_name(nir_name(node.name), self._names.values())
        # graph node -> the NIR nodes whose sum is its result, and how often each is in it
        self._parts: dict[str, dict[str, int]] = {}
        self._terms: dict[str, dict[str, int]] = {}  # the same, but never with a multiple resolved

    def bind(self, node: Node, parts: Sequence[str]) -> None:
        """Note the NIR nodes whose sum is the result of a graph node."""
        self._parts[node.name] = dict.fromkeys(parts, 1)
        self._terms[node.name] = dict.fromkeys(parts, 1)

    def become_sum(self, node: Add) -> None:
        """Note that a graph node is the sum of what its sources became."""
        total: Counter[str] = Counter()
        for source in node.inputs:
            total.update(self._parts[source])
        self._parts[node.name] = dict(total)

    def sources(self, name: str) -> list[str]:
        """The NIR nodes whose sum is the result of a graph node, each of them once.

        NIR refuses the same edge twice, so a multiple goes through a nir.Scale.
        """
        import nir

        resolved: dict[str, int] = {}
        for part, count in self._parts[name].items():
            if count > 1:
                scale = nir.Scale(scale=np.full(self.graph.shape(name), count, np.float32))
                wish, about = f"{part}_times_{count}", {"was": TIMES}
                part = self.add_node(scale, [part], name, wish=wish, about=about, summed_up=False)
            resolved[part] = 1
        self._parts[name] = resolved
        return list(resolved)

    def add_node(
        self,
        node: Any,
        sources: Sequence[str],
        source: str,
        *,
        owner: Node | None = None,
        wish: str = "",
        about: Mapping[str, Any] | None = None,
        summed_up: bool = True,
    ) -> str:
        """Add a NIR node and its edges; returns its name.

        Args:
            node: the NIR node.
            sources: the NIR nodes that lead into it.
            source: the graph node whose result they sum up to.
            owner: the graph node that it stands for, and is named after.
            wish: its name if it stands for none.
            about: more for its metadata.
            summed_up: whether the whole sum enters it, or one term of it.
        """
        said = dict(about or {})
        if owner is None:
            name = unique_name(nir_name(wish), [*self._names.values(), *self.nodes])
        else:
            name = self._names[owner.name]
            said |= {"name": owner.name, **array_note(owner, self.graph.shape(owner.name))}
            said |= self.more.get(owner.name, {})
        if summed_up and isinstance(self.graph.node(source), Add):
            note = sum_note(self.graph, source, self._terms)
            said |= note if len(sources) > 1 or len(note) > 1 else {}
        if self.profile == "portable":
            self.notes[name] = said
        else:
            node.metadata = {**node.metadata, KEY: dump(said)}
        self.nodes[name] = node
        self.edges += [(part, name) for part in sources]
        return name


def nir_name(name: str) -> str:
    """A name without "/", which breaks reading, and ".", which nirtorch rewrites."""
    return re.sub(r"[^0-9A-Za-z_]", "_", name)


def full(value: Array, shape: Shape) -> Array:
    """One float32 value per neuron: NIR infers shapes from its parameters."""
    return np.ascontiguousarray(np.broadcast_to(value, shape), dtype=np.float32)
