"""Run a bundle's network on batches of samples, and count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.early_exit import EarlyExit, confidence_unit, stop_where_sure
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.counts import Counts, total
from icsnn_deploy.evaluation.fastest import FastestSimulator
from icsnn_deploy.evaluation.options import AUTO, EvaluationOptions
from icsnn_deploy.graph.certificate import require_certificate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.judging.count import count_outputs
from icsnn_deploy.parity.compare import compare
from icsnn_deploy.parity.judge import Comparison
from icsnn_deploy.parity.verify import images_at_once, probe


class Evaluator:
    """Runs the backends and the ANN of a bundle on batches of samples.

    Args:
        bundle: the network, its ANN and its exports.
        network: that of the bundle, with the tasks that its outputs are judged by.
        options: what to measure.
        samples: number of samples that will be run.

    Raises:
        LatticeError: an integer network that does not certify, but backends are to be compared.
        BundleError, ExportError, BackendUnavailableError: a backend can't be opened.
        DataError: early exit, but the backend does not record the logits of each step, the network
            is not one classifier, or the integer network has no output_unit.
    """

    def __init__(
        self, bundle: Bundle, network: Graph, options: EvaluationOptions, samples: int = 0
    ) -> None:
        self.network = network
        if options.parity and network.is_integer:
            require_certificate(network)
        self.options = options
        self.tolerance = options.tolerance(network)
        self.axis = network.input.batch_axis
        self.others = {spec: open_backend(bundle, options.placed(spec)) for spec in options.parity}
        self.simulator = open_backend(bundle, options.placed(options.opened))
        if options.backend == AUTO:
            self.simulator = FastestSimulator(network, self.simulator, samples)
        if options.confidence is not None and not self.simulator.gives_logits_t:
            raise DataError(
                f"early exit on {options.backend}: it does not record the logits of each step; use "
                "torch, or export the ONNX file with --logits-t"
            )
        self.unit = 1.0 if options.confidence is None else confidence_unit(network)
        self.record = Record(
            spikes=bool(self.others),
            counts=not self.others,
            logits_t=self.simulator.gives_logits_t,
        )
        self.batch_size = options.batch_size
        if self.others or not self.simulator.cuts_batches:
            self.batch_size = min(self.batch_size, images_at_once(network, 1 + len(self.others)))
        has_ann = bundle.ann_hash is not None
        self.ann = TorchANN(bundle.ann(), device=options.torch_device) if has_ann else None

    def count(
        self, samples: Array, labels: Mapping[str, Array] | None, first: int
    ) -> Iterator[Counts]:
        """Yield the counts of successive batches.

        Args:
            samples: [N, *shape], or [T, N, *shape] for rate and event input.
            labels: checked labels by output (check_output_labels).
            first: number of the first sample.
        """
        for start in range(0, samples.shape[self.axis], self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = samples[rows] if self.axis == 0 else samples[:, rows]
            own = None if labels is None else {name: each[rows] for name, each in labels.items()}
            yield self._batch(batch, own, first + start)

    @property
    def ran(self) -> tuple[str, ...]:
        """Names of the backends that gave the results so far."""
        if isinstance(self.simulator, FastestSimulator):
            return tuple(sorted(self.simulator.ran))
        return (self.options.backend,)

    def total(self, parts: list[Counts]) -> Counts:
        """Sum the counts of successive samples."""
        return total(parts, self.tolerance)

    def _batch(self, samples: Array, labels: Mapping[str, Array] | None, first: int) -> Counts:
        x = check_inputs(self.network, to_input_units(self.network, samples))
        found = self.simulator.run(x, self.record)
        ann = None if self.ann is None else self._ann_logits(self.ann, x)
        early = self._early_exit(found)
        return Counts(
            samples=len(found.logits),
            outputs=count_outputs(
                self.network,
                found.logits,
                labels=labels,
                ann=ann,
                logits_t=found.logits_t,
                early=None if early is None else early.logits,
            ),
            spikes={
                name: int(count.sum(dtype=np.int64)) for name, count in found.spike_counts().items()
            }
            or None,
            exit_steps=None if early is None else _stopped_after(early.steps, self.network.steps),
            parity=tuple(self._comparisons(x, found, first)),
        )

    def _ann_logits(self, ann: TorchANN, x: Array) -> Array:
        analog = x if self.axis == 0 else x.mean(axis=0)  # mean of spikes: the rate
        return ann.run(to_real_units(self.network, analog))

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

    def _early_exit(self, found: Recording) -> EarlyExit | None:
        """The result with early exit, if the options ask for it."""
        if self.options.confidence is None or found.logits_t is None:
            return None
        start = self.network.readout_start
        return stop_where_sure(found.logits_t, start, self.options.confidence, unit=self.unit)


def _stopped_after(steps: Array, last: int) -> tuple[int, ...]:
    """Number of samples that stopped after step 1, 2, ... T."""
    return tuple(map(int, np.bincount(steps, minlength=last + 1)[1:]))
