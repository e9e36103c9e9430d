"""A bundle's network and its ANN on batches of samples, and what is counted of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.early_exit import confidence_unit, stop_where_sure
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.activity import Activity, measure_activity, merge_activities
from icsnn_deploy.evaluation.counts import Counts, total
from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, part_units, to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.readout import label_scores
from icsnn_deploy.judging.count import count_outputs
from icsnn_deploy.parity.judge import Tolerance
from icsnn_deploy.parity.verify import images_at_once
from icsnn_deploy.report.page.layer_measures import LayerSums
from icsnn_deploy.report.page.measures import Example, ExitPoint
from icsnn_deploy.report.page.sample_measures import ExampleChooser

CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Confidences that early exit is measured at."""

_MOST_CLASSES = 1000
"""Classes that a confusion is counted for, at most."""

_RASTERS = 2


class SamplesRun:
    """The network and its ANN on batches of samples."""

    def __init__(
        self,
        bundle: Bundle,
        network: Graph,
        labels: Mapping[str, Array] | None,
        *,
        batch_size: int,
        device: str,
    ) -> None:
        self.bundle, self.network, self.labels = bundle, network, labels
        self.batch_size = min(batch_size, images_at_once(network, 1))
        self.simulator = TorchSimulator(network, device=device)
        self.ann = None
        if bundle.ann_hash is not None:
            self.ann = TorchANN(bundle.ann(), device=device)
        self.layers = {node.name: LayerSums(network, node) for node in network.nodes_of(Population)}
        self.parts: list[Counts] = []
        self.activities: list[Activity] = []
        self.chooser = ExampleChooser()
        self.classifier = is_classifier(network)
        self.unit = _confidence_unit(network)
        self.stopped: list[tuple[Counts, ...]] = []
        self.confusion: Array | None = None

    def inputs(self, samples: Array) -> Array:
        """Samples as the network takes them, checked."""
        return check_inputs(self.network, to_input_units(self.network, samples))

    def add(self, samples: Array, first: int) -> None:
        """Run one batch; `first` is the number of its first sample."""
        x = self.inputs(samples)
        record = Record(spikes=False, counts=True, first_spikes=True, logits_t=True)
        found = self.simulator.run(x, record)
        size = len(found.logits)
        labels = None
        if self.labels is not None:
            labels = {name: each[first : first + size] for name, each in self.labels.items()}
        ann = self._compare_with_ann(x, found)
        for name, sums in self.layers.items():
            sums.add(found.counts[name], found.first_spikes[name])
        self.activities.append(measure_activity(self.network, found, x))
        self.parts.append(
            Counts(
                samples=size,
                outputs=count_outputs(
                    self.network, found.logits, labels=labels, ann=ann, logits_t=found.logits_t
                ),
                spikes={name: int(c.sum(dtype=np.int64)) for name, c in found.counts.items()},
            )
        )
        if self.classifier:
            self._classes(x, found, labels, ann, first)

    def _compare_with_ann(self, x: Array, found: Recording) -> Array | None:
        """The logits of the ANN; its activations are compared with the populations' outputs."""
        if self.ann is None:
            return None
        analog = x if self.network.input.batch_axis == 0 else x.mean(axis=0)
        logits, activations = self.ann.run_with_activations(to_real_units(self.network, analog))
        for name, sums in self.layers.items():
            activation = activations.get(name)
            if activation is not None and activation.shape == found.counts[name].shape:
                sums.compare(activation.cpu().numpy(), found.counts[name])
        return logits

    def _classes(
        self,
        x: Array,
        found: Recording,
        labels: Mapping[str, Array] | None,
        ann: Array | None,
        first: int,
    ) -> None:
        """Early exit, confusion and examples of a classifier."""
        own = None if labels is None else next(iter(labels.values()), None)
        logits, logits_t = found.logits, found.logits_t
        assert logits_t is not None
        if self.unit is not None:
            self.stopped.append(tuple(self._stopped(logits_t, c, labels, ann) for c in CONFIDENCES))
        if own is not None and own.ndim != 1:  # several decisions: not one class
            return
        winners = label_scores(logits).argmax(axis=1)
        best = None if ann is None else label_scores(ann).argmax(axis=1)
        classes = label_scores(logits).shape[1]
        if own is not None and classes <= _MOST_CLASSES:
            if self.confusion is None:
                self.confusion = np.zeros((classes, classes), np.int64)
            np.add.at(self.confusion, (own, winners), 1)
        images = x if self.network.input.batch_axis == 0 else x.mean(axis=0)
        unit = (part_units(self.network) or (1.0,))[0]
        for n in range(len(logits)):
            label = None if own is None else int(own[n])

            def make(n: int = n, label: int | None = label) -> Example:
                return Example(
                    sample=first + n,
                    values=np.array(images[n]),
                    label=label,
                    found=int(winners[n]),
                    ann=None if best is None else int(best[n]),
                    logits=tuple(map(float, logits[n].ravel() * unit)),
                    ann_logits=() if ann is None else tuple(map(float, ann[n].ravel())),
                )

            self.chooser.add(first + n, label, int(winners[n]), make)

    def _stopped(
        self,
        logits_t: Array,
        confidence: float,
        labels: Mapping[str, Array] | None,
        ann: Array | None,
    ) -> Counts:
        """The counts of a batch with early exit at one confidence."""
        start = self.network.readout_start
        early = stop_where_sure(logits_t, start, confidence, unit=self.unit or 1.0)
        steps = np.bincount(early.steps, minlength=self.network.steps + 1)[1:]
        return Counts(
            samples=len(early.steps),
            outputs=count_outputs(self.network, early.logits, labels=labels, ann=ann),
            exit_steps=tuple(map(int, steps)),
        )

    def evaluation(self) -> Evaluation:
        """The figures over all samples."""
        return Evaluation(
            graph=self.network,
            graph_hash=self.bundle.graph_hash,
            backend=self.simulator.name,
            confidence=None,
            counts=total(self.parts, Tolerance()),
        )

    def exits(self) -> tuple[ExitPoint, ...]:
        """Early exit at each confidence."""
        points = []
        for confidence, parts in zip(CONFIDENCES, zip(*self.stopped, strict=True), strict=False):
            counts = total(parts, Tolerance())
            match = next(iter(counts.outputs.values())).snn
            steps = sum(t * n for t, n in enumerate(counts.exit_steps or (), start=1))
            points.append(
                ExitPoint(
                    confidence=confidence,
                    mean_steps=steps / counts.samples,
                    right=match.top1,
                    agreeing=match.agreeing,
                )
            )
        return tuple(points)

    def confusion_rows(self) -> tuple[tuple[int, ...], ...]:
        """Samples by label and by class found; empty where it was not counted."""
        return () if self.confusion is None else tuple(tuple(map(int, r)) for r in self.confusion)

    def activity(self) -> Activity:
        """Spikes and operations per sample over all batches."""
        return merge_activities(self.activities)

    def shown(self) -> dict[int, Example | None]:
        """The samples of the rasters: one that is right and one that is wrong, or the first."""
        examples = self.chooser.examples()
        right = [e for e in examples if e.label in (None, e.found)][:1]
        wrong = [e for e in examples if e.label not in (None, e.found)][:1]
        chosen = (right + wrong or list(examples))[:_RASTERS]
        return {e.sample: e for e in chosen} if chosen else {0: None}


def title_of(example: Example | None) -> str:
    """What a raster says of the sample it shows."""
    if example is None or example.label is None:
        return "" if example is None else f"found {example.found}"
    return f"label {example.label}, found {example.found}"


def _confidence_unit(network: Graph) -> float | None:
    """The logit that one unit of the output stands for; None where early exit is not defined."""
    try:
        return confidence_unit(network)
    except DataError:
        return None
