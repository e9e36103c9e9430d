"""What is counted on some samples, as integers: sums of it are exact in any grouping."""

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
    """Counts over samples; None where something was not measured.

    top1, top5: samples whose label is the network's first class, or among its first five; ann_*
    the ANN's. agreeing: samples with the ANN's first class. Names in _t count at each step t, those
    in exit_ with early exit.
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
        """All of it, as from_json takes it."""
        return asdict(self)

    def ordered(self, layers: Sequence[str]) -> Counts:
        """The same, with the populations in this order: JSON files are sorted by name."""

        def sort(found: Mapping[str, Value]) -> dict[str, Value]:
            return {name: found[name] for name in layers if name in found}

        return replace(
            self,
            spikes=None if self.spikes is None else sort(self.spikes),
            parity=tuple(replace(c, spike_counts=sort(c.spike_counts)) for c in self.parity),
        )


def total(parts: Sequence[Counts], tolerance: Tolerance) -> Counts:
    """The counts of successive samples together."""
    values: dict[str, Any] = {}
    for entry in fields(Counts):
        found = [getattr(part, entry.name) for part in parts]
        if entry.name != "parity":
            values[entry.name] = _sum(found)
    compared = zip(*(part.parity for part in parts), strict=True)
    return Counts(**values, parity=tuple(merge(each, tolerance) for each in compared))


def from_json(value: Mapping[str, Any]) -> Counts:
    """Counts as to_json wrote them: a shard's seal says that nobody changed them since."""
    found: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in value.items()
    }
    found["parity"] = tuple(map(_comparison, value["parity"]))
    return Counts(**found)


def places(scores: Array, labels: Array) -> Array:
    """How many classes come before each sample's label, [B]; of equals the lower one is first."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    found: Array = ((scores > own) | ((scores == own) & lower)).sum(axis=1)
    return found


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
    found = dict(value)
    found["divergences"] = tuple(_divergence(each) for each in value["divergences"])
    first = value["first_divergence"]
    found["first_divergence"] = None if first is None else _divergence(first)
    found["spike_counts"] = {name: tuple(both) for name, both in value["spike_counts"].items()}
    return Comparison(**found)


def _divergence(value: Mapping[str, Any]) -> Divergence:
    return Divergence(**{**value, "neuron": tuple(value["neuron"])})
