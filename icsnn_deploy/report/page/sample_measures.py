"""Rasters, potentials and examples: what is shown of single samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.report.page.measures import Example, Raster, Trace

ROWS = 72
"""Neurons of a raster, over all populations together."""

TRACED = 3
"""Populations of which the potential of a neuron is shown."""


def rasters(
    simulator: TorchSimulator, samples: Mapping[int, tuple[Array, str]]
) -> tuple[tuple[Raster, ...], tuple[Trace, ...]]:
    """Spikes of chosen neurons for each sample, and potentials for the first.

    Args:
        simulator: of the network.
        samples: the input of one sample [1, *shape], or [T, 1, *shape], and what it is, by number.
    """
    graph = simulator.graph
    populations = [node.name for node in graph.nodes_of(Population)]
    traced = _spread(populations, TRACED)
    found: list[Raster] = []
    traces: list[Trace] = []
    for number, (x, title) in samples.items():
        wanted = frozenset(traced) if not traces else frozenset()
        recording = simulator.run(x, Record(spikes=True, potentials=wanted))
        spikes = {name: recording.spikes[name][:, 0] for name in populations}  # [T, *shape]
        each = max(2, ROWS // max(len(populations), 1))
        rows = [
            (
                name,
                neuron,
                tuple(int(t) + 1 for t in np.flatnonzero(_over_time(spikes[name], neuron))),
            )
            for name in _spread(populations, ROWS // 2)
            for neuron in _chosen(spikes[name], each)
        ]
        found.append(Raster(sample=number, title=title, rows=tuple(rows)))
        for name in wanted and traced:
            neuron = _most_active(spikes[name])
            u = _over_time(recording.potentials[name], (0, *neuron))
            traces.append(
                Trace(
                    sample=number,
                    layer=name,
                    neuron=neuron,
                    v_threshold=threshold_of(graph, name, neuron),
                    u={simulator.name: tuple(map(float, u))},
                )
            )
    return tuple(found), tuple(traces)


def threshold_of(graph: Graph, name: str, neuron: tuple[int, ...]) -> float:
    """v_threshold of one neuron."""
    return float(np.broadcast_to(graph.population(name).v_threshold, graph.shape(name))[neuron])


def _over_time(values: Array, index: tuple[int, ...]) -> Array:
    """The values [T] of one neuron, of [T, *shape]."""
    return values[(slice(None), *map(slice, index, (n + 1 for n in index)))].ravel()


def _spread(names: Sequence[str], count: int) -> list[str]:
    """At most `count` of the names, evenly spread, the first and the last among them."""
    if len(names) <= count:
        return list(names)
    return [names[round(n * (len(names) - 1) / (count - 1))] for n in range(count)]


def _chosen(spikes: Array, count: int) -> list[tuple[int, ...]]:
    """Neurons of a population [T, *shape], evenly spread over those that fire, by their spikes."""
    counts = spikes.sum(axis=0, dtype=np.int64)
    order = np.argsort(-counts, axis=None, kind="stable")
    order = order[: max(int((counts > 0).sum()), 1)]
    picked = order[np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))]
    return [tuple(map(int, np.unravel_index(index, counts.shape))) for index in picked]


def _most_active(spikes: Array) -> tuple[int, ...]:
    """A neuron whose spikes change most from step to step, as its potential is worth a look."""
    changes = np.abs(np.diff(spikes.astype(np.int8), axis=0)).sum(axis=0, dtype=np.int64)
    score = changes * (spikes.shape[0] + 1) + spikes.sum(axis=0, dtype=np.int64)
    return tuple(map(int, np.unravel_index(int(score.argmax()), score.shape)))


class ExampleChooser:
    """Keeps a right and a wrong sample of each class, and the first samples.

    Args:
        classes: that are kept, at most: those that come first.
        first: number of samples that are kept whatever they are.
    """

    def __init__(self, *, classes: int = 24, first: int = 4) -> None:
        self.classes, self.first = classes, first
        self.kept: dict[tuple[int, bool], Example] = {}
        self.others: list[Example] = []

    def add(self, number: int, label: int | None, found: int, make: Callable[[], Example]) -> None:
        """Offer a sample; `make` is called if it is kept."""
        group = found if label is None else label
        key = (group, label is None or label == found)
        groups = {kept for kept, _ in self.kept}
        new = key not in self.kept and (group in groups or len(groups) < self.classes)
        if not new and number >= self.first:
            return
        example = make()
        if new:
            self.kept[key] = example
        if number < self.first:
            self.others.append(example)

    def examples(self) -> tuple[Example, ...]:
        """The samples that were kept, by number."""
        found = {each.sample: each for each in (*self.others, *self.kept.values())}
        return tuple(found[number] for number in sorted(found))
