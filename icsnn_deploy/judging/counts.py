"""Counts of one output over samples, which can be added up, and what they are called.

A reading is one result of the network for the samples: after all steps, after step t, with early
exit; or the ANN's result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from icsnn_deploy.graph.spread import Moments, merge_moments
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.judging.typed_json import from_typed_json


@dataclass(frozen=True, kw_only=True)
class Match:
    """How well a reading meets the labels and the ANN; None if not measured.

    A decision is one sample's class; of binary, of each value; of segmentation, of each position.

    Args:
        top1, top5: labelled decisions whose label is the first class, or among the first five.
        agreeing: decisions with the ANN's class.
        overlap: by class, labelled positions of that class that are found to be of it.
        predicted: by class, labelled positions that are found to be of it.
        label_error: sum of the squared differences from the labels.
        ann_error: sum of the squared differences from the ANN's values.
    """

    top1: int | None = None
    top5: int | None = None
    agreeing: int | None = None
    overlap: tuple[int, ...] | None = None
    predicted: tuple[int, ...] | None = None
    label_error: float | None = None
    ann_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class OutputCounts:
    """Counts of one output over samples; None if not measured.

    Args:
        task: that it is judged by.
        decisions: number of decisions (see Match); of numbers, number of values.
        labelled: number of them that have a label.
        truth: of segmentation, labelled positions by class.
        labels: of numbers, the moments of the labels.
        ann_values: of numbers, the moments of the ANN's values.
        snn: the network after all steps.
        ann: the ANN against the labels.
        over_time: the network after step 1, 2, ... T.
        early: the network with early exit.
    """

    task: Task
    decisions: int
    labelled: int | None = None
    truth: tuple[int, ...] | None = None
    labels: Moments | None = None
    ann_values: Moments | None = None
    snn: Match = Match()
    ann: Match | None = None
    over_time: tuple[Match, ...] | None = None
    early: Match | None = None

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON values, which from_json reads."""
        return asdict(self)


def total_outputs(parts: Sequence[Mapping[str, OutputCounts]]) -> dict[str, OutputCounts]:
    """Add up the counts of successive samples, by output."""
    return {name: _total([part[name] for part in parts]) for name in parts[0]}


def is_measured(values: Sequence[Any]) -> bool:
    """Whether successive samples have a count; raises ValueError if only some of them do."""
    missing = sum(value is None for value in values)
    if 0 < missing < len(values):
        raise ValueError(f"{missing} of {len(values)} have no count where others have one")
    return not missing


def from_json(value: Any) -> OutputCounts:
    """Counts from the JSON values of to_json; raises DataError if they are others."""
    return from_typed_json(OutputCounts, value)


def _total(parts: Sequence[OutputCounts]) -> OutputCounts:
    values: dict[str, Any] = {"task": parts[0].task}
    for entry in fields(OutputCounts):
        if entry.name != "task":
            values[entry.name] = _sum([getattr(part, entry.name) for part in parts])
    return OutputCounts(**values)


def _sum(values: Sequence[Any]) -> Any:
    """The sum of numbers, of tuples entry by entry, of matches field by field; None of None."""
    if not is_measured(values):
        return None
    first = values[0]
    if isinstance(first, Moments):
        return merge_moments(values)
    if isinstance(first, Match):
        names = [entry.name for entry in fields(Match)]
        return Match(**{name: _sum([getattr(value, name) for value in values]) for name in names})
    if isinstance(first, tuple):
        return tuple(_sum(each) for each in zip(*values, strict=True))
    return sum(values)
