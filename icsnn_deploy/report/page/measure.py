"""Run a bundle's network and its ANN once over the samples, and measure what a report shows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.early_exit import confidence_unit, stop_where_sure
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.manifest import MANIFEST, read_json
from icsnn_deploy.errors import DataError, LatticeError
from icsnn_deploy.evaluation.activity import Activity, measure_activity, merge_activities
from icsnn_deploy.evaluation.cost_record import ChipCost
from icsnn_deploy.evaluation.counts import Counts, total
from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.graph.certificate import Certificate, certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, part_units, to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.readout import label_scores
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.judging.count import count_outputs
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.parity.compare import Tolerance
from icsnn_deploy.parity.verify import images_at_once
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.report.page.layer_measures import LayerSums
from icsnn_deploy.report.page.measures import BundleMeasures, Example, ExitPoint
from icsnn_deploy.report.page.parity_measures import default_backends, measure_parity
from icsnn_deploy.report.page.sample_measures import ExampleChooser, rasters
from icsnn_deploy.sources.selection import check_limit
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.check import CheckResult, check
from icsnn_deploy.version import __version__

CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Confidences that early exit is measured at."""

_MOST_CLASSES = 1000
"""Classes that a confusion is counted for, at most."""

_RASTERS = 2


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report measures.

    Args:
        backends: that are compared with the reference; None: torch, and that of each export.
        parity_samples: samples that are compared, the first ones; 0 compares none.
        targets: names of hardware targets; None: all that have limits.
        host_first_layer: the host runs the analog first layer, where a target takes spikes only.
        batch_size: samples that are run at once.
        margin: allowed at the first divergence of a float network (Tolerance).
        device: torch device of network and ANN.
    """

    backends: tuple[str, ...] | None = None
    parity_samples: int = 8
    targets: tuple[str, ...] | None = None
    host_first_layer: bool = True
    batch_size: int = 64
    margin: float = 1e-4
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.parity_samples < 0 or self.batch_size < 1:
            raise DataError(
                f"parity_samples {self.parity_samples}, batch_size {self.batch_size}: at least 0 "
                "and at least 1 are needed"
            )
        for name in self.targets or ():
            find_target(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldSamples:
    """Samples in memory as a data set, [N, *shape] or [T, N, *shape]."""

    samples: Array
    axis: int
    name: str

    def __len__(self) -> int:
        return int(self.samples.shape[self.axis])

    def blank(self) -> Array:
        """One sample."""
        return self.read(0, 1)

    def read(self, start: int, stop: int) -> Array:
        """Samples `start` to `stop`."""
        return self.samples[(slice(None),) * self.axis + (slice(start, stop),)]

    def digest(self) -> str:
        """Empty: always in the same order."""
        return ""


def own_samples(bundle: Bundle) -> HeldSamples:
    """The samples that came with a bundle; raises BundleError if there are none."""
    axis = bundle.network().input.batch_axis
    return HeldSamples(samples=bundle.samples(), axis=axis, name="the bundle's own samples")


def measure(
    bundle: Bundle,
    samples: DataSet,
    labels: Array | Mapping[str, Array] | None = None,
    options: ReportOptions = ReportOptions(),
    *,
    task: Task | Mapping[str, Task] | None = None,
    limit: int | None = None,
    chip_cost: ChipCost | None = None,
    progress: Progress = silent,
) -> BundleMeasures:
    """Measure what a report shows of a bundle.

    Args:
        bundle: the network, its ANN and its exports.
        samples: the data set.
        labels: of the only output, or by the name of the output (judging.labels).
        options: what to measure.
        task: what the output is, where the bundle's task is wrong; of several outputs, by name.
        limit: use only the first samples.
        chip_cost: of this network, to be shown beside the estimate.
        progress: called as each stage advances.

    Raises:
        DataError: samples, labels or task do not fit the network, or a limit below 1.
        BundleError: a file of the bundle is missing or damaged.
    """
    check_limit(limit)
    network = judged_as(bundle.network(), task)
    count = min(len(samples), limit or len(samples))
    if count < 1:
        raise DataError(f"{samples.name}: no samples")
    given = None
    if labels is not None:
        given = check_output_labels(network, labels, count, samples=len(samples))
    run = _Run(bundle, network, options, given)
    for start in range(0, count, run.batch_size):
        progress("running the samples", start, count)
        stop = min(start + run.batch_size, count)
        run.add(samples.read(start, stop), start)
    progress("running the samples", count, count)
    shown = [(number, _title(each)) for number, each in run.shown().items()]
    numbers = {n: (run.inputs(samples.read(n, n + 1)), title) for n, title in shown}
    spikes, traces = rasters(run.simulator, numbers)
    compared = min(options.parity_samples, count)
    parity = measure_parity(
        bundle,
        network,
        (options.backends or default_backends(bundle)) if compared else (),
        run.inputs(samples.read(0, max(compared, 1))),
        margin=options.margin,
        progress=progress,
    )
    certificate = _certificate(network)
    widths = _widths(network, certificate)
    return BundleMeasures(
        name=bundle.path.name or str(bundle.path),
        evaluation=run.evaluation(),
        exits=run.exits(),
        confusion=run.confusion_rows(),
        layers=tuple(sums.measures() for sums in run.layers.values()),
        activity=run.activity(),
        rasters=spikes,
        traces=traces,
        examples=run.chooser.examples(),
        parity=parity,
        certificate=certificate,
        targets=_targets(network, options),
        weight_bits=(min(widths), max(widths)) if widths else None,
        record=bundle.report(),
        producer=str(read_json(bundle.path / MANIFEST).get("producer", "unknown")),
        versions=versions(),
        samples_from=f"{count:,} samples of {samples.name}",
        chip_cost=chip_cost,
    )


class _Run:
    """The network and its ANN on batches of samples."""

    def __init__(
        self,
        bundle: Bundle,
        network: Graph,
        options: ReportOptions,
        labels: Mapping[str, Array] | None,
    ) -> None:
        self.bundle, self.network, self.labels = bundle, network, labels
        self.batch_size = min(options.batch_size, images_at_once(network, 1))
        self.simulator = TorchSimulator(network, device=options.device)
        self.ann = None
        if bundle.ann_hash is not None:
            self.ann = TorchANN(bundle.ann(), device=options.device)
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


def _title(example: Example | None) -> str:
    if example is None or example.label is None:
        return "" if example is None else f"found {example.found}"
    return f"label {example.label}, found {example.found}"


def _confidence_unit(network: Graph) -> float | None:
    """The logit that one unit of the output stands for; None where early exit is not defined."""
    try:
        return confidence_unit(network)
    except DataError:
        return None


def _certificate(network: Graph) -> Certificate | None:
    try:
        return certify(network) if network.is_integer else None
    except LatticeError:
        return None


def _widths(network: Graph, certificate: Certificate | None) -> tuple[int, ...]:
    """Widths of the weights of convolutions and fully connected layers, as quantization chose."""
    stated = network.provenance.get("weight_bits")
    if isinstance(stated, Mapping) and stated and all(type(b) is int for b in stated.values()):
        return tuple(stated.values())
    return tuple(certificate.weight_bits.values()) if certificate else ()


def _targets(network: Graph, options: ReportOptions) -> tuple[CheckResult, ...]:
    """The check against each target; the host runs the first layer where the chip takes spikes."""
    found = []
    names = options.targets or tuple(name for name in TARGETS if name != "generic")
    constant = network.constant_nodes()
    splittable = any(one.inputs[0] not in constant for one in network.nodes_of(Population))
    for name in names:
        profile = find_target(name)
        on_host = (
            options.host_first_layer
            and splittable
            and not profile.analog_input
            and not network.input.is_timed
        )
        found.append(check(network, profile, host_first_layer=on_host))
    return tuple(found)


def versions() -> dict[str, str]:
    """Versions of this package and of what it runs on."""
    found = {"icsnn-deploy": __version__, "Python": platform.python_version()}
    for name in ("numpy", "torch", "onnx", "onnxruntime", "nir"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
