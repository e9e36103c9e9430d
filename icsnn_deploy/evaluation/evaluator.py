"""Counts what a bundle's network does with samples, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.bundle import Bundle
from icsnn_deploy.certificate import require_certificate
from icsnn_deploy.encoding import check_inputs, to_input_units, to_real_units
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.counts import Counts, class_scores, places, total
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.parity import Comparison, Tolerance, compare, top1
from icsnn_deploy.ranks import own_device
from icsnn_deploy.simulate import find_backend, open_backend
from icsnn_deploy.simulate.recording import Record, Recording
from icsnn_deploy.verification import images_at_once, probe

_OVER_TIME = (None, "onnx-step", "nir")
"""Exports, or none, whose backends give the logits of each step; ONNX files only on request."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, and how.

    Args:
        backend: that is measured, as simulate.open_backend takes it.
        parity: backends that are compared with it, spike for spike.
        confidence: also run with early exit at this confidence (backend torch).
        batch_size: samples run at once, fewer where spikes are kept and would not fit the memory.
        shard_size: samples that are finished, and kept, together.
        device: of the backend torch and of the ANN.
        margin: float networks: |u - v_threshold| / v_threshold allowed where an image diverges.
    """

    backend: str = "torch"
    parity: tuple[str, ...] = ()
    confidence: float | None = None
    batch_size: int = 64
    shard_size: int = 256
    device: str = "cpu"
    margin: float = 1e-4

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.shard_size < 1:
            raise DataError(
                f"batch_size {self.batch_size}, shard_size {self.shard_size}: at least 1 is needed"
            )
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise DataError(
                f"early exit at a confidence of {self.confidence}: 0 < c <= 1 is needed"
            )
        if self.confidence is not None and self.backend != "torch":
            raise DataError(f"early exit on {self.backend}: only the backend torch has it")
        Tolerance(margin=self.margin)  # raises DataError
        if self.backend in self.parity:
            raise DataError(
                f"{self.backend} compared with itself: parity takes another backend than the one "
                "that is measured"
            )
        for spec in (self.backend, *self.parity):
            find_backend(spec)

    def tolerance(self, network: Graph) -> Tolerance:
        """What backends may differ by: an integer network's by nothing."""
        return Tolerance(margin=self.margin, exact=network.is_integer)


class Evaluator:
    """Runs the backends and the ANN of a bundle on batches of samples.

    Raises:
        LatticeError: an integer network that does not certify, compared between backends.
        BundleError, ExportError, BackendUnavailableError: a backend that can't be opened.
        DataError: labels for a network whose output is no vector of classes.
    """

    def __init__(self, bundle: Bundle, options: EvaluationOptions, *, labelled: bool) -> None:
        self.network = network = bundle.network()
        if options.parity and network.is_integer:
            require_certificate(network)
        if labelled and len(network.shape(network.output.name)) != 1:
            raise DataError(
                f"labels for an output of shape {network.shape(network.output.name)}: accuracy is "
                "counted for one vector of classes a sample"
            )
        self.options = options
        self.tolerance = options.tolerance(network)
        self.axis = 0 if network.input.encoding == "direct" else 1
        self.others = {spec: open_backend(bundle, spec) for spec in options.parity}
        spec = options.backend
        device = own_device(options.device)
        on_device = spec in ("torch", "torch-float64")
        self.simulator = open_backend(bundle, f"{spec}:{device}" if on_device else spec)
        counts_alone = spec.startswith("torch") and not self.others
        self.record = Record(
            spikes=not counts_alone,
            counts=counts_alone,
            logits_t=find_backend(spec)[0].export in _OVER_TIME,
        )
        self.batch_size = options.batch_size
        if not counts_alone:
            self.batch_size = min(self.batch_size, images_at_once(network, 1 + len(self.others)))
        from icsnn_deploy.simulate.torch_ann import TorchANN

        has_ann = bundle.ann_hash is not None
        self.ann = TorchANN(bundle.ann(), device=device) if has_ann else None

    def count(self, samples: Array, labels: Array | None, first: int) -> Iterator[Counts]:
        """Counts of successive batches of the samples, whose first has the number `first`."""
        for start in range(0, samples.shape[self.axis], self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = samples[rows] if self.axis == 0 else samples[:, rows]
            yield self._batch(batch, None if labels is None else labels[rows], first + start)

    def total(self, parts: list[Counts]) -> Counts:
        """The counts of successive samples together."""
        return total(parts, self.tolerance)

    def _batch(self, samples: Array, labels: Array | None, first: int) -> Counts:
        x = check_inputs(self.network, to_input_units(self.network, samples))
        found = self.simulator.run(x, self.record)
        ann = None if self.ann is None else self._ann_logits(x)
        counts = Counts(
            samples=len(found.logits),
            top1=_correct(found.logits, labels, 1),
            top5=_correct(found.logits, labels, 5),
            ann_top1=_correct(ann, labels, 1),
            ann_top5=_correct(ann, labels, 5),
            agreeing=_agreeing(found.logits, ann),
            top1_t=_each_step(found, lambda logits: _correct(logits, labels, 1)),
            agreeing_t=_each_step(found, lambda logits: _agreeing(logits, ann)),
            spikes={
                name: int(count.sum(dtype=np.int64)) for name, count in found.spike_counts().items()
            }
            or None,
            parity=tuple(self._comparisons(x, found, first)),
        )
        return counts if self.options.confidence is None else self._exit(counts, x, labels, ann)

    def _ann_logits(self, x: Array) -> Array:
        analog = x if self.axis == 0 else x.mean(axis=0)  # mean of spikes: the rate
        assert self.ann is not None
        return self.ann.run(to_real_units(self.network, analog))

    def _comparisons(self, x: Array, expected: Recording, first: int) -> Iterator[Comparison]:
        u = probe(self.simulator, x, self.axis)
        for spec, simulator in self.others.items():
            yield compare(
                expected,
                replace(simulator.run(x), backend=spec),
                self.network,
                tolerance=self.tolerance,
                first_image=first,
                reference_potentials=u,
                other_potentials=probe(simulator, x, self.axis),
            )

    def _exit(self, counts: Counts, x: Array, labels: Array | None, ann: Array | None) -> Counts:
        from icsnn_deploy.simulate.early_exit import logit_unit, run_until_sure
        from icsnn_deploy.simulate.torch import TorchSimulator

        confidence = self.options.confidence
        assert confidence is not None
        assert isinstance(self.simulator, TorchSimulator)
        unit = logit_unit(self.network)
        found = run_until_sure(self.simulator, x, confidence, unit=unit)
        stopped = np.bincount(found.steps, minlength=self.network.steps + 1)[1:]
        return replace(
            counts,
            exit_steps=tuple(map(int, stopped)),
            exit_top1=_correct(found.logits, labels, 1),
            exit_agreeing=_agreeing(found.logits, ann),
        )


def _correct(logits: Array | None, labels: Array | None, first: int) -> int | None:
    """Samples whose label is among the first so many classes; None where those are all."""
    if logits is None or labels is None:
        return None
    scores = class_scores(logits)
    if scores.shape[1] <= first:
        return None
    return int((places(scores, labels) < first).sum())


def _agreeing(logits: Array, ann: Array | None) -> int | None:
    if ann is None:
        return None
    return int((top1(class_scores(logits)) == top1(class_scores(ann))).sum())


def _each_step(found: Recording, count: Callable[[Array], int | None]) -> tuple[int, ...] | None:
    """Counts at each step, where the backend gives them and there is something to count."""
    if found.logits_t is None:
        return None
    counted = [count(logits) for logits in found.logits_t]
    known = tuple(number for number in counted if number is not None)
    return known or None
