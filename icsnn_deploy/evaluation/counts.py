"""The counts of an evaluation: integers, but for the squared errors of numbers.

Sums of integers are exact in any grouping; sums of errors may differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from icsnn_deploy.judging.counts import OutputCounts, is_measured, total_outputs
from icsnn_deploy.judging.typed_json import from_typed_json
from icsnn_deploy.parity.compare import merge
from icsnn_deploy.parity.judge import Comparison, Tolerance

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts over samples; None if not measured."""

    samples: int = 0
    outputs: dict[str, OutputCounts] = field(default_factory=dict)  # by name
    spikes: dict[str, int] | None = None
    exit_steps: tuple[int, ...] | None = None  # samples that stopped after step 1, 2, ... T
    parity: tuple[Comparison, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values, which from_json reads."""
        return asdict(self)

    def ordered(self, layers: Sequence[str], outputs: Sequence[str]) -> Counts:
        """The same counts with populations and outputs in this order; JSON files are sorted."""

        def sort(values: Mapping[str, Value], names: Sequence[str] = layers) -> dict[str, Value]:
            return {name: values[name] for name in names if name in values}

        return replace(
            self,
            outputs=sort(self.outputs, outputs),
            spikes=None if self.spikes is None else sort(self.spikes),
            parity=tuple(replace(c, spike_counts=sort(c.spike_counts)) for c in self.parity),
        )


def total(parts: Sequence[Counts], tolerance: Tolerance) -> Counts:
    """Sum the counts of successive samples."""
    values: dict[str, Any] = {}
    for entry in fields(Counts):
        if entry.name not in ("parity", "outputs"):
            values[entry.name] = _sum([getattr(part, entry.name) for part in parts])
    values["outputs"] = total_outputs([part.outputs for part in parts])
    compared = zip(*(part.parity for part in parts), strict=True)
    return Counts(**values, parity=tuple(merge(each, tolerance) for each in compared))


def from_json(value: Any) -> Counts:
    """Counts from the JSON values of to_json; raises DataError if they are others."""
    return from_typed_json(Counts, value)


def _sum(values: Sequence[Any]) -> Any:
    if not is_measured(values):
        return None
    first = values[0]
    if isinstance(first, tuple):
        return tuple(map(sum, zip(*values, strict=True)))
    if isinstance(first, dict):
        if any(value.keys() != first.keys() for value in values):
            raise ValueError("counts of other names")
        return {name: sum(value[name] for value in values) for name in first}
    return sum(values)
