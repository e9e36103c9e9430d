"""Read sums, and the names of nodes.

NIR has no node for a sum: it is several edges into one node. The note of the export on a sum is
applied if it adds up the same terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.nir.notes import MOST_TERMS, SUM, TERMS, TIMES
from icsnn_deploy.graph.nodes import Add, Node
from icsnn_deploy.passes.edit import unique_name

Terms = list[Any]  # names of NIR nodes, and (name of a sum, its Terms)


class Sums:
    """Builds the Add that stands for several edges, each sum once.

    Args:
        nodes: NIR nodes, by key.
        sources: for each node, the keys of its sources.
        notes: for each node, the note of the export.
        names: for each node, its name in the graph.
        taken: all names in use; names of sums are added.
    """

    def __init__(
        self,
        nodes: Mapping[str, Any],
        sources: Mapping[str, Sequence[str]],
        notes: Mapping[str, Mapping[str, Any]],
        names: Mapping[str, str],
        taken: set[str],
    ) -> None:
        self.sources, self.notes, self.names, self.taken = sources, notes, names, taken
        self.multiples: dict[str, int] = {}  # nodes that multiply their only source
        for key, node in nodes.items():
            times = _times(node) if notes[key].get("was") == TIMES else None
            if times is not None and len(sources[key]) == 1:
                self.multiples[key] = times
        self._built: dict[tuple[tuple[str, ...], str | None], str] = {}

    def entering(self, key: str) -> tuple[list[Node], str]:
        """The Add nodes to insert before a node, and the name of the one that it takes.

        Raises:
            GraphError: the node has no source.
        """
        sources = self.sources[key]
        if not sources:
            raise GraphError(f"{self.names[key]}: no edge leads to it")
        wish = name_of(self.notes[key].get(SUM))
        terms = _terms(self.notes[key].get(TERMS), MOST_TERMS)
        if terms is not None and _counted(terms) == self._expanded(sources):
            return self._add(terms, wish, self.names[key])
        if len(sources) == 1:
            return [], self.names[sources[0]]
        return self._add(list(sources), wish, self.names[key])

    def _expanded(self, sources: Sequence[str]) -> Counter[str]:
        """How often each node is added in the sum of these sources."""
        total: Counter[str] = Counter()
        for key in sources:
            times = self.multiples.get(key)
            total[key if times is None else self.sources[key][0]] += times or 1
        return total

    def _add(self, terms: Terms, wish: str | None, target: str) -> tuple[list[Node], str]:
        new: list[Node] = []
        inputs = []
        for term in terms:
            if isinstance(term, str):
                inputs.append(self.names[term])
            else:
                inner, name = self._add(term[1], term[0], target)
                new += inner
                inputs.append(name)
        what = (tuple(inputs), wish)
        if what not in self._built:
            self._built[what] = unique_name(wish or f"{target}.sum", self.taken)
            self.taken.add(self._built[what])
            new.append(Add(name=self._built[what], inputs=what[0]))
        return new, self._built[what]


def without_unused(nodes: Iterable[Node], names: frozenset[str]) -> list[Node]:
    """The nodes without those in `names` whose result no node takes."""
    listed = list(nodes)
    used = {source for node in listed for source in node.inputs}
    return [node for node in listed if node.name in used or node.name not in names]


def in_order(nodes: list[Node], order: Sequence[str]) -> tuple[Node, ...]:
    """The nodes in the noted order, if it names each node once."""
    by_name = {node.name: node for node in nodes}
    if len(order) != len(nodes) or set(order) != set(by_name):
        return tuple(nodes)
    return tuple(by_name[name] for name in order)


def names_of(notes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The name of each NIR node in the graph: the noted one where it is valid and unique."""
    noted = {key: name for key, note in notes.items() if (name := name_of(note.get("name")))}
    claims = Counter(noted.values())
    names = {key: name for key, name in noted.items() if claims[name] == 1}
    taken = set(names.values())
    for key in notes:
        if key not in names:
            names[key] = unique_name(key, taken)
            taken.add(names[key])
    return names


def name_of(wish: Any) -> str | None:
    """A name from the metadata; None where it is not valid."""
    good = isinstance(wish, str) and 0 < len(wish) <= 1000 and "/" not in wish
    return wish if good else None


def _times(node: Any) -> int | None:
    """The factor of a nir.Scale, if it is one small integer."""
    scale = getattr(node, "scale", None)
    if not isinstance(scale, np.ndarray) or scale.dtype.kind != "f" or scale.size == 0:
        return None
    first = scale.flat[0]
    whole = 2 <= first <= MOST_TERMS and first == round(float(first))
    return int(first) if whole and (scale == first).all() else None


def _terms(noted: Any, most: int, depth: int = 0) -> Terms | None:
    """The terms in a note, if it is valid and has at most `most` terms."""
    if not isinstance(noted, list) or not 0 < len(noted) <= most or depth > MOST_TERMS:
        return None
    terms: Terms = []
    for term in noted:
        if isinstance(term, str):
            terms.append(term)
            continue
        name = name_of(term.get(SUM)) if isinstance(term, dict) else None
        inner = _terms(term.get(TERMS), most, depth + 1) if name is not None else None
        if inner is None or len(inner) < 2:
            return None
        terms.append((name, inner))
    return terms if _counted(terms).total() <= most else None


def _counted(terms: Terms) -> Counter[str]:
    total: Counter[str] = Counter()
    for term in terms:
        total.update([term] if isinstance(term, str) else _counted(term[1]))
    return total
