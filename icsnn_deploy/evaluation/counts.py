"""The counts of an evaluation, as integers, so that their sums are exact in any grouping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.parity.compare import Comparison, Tolerance, merge
from icsnn_deploy.parity.divergence import Divergence

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts over samples; None if not measured.

    top1, top5: samples whose label is the network's first class, or among its first five; ann_top1,
    ann_top5: the same for the ANN. agreeing: samples whose first class is the ANN's. Names that end
    in _t count at each step t, those that start with exit_ with early exit.
    """

    samples: int = 0
    top1: int | None = None
    top5: int | None = None
    ann_top1: int | None = None
    ann_top5: int | None = None
    agreeing: int | None = None
    top1_t: tuple[int, ...] | None = None
    agreeing_t: tuple[int, ...] | None = None
    spikes: dict[str, int] | None = None
    exit_steps: tuple[int, ...] | None = None  # samples that stopped after step 1, 2, ... T
    exit_top1: int | None = None
    exit_agreeing: int | None = None
    parity: tuple[Comparison, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values, which from_json reads."""
        return asdict(self)

    def ordered(self, layers: Sequence[str]) -> Counts:
        """The same counts with the populations in this order; JSON files are sorted by name."""

        def sort(values: Mapping[str, Value]) -> dict[str, Value]:
            return {name: values[name] for name in layers if name in values}

        return replace(
            self,
            spikes=None if self.spikes is None else sort(self.spikes),
            parity=tuple(replace(c, spike_counts=sort(c.spike_counts)) for c in self.parity),
        )


def total(parts: Sequence[Counts], tolerance: Tolerance) -> Counts:
    """Sum the counts of successive samples."""
    values: dict[str, Any] = {}
    for entry in fields(Counts):
        if entry.name != "parity":
            values[entry.name] = _sum([getattr(part, entry.name) for part in parts])
    compared = zip(*(part.parity for part in parts), strict=True)
    return Counts(**values, parity=tuple(merge(each, tolerance) for each in compared))


def from_json(value: Mapping[str, Any]) -> Counts:
    """Counts from the JSON values of to_json; they are trusted, because shards have a seal."""
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in value.items()
    }
    values["parity"] = tuple(map(_comparison, value["parity"]))
    return Counts(**values)


def places(scores: Array, labels: Array) -> Array:
    """Number of classes that rank before each sample's label, [B]; ties rank by class index."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    count: Array = ((scores > own) | ((scores == own) & lower)).sum(axis=1)
    return count


def _sum(values: Sequence[Any]) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        return tuple(map(sum, zip(*values, strict=True)))
    if isinstance(first, dict):
        return {name: sum(value[name] for value in values) for name in first}
    return sum(values)


def _comparison(value: Mapping[str, Any]) -> Comparison:
    values = dict(value)
    values["divergences"] = tuple(_divergence(each) for each in value["divergences"])
    first = value["first_divergence"]
    values["first_divergence"] = None if first is None else _divergence(first)
    values["spike_counts"] = {name: tuple(pair) for name, pair in value["spike_counts"].items()}
    return Comparison(**values)


def _divergence(value: Mapping[str, Any]) -> Divergence:
    return Divergence(**{**value, "neuron": tuple(value["neuron"])})
