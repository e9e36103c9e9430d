"""Collect the nodes, edges, names and notes of a NIR graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.metadata import KEY, NirProfile, dump
from icsnn_deploy.exporters.nir.notes import TIMES, array_note, sum_note
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, Node, Shape
from icsnn_deploy.passes.edit import unique_name

MAX_EDGES = 100_000
"""NIR's own check and its readers look through all edges for each node."""

_LARGEST_BITS = 128
"""Of an integer that float32 can hold."""


class NirBuilder:
    """Collects NIR nodes and edges.

    NIR has no node for a sum: it is several edges into the consumer.

    Args:
        graph: the network to write.
        profile: of the file.
        extra_notes: entries to add to the notes on graph nodes, by name.
    """

    def __init__(
        self,
        graph: Graph,
        profile: NirProfile = "spec",
        extra_notes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.graph = graph
        self.profile = profile
        self.extra_notes = extra_notes or {}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.losses: list[str] = []
        self.rewritten: list[str] = []
        # stored with the graph: before NIR 1.0.5, many nodes can't be read with their own metadata
        self.notes: dict[str, Mapping[str, Any]] = {}
        self._names: dict[str, str] = {}  # of graph nodes; other NIR nodes avoid them
        self._taken: set[str] = set()
        for node in graph.nodes:
            self._names[node.name] = self._new_name(node.name)
        # graph node -> the NIR nodes whose sum is its result, and how often each is added
        self._parts: dict[str, dict[str, int]] = {}
        self._terms: dict[str, dict[str, int]] = {}  # the same, before `sources` resolves multiples

    def bind(self, node: Node, parts: Sequence[str]) -> None:
        """Bind a graph node to the NIR nodes whose sum is its result."""
        self._parts[node.name] = dict.fromkeys(parts, 1)
        self._terms[node.name] = dict.fromkeys(parts, 1)

    def bind_sum(self, node: Add) -> None:
        """Bind an Add to the NIR nodes of all its sources."""
        total: Counter[str] = Counter()
        for source in node.inputs:
            total.update(self._parts[source])
        self._parts[node.name] = dict(total)

    def sources(self, name: str) -> list[str]:
        """The NIR nodes whose sum is the result of a graph node, each once.

        NIR refuses the same edge twice, so a source that is added n times goes through a nir.Scale.

        Raises:
            ExportError: float32 does not hold n.
        """
        import nir

        resolved: dict[str, int] = {}
        for part, count in self._parts[name].items():
            if count > 1:
                if count.bit_length() > _LARGEST_BITS or float(np.float32(count)) != count:
                    times = f"{count:,}" if count < 2**64 else f"2^{count.bit_length() - 1} or more"
                    raise ExportError(
                        f"{name}: its sum takes {part} {times} times, a factor that float32 does "
                        "not hold. Put a population between the sums, or a connection with weights"
                    )
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
            sources: the NIR nodes with an edge into it.
            source: the graph node whose result is the sum of `sources`.
            owner: the graph node that it stands for and is named after.
            wish: preferred name if it has no owner.
            about: further entries of its note.
            summed_up: whether the whole sum enters it, rather than one term of it.
        """
        note = dict(about or {})
        if owner is None:
            name = self._new_name(wish)
        else:
            name = self._names[owner.name]
            note |= {"name": owner.name, **array_note(owner, self.graph.shape(owner.name))}
            note |= self.extra_notes.get(owner.name, {})
        if summed_up and isinstance(self.graph.node(source), Add):
            sum_entries = sum_note(self.graph, source, self._terms)
            note |= sum_entries if len(sources) > 1 or len(sum_entries) > 1 else {}
        if self.profile == "portable":
            self.notes[name] = note
        else:
            node.metadata = {**node.metadata, KEY: dump(note)}
        self.nodes[name] = node
        if len(self.edges) + len(sources) > MAX_EDGES:
            raise ExportError(
                f"{source}: up to here this network has more than {MAX_EDGES:,} edges as NIR, "
                "whose sums are edges of all their terms into each consumer. Put a population "
                "between the sums, or export another format"
            )
        self.edges += [(part, name) for part in sources]
        return name

    def _new_name(self, wish: str) -> str:
        name = unique_name(nir_name(wish), self._taken)
        self._taken.add(name)
        return name


def nir_name(name: str) -> str:
    """The name without "/", which breaks reading, and ".", which nirtorch rewrites."""
    return re.sub(r"[^0-9A-Za-z_]", "_", name)


def full(value: Array, shape: Shape) -> Array:
    """The value as float32, one per neuron: NIR infers shapes from its parameters."""
    return np.ascontiguousarray(np.broadcast_to(value, shape), dtype=np.float32)
