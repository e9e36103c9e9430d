"""Evaluate a bundle on a data set, in shards that the processes share and save when finished.

The counts of a shard depend only on its samples, the bundle and the options, and all counts are
integers. So the figures are the same for any number of processes and of interruptions. The
processes exchange data only at the start and at the end.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.backends import find_backend
from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.bundle.manifest import json_bytes
from icsnn_deploy.distributed import SINGLE, Ranks
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.counts import Counts, total
from icsnn_deploy.evaluation.evaluator import Evaluator
from icsnn_deploy.evaluation.given_samples import open_given
from icsnn_deploy.evaluation.ledger import Ledger, Shard
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.arrangement import output_parts, output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, check_spikes, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.progress import Progress, inner_progress
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.sources.selection import check_limit
from icsnn_deploy.version import __version__


def evaluate(
    bundle: Bundle | str | os.PathLike[str],
    samples: Any,
    labels: Any = None,
    options: EvaluationOptions = EvaluationOptions(),
    *,
    task: Task | Mapping[str, Task] | None = None,
    limit: int | None = None,
    channels_last: bool | None = None,
    out: Path | str | None = None,
    ranks: Ranks = SINGLE,
    progress: ProgressOption = True,
) -> Evaluation:
    """Evaluate a bundle's network on a data set.

    Args:
        bundle: the network, its ANN and its exports; or the path of the bundle.
        samples: samples in any form that `convert` takes; or a data set that is read a few samples
            at a time (evaluation.samples.DataSet).
        labels: of the only output, or by the name of the output: class indices [N], of a
            segmentation [N, *positions], of a regression numbers [N, *output shape]; one per
            sample, or per sample that is run (judging.labels). Default: those that come with the
            samples, as a DataLoader has them.
        options: what to measure.
        task: what the output is, where the bundle's task is wrong; of several outputs, by name.
        limit: largest number of samples to run; None: all.
        channels_last: the order of axes, where it can't be told (pixels.is_channels_last).
        out: folder for finished shards; shards that it holds already are not run again.
        ranks: the processes that share the work.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        DataError: samples, labels or task do not fit the network, or are not those of the folder.
        LatticeError, BundleError, ExportError, BackendUnavailableError: see Evaluator.
        RankError: another process is lost, or evaluates something else.
    """
    bundle = as_bundle(bundle)
    bundle.check_files()
    network = judged_as(bundle.network(), task)
    options = options.chosen_for(network)
    samples, labels = open_given(
        bundle, network, samples, labels, limit=limit, channels_last=channels_last
    )
    job = _Job(bundle, network, samples, labels, options, limit)
    job.check_samples()
    ranks.require_equal(
        "the evaluation", lambda: hashlib.sha256(json_bytes(job.settings)).hexdigest()
    )
    ranks.require_equal("the order of the samples", samples.digest)
    ledger = None if out is None else Ledger(Path(out), job.settings)
    own = {} if ledger is None else ledger.finished()
    finished = {number: shard for part in ranks.gather(own) for number, shard in part.items()}
    with shown(progress, "evaluating", first=ranks.rank == 0) as reporting:
        job.check(finished, ranks, reporting)
        missing = [number for number in range(job.shards) if number not in finished]
        new = job.run(missing, ledger, ranks, reporting)
    for part in ranks.gather(new):
        finished |= part
    result = job.result([finished[number].counts for number in range(job.shards)])
    if ledger is not None and ranks.rank == 0:
        ledger.finish(result.to_json())
    return result


class _Job:
    """One evaluation, split into shards."""

    def __init__(
        self,
        bundle: Bundle,
        network: Graph,
        samples: DataSet,
        labels: Array | Mapping[str, Array] | None,
        options: EvaluationOptions,
        limit: int | None,
    ) -> None:
        check_limit(limit)
        self.count = min(len(samples), limit or len(samples))
        self.has_finished = False  # shards in the folder
        self.bundle = bundle
        self.network = network  # with the tasks that it is judged by
        self.samples = samples
        self.labels: dict[str, Array] | None = None
        if labels is not None:
            self.labels = check_output_labels(network, labels, self.count, samples=len(samples))
        self.options = options
        self.ran: tuple[str, ...] = ()  # backends that gave results in this process
        self.shards = -(-self.count // options.shard_size)
        self.settings = _settings(bundle, network, options, self.count, self.labels)

    def check_samples(self) -> None:
        """Raise DataError if the samples' shape or dtype does not fit; no sample is read."""
        blank = self.samples.blank()  # its own errors name the samples
        try:
            check_inputs(self.network, to_input_units(self.network, blank))
        except DataError as error:
            raise DataError(f"{self.samples.name}: {error}") from error

    def check(self, finished: Mapping[int, Shard], ranks: Ranks, progress: Progress) -> None:
        """Raise DataError if a finished shard has other samples; the processes share the work."""
        numbers = sorted(finished)
        self.has_finished = bool(numbers)
        own = [numbers[index] for index in ranks.assign(len(numbers))]
        for done, number in enumerate(own):
            progress("checking finished shards", done, len(own))
            if number >= self.shards:
                continue  # of a file that was renamed; it is not used
            self._check_counts(number, finished[number].counts)
            start, stop = self._bounds(number)
            if self._read(start, stop)[1] != finished[number].digest:
                raise DataError(
                    f"samples {start} to {stop} or their labels are not those of the finished "
                    f"shard {number}. Choose another folder, or delete this one"
                )

    def run(
        self, numbers: list[int], ledger: Ledger | None, ranks: Ranks, progress: Progress
    ) -> dict[int, Shard]:
        """Run those of the shards that are assigned to this process."""
        own = [numbers[index] for index in ranks.assign(len(numbers))]
        if not own:
            return {}
        count = sum(stop - start for start, stop in map(self._bounds, own))
        evaluator = Evaluator(self.bundle, self.network, self.options, count)
        if ledger is not None:
            ledger.begin()
        shards, done = {}, 0
        progress("evaluating", 0, count)
        for number in own:
            start, stop = self._bounds(number)
            samples, digest = self._read(start, stop)
            labels = self._labels(start, stop)
            parts = []
            with inner_progress(progress):
                for counts in evaluator.count(samples, labels, start):
                    parts.append(counts)
                    done += counts.samples
                    progress("evaluating", done, count)
            shards[number] = Shard(digest=digest, counts=evaluator.total(parts))
            if ledger is not None:
                ledger.keep(number, shards[number])
        self.ran = evaluator.ran
        return shards

    def result(self, parts: list[Counts]) -> Evaluation:
        """The result of all shards; raises DataError if finished ones do not fit together."""
        try:
            counts = total(parts, self.options.tolerance(self.network)).ordered(
                [node.name for node in self.network.nodes_of(Population)],
                [part.name for part in output_parts(self.network)],
            )
            result = Evaluation(
                graph=self.network,
                graph_hash=self.bundle.graph_hash,
                backend=self.options.backend,
                ran=self.ran,
                confidence=self.options.confidence,
                counts=counts,
            )
            result.to_json()
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if not self.has_finished:
                raise
            raise DataError(
                f"the finished shards do not fit together ({type(error).__name__}: {error}). "
                "Choose another folder, or delete this one"
            ) from error
        return result

    def _check_counts(self, number: int, counts: Counts) -> None:
        """Raise DataError if counts of a finished shard are not of this evaluation."""
        start, stop = self._bounds(number)
        tasks = output_tasks(self.network)
        populations = {node.name for node in self.network.nodes_of(Population)}
        problems = {
            f"{counts.samples} samples": counts.samples != stop - start,
            f"outputs {', '.join(counts.outputs)}": {
                name: each.task for name, each in counts.outputs.items()
            }
            != tasks,
            "spikes of other populations": not populations.issuperset(counts.spikes or {}),
            "comparisons of other backends": [each.backend for each in counts.parity]
            != list(self.options.parity),
        }
        for problem, holds in problems.items():
            if holds:
                raise DataError(
                    f"the finished shard {number} has {problem}; delete its file, and it is run "
                    "again"
                )

    def _labels(self, start: int, stop: int) -> dict[str, Array] | None:
        if self.labels is None:
            return None
        return {name: labels[start:stop] for name, labels in self.labels.items()}

    def _bounds(self, number: int) -> tuple[int, int]:
        size = self.options.shard_size
        return number * size, min((number + 1) * size, self.count)

    def _read(self, start: int, stop: int) -> tuple[Array, str]:
        """Read samples; also returns the sha256 of them and their labels."""
        samples = np.ascontiguousarray(self.samples.read(start, stop))
        try:
            check_spikes(self.network.input, samples)
        except DataError as error:
            raise DataError(f"{self.samples.name}: samples {start} to {stop}: {error}") from error
        digest = hashlib.sha256(f"{samples.dtype} {samples.shape}".encode())
        digest.update(samples.data)
        for labels in (self._labels(start, stop) or {}).values():
            digest.update(np.ascontiguousarray(labels).data)
        return samples, digest.hexdigest()


def _settings(
    bundle: Bundle,
    network: Graph,
    options: EvaluationOptions,
    count: int,
    labels: Mapping[str, Array] | None,
) -> dict[str, Any]:
    """The JSON values that identify an evaluation, apart from the samples themselves."""
    tasks = output_tasks(network)
    needed = {find_backend(spec)[0].export for spec in (options.opened, *options.parity)}
    exports = sorted(name for name in needed if name is not None)
    for name in exports:
        bundle.export(name)  # raises BundleError if the export is missing or damaged
    return {
        "format": "icsnn-evaluation",
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": bundle.graph_hash,
        "ann_hash": bundle.ann_hash,
        "exports": {
            name: bundle.manifest.sha256_of_export(bundle.exports[name]) for name in exports
        },
        "samples": count,
        "tasks": tasks,
        "labels": labels is not None if len(tasks) == 1 else list(labels or ()),
        **asdict(options),
        "parity": list(options.parity),
    }
