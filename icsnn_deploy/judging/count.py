"""Count how well the outputs of a network meet labels and the ANN, by the task of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.arrangement import output_tasks, split_outputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import decided_classes, label_scores
from icsnn_deploy.graph.spread import moments, squared_error
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task
from icsnn_deploy.judging.counts import Match, OutputCounts
from icsnn_deploy.judging.labels import NO_CLASS


def count_outputs(
    graph: Graph,
    logits: Array,
    *,
    labels: Mapping[str, Array] | None = None,
    ann: Array | None = None,
    logits_t: Array | None = None,
    early: Array | None = None,
) -> dict[str, OutputCounts]:
    """Count every output of a batch, by name.

    Numbers are compared in units of the ANN: nothing is counted for those of an integer network
    that does not record what its output stands for.

    Args:
        graph: the network, for the arrangement, the tasks and the unit of its outputs.
        logits: of the network, [B, *output shape].
        labels: checked labels by output (labels.check_output_labels).
        ann: logits of the ANN.
        logits_t: of the network after each step, [T, B, *output shape].
        early: logits with early exit.
    """
    found = split_outputs(graph, logits)
    expected = {} if ann is None else split_outputs(graph, ann)
    over_time = None if logits_t is None else [split_outputs(graph, each) for each in logits_t]
    stopped = {} if early is None else split_outputs(graph, early)
    units, result = part_units(graph) or (None,) * len(found), {}
    for (name, task), unit in zip(output_tasks(graph).items(), units, strict=True):
        scale = 1.0 if task in CLASS_TASKS else unit
        target = _Target(task, (labels or {}).get(name), expected.get(name))
        if scale is None:
            result[name] = OutputCounts(task=task, decisions=math.prod(found[name].shape))
            continue
        steps = None if over_time is None else [each[name] * scale for each in over_time]
        result[name] = target.count(found[name] * scale, steps, stopped.get(name))
    return result


def same_classes(graph: Graph, one: Array, other: Array) -> dict[str, tuple[int, int]]:
    """(decisions of the same class, decisions) of two results, by the outputs that are classes.

    Args:
        graph: the network.
        one, other: logits of the same samples, [B, *output shape].
    """
    ours, theirs = split_outputs(graph, one), split_outputs(graph, other)
    result = {}
    for name, task in output_tasks(graph).items():
        if task in CLASS_TASKS:
            same = decided_classes(task, ours[name]) == decided_classes(task, theirs[name])
            result[name] = (int(same.sum()), same.size)
    return result


def places(scores: Array, labels: Array) -> Array:
    """Number of classes that rank before each sample's label, [B]; ties rank by class index."""
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < labels[:, None]
    count: Array = ((scores > own) | ((scores == own) & lower)).sum(axis=1)
    return count


@dataclass(frozen=True, eq=False)
class _Target:
    """What the readings of one output are compared with."""

    task: Task
    labels: Array | None
    ann: Array | None

    def count(
        self, found: Array, steps: Sequence[Array] | None, early: Array | None
    ) -> OutputCounts:
        """The counts of the network's result, after each step, and with early exit."""
        if self.task not in CLASS_TASKS:
            return self._numbers(found, steps)
        shape = found.shape
        decisions = len(found) if self.task == "classification" else math.prod(shape)
        if self.task == "segmentation":
            decisions //= shape[1]
        labelled = None
        if self.labels is not None:
            labelled = int((self.labels != NO_CLASS).sum())
        truth = None
        if self.task == "segmentation" and self.labels is not None:
            truth = _histogram(self.labels, max(2, shape[1]))
        return OutputCounts(
            task=self.task,
            decisions=decisions,
            labelled=labelled,
            truth=truth,
            snn=self._match(found),
            ann=None if self.ann is None else self._match(self.ann, is_ann=True),
            over_time=self._over_time(self._match(step, brief=True) for step in steps or ()),
            early=None if early is None else self._match(early),
        )

    def _match(self, found: Array, *, is_ann: bool = False, brief: bool = False) -> Match:
        """One reading of classes; `brief` leaves out the counts by class."""
        classes = decided_classes(self.task, found)
        agreeing = None
        if self.ann is not None and not is_ann:
            agreeing = int((classes == decided_classes(self.task, self.ann)).sum())
        labels = self.labels
        if labels is None:
            return Match(agreeing=agreeing)
        if self.task == "classification":
            return Match(
                top1=_among_first(found, labels, 1),
                top5=_among_first(found, labels, 5),
                agreeing=agreeing,
            )
        right = classes == labels.reshape(classes.shape)
        if self.task == "binary" or brief:
            return Match(top1=int(right.sum()), agreeing=agreeing)
        number = max(2, found.shape[1])
        return Match(
            top1=int(right.sum()),
            agreeing=agreeing,
            overlap=_histogram(labels[right], number),
            predicted=_histogram(classes[labels != NO_CLASS], number),
        )

    def _numbers(self, found: Array, steps: Sequence[Array] | None) -> OutputCounts:
        labels = self.labels
        return OutputCounts(
            task=self.task,
            decisions=found.size,
            labelled=None if labels is None else found.size,
            labels=None if labels is None else moments(labels),
            ann_values=None if self.ann is None else moments(self.ann),
            snn=self._distance(found),
            ann=None if self.ann is None or labels is None else self._distance(self.ann, True),
            over_time=self._over_time(self._distance(step) for step in steps or ()),
        )

    def _distance(self, found: Array, is_ann: bool = False) -> Match:
        """One reading of numbers."""
        to_ann = None if self.ann is None or is_ann else squared_error(self.ann, found)
        to_labels = None if self.labels is None else squared_error(self.labels, found)
        return Match(label_error=to_labels, ann_error=to_ann)

    def _over_time(self, matches: Iterator[Match]) -> tuple[Match, ...] | None:
        """The matches of all steps, unless there is nothing to compare with."""
        if self.labels is None and self.ann is None:
            return None
        return tuple(matches) or None


def _among_first(logits: Array, labels: Array, first: int) -> int | None:
    """Number of samples whose label is among the `first` classes; None if there are no others."""
    scores = label_scores(logits)
    if scores.shape[1] <= first:
        return None
    return int((places(scores, labels) < first).sum())


def _histogram(classes: Array, number: int) -> tuple[int, ...]:
    """How often each of `number` classes occurs; NO_CLASS is left out."""
    known = classes[classes != NO_CLASS]
    return tuple(map(int, np.bincount(known.reshape(-1), minlength=number)))
