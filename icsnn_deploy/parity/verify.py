"""Run backends of a bundle and compare them with the reference simulator, spike for spike."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from icsnn_deploy.backends import find_backend, open_backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.errors import DataError, IcsnnError
from icsnn_deploy.exporters.contents import Contents, check_contents
from icsnn_deploy.graph.arrangement import is_classifier, output_tasks
from icsnn_deploy.graph.certificate import require_certificate
from icsnn_deploy.graph.encoder import encoded
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task
from icsnn_deploy.judging.count import count_outputs
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.judging.figures import output_figures
from icsnn_deploy.judging.labels import check_output_labels, labels_beside
from icsnn_deploy.parity.compare import compare, merge
from icsnn_deploy.parity.divergence import Potentials
from icsnn_deploy.parity.judge import Comparison, Tolerance
from icsnn_deploy.parity.report import ParityReport
from icsnn_deploy.progress import Progress, inner_progress, silent, tracked
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.sources.network_samples import network_samples

DEFAULT_MEMORY = 1 << 30  # bytes of spikes of all backends that are held at once
_ANN_IMAGES = 16  # run at once

OnError = Literal["raise", "report"]


def verify(
    bundle: Bundle | str | os.PathLike[str],
    backends: Sequence[str] | str,
    inputs: Any = None,
    *,
    labels: Any = None,
    task: Task | Mapping[str, Task] | None = None,
    channels_last: bool | None = None,
    against: Recording | None = None,
    tolerance: Tolerance = Tolerance(),
    exports: Sequence[str] = (),
    behavior_only: bool = False,
    on_error: OnError = "raise",
    progress: ProgressOption = True,
) -> ParityReport:
    """Compare backends with the reference on a bundle's network.

    Every file that the manifest lists must be undamaged, and every export that a backend runs must
    be what its exporter writes for the network. An integer network must certify, and passes only if
    all spikes and logits are equal.

    Args:
        bundle: the network and its exports, or the path of the bundle.
        backends: a name or several, see `backends.open_backend`.
        inputs: samples in any form that `convert` takes; floats are rounded to the unit of an
            integer input. Of rate and event input also spikes [T, N, *shape]. Default: the bundle's
            own samples.
        labels: of the only output, or by the name of the output (judging.labels), for the figures
            of network and ANN; default: those that come with the inputs, as a DataLoader has them.
            Outputs that are numbers are compared with the ANN without labels.
        task: what the output is, where the bundle's task is wrong; of several outputs, by name.
        channels_last: the order of axes, where it can't be told (pixels.is_channels_last).
        against: an external recording of the same inputs, to be compared as well.
        tolerance: the differences that are allowed for a float network.
        exports: formats of further exports whose content is compared, without running them.
        behavior_only: don't compare the content of exports, so that one that was changed on purpose
            is run and compared.
        on_error: "raise" where an export is not what its exporter writes, or a backend can't be
            opened or fails; or "report": go on with the others, and keep its error in the report
            (`ParityReport.errors`).
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        DataError: the inputs, labels, task or recording do not fit the network.
        LatticeError: an integer network that does not certify.
        BundleError, ExportError, BackendUnavailableError: a file is damaged, an export is not what
            its exporter writes, or a backend can't be opened.
        SimulationError: a worker process crashed, hung or was killed.
    """
    opened = as_bundle(bundle)
    network = opened.network()
    with shown(progress, "verifying") as reporting:
        beside = None
        if inputs is None:
            samples = opened.samples()
        else:
            given = network_samples(
                network,
                inputs,
                "inputs",
                normalization=opened.normalization,
                channels_last=channels_last,
                keep_labels=labels is None,
                progress=reporting,
            )
            samples, beside = encoded(network, given.samples, opened.rate_seed), given.labels
        return verify_inputs(
            opened,
            backends,
            samples,
            labels=labels_beside(judged_as(network, task), beside) if labels is None else labels,
            task=task,
            against=against,
            tolerance=tolerance,
            exports=exports,
            behavior_only=behavior_only,
            on_error=on_error,
            progress=reporting,
        )


def verify_inputs(
    bundle: Bundle,
    backends: Sequence[str] | str,
    inputs: Array,
    *,
    labels: Any,
    task: Task | Mapping[str, Task] | None,
    against: Recording | None,
    tolerance: Tolerance,
    exports: Sequence[str] = (),
    behavior_only: bool = False,
    on_error: OnError,
    progress: Progress,
) -> ParityReport:
    """As verify, with inputs arranged and encoded as the network takes them."""
    bundle.check_files()
    network = judged_as(bundle.network(), task)
    if network.is_integer:
        require_certificate(network)
    backends = [backends] if isinstance(backends, str) else backends
    x = check_inputs(network, to_input_units(network, inputs))
    tolerance = tolerance.on(network, float(np.abs(x).max(initial=0)))
    axis = network.input.batch_axis
    images = x.shape[axis]
    if images == 0 or not (backends or against):
        raise DataError(f"{images} images and {len(backends)} backends: nothing to compare")
    if against is not None and len(against.logits) != images:
        raise DataError(f"{against.backend}: {len(against.logits)} images, {images} are needed")
    given = None if labels is None else check_output_labels(network, labels, images)
    errors: dict[str, IcsnnError] | None = {} if on_error == "report" else None
    try:
        asked = {} if behavior_only else _asked_contents(backends, exports)
        compared = _compare_contents(bundle, asked, errors, progress)
        intact = [spec for spec in backends if spec not in (errors or {})]
        simulators = _open(bundle, intact, errors, progress)
    finally:  # the cause of an error may be that another command changed the bundle
        bundle.require_current(bundle.manifest.files)
    if errors and not (simulators or against):
        raise next(iter(errors.values()))
    comparisons, logits = compare_simulators(
        network,
        simulators,
        x,
        against=against,
        tolerance=tolerance,
        errors=errors,
        progress=progress,
    )
    report = ParityReport(
        comparisons=comparisons,
        graph_hash=bundle.graph_hash,
        exports=compared,
        errors=errors or {},
    )
    if given is None and CLASS_TASKS.issuperset(output_tasks(network).values()):
        return report
    ann = None
    if bundle.ann_hash is not None:
        analog = x if axis == 0 else x.mean(axis=0)  # mean of spikes: the rate
        ann = _ann_logits(bundle, to_real_units(network, analog), progress)
    return _with_figures(report, network, logits, given, ann)


def _with_figures(
    report: ParityReport,
    network: Graph,
    logits: Array,
    labels: Mapping[str, Array] | None,
    ann: Array | None,
) -> ParityReport:
    """The report with the figures of every output that has labels, or is numbers of an ANN."""
    counts = count_outputs(network, logits, labels=labels, ann=ann)
    figures = {
        name: {key: value for key, value in output_figures(each).items() if value not in (None, {})}
        for name, each in counts.items()
    }
    measured = {name: found for name, found in figures.items() if len(found) > 1}
    if not is_classifier(network):
        return replace(report, outputs=measured)
    own = next(iter(figures.values()))
    return replace(
        report,
        outputs=measured,
        snn_accuracy=own.get("top1"),
        ann_accuracy=own.get("ann_top1"),
    )


def compare_simulators(
    network: Graph,
    simulators: Mapping[str, Simulator],
    x: Array,
    *,
    against: Recording | None = None,
    tolerance: Tolerance = Tolerance(),
    errors: dict[str, IcsnnError] | None = None,
    progress: Progress = silent,
) -> tuple[tuple[Comparison, ...], Array]:
    """Compare simulators, and a recording, with the reference, in batches that fit into memory.

    Args:
        network: the network that the reference runs.
        simulators: by the name that their comparisons get.
        x: checked inputs of the network.
        against: an external recording of the same inputs, compared last.
        tolerance: as compare takes it.
        errors: gets the error of each simulator that fails, which is left out then; None: it is
            raised.
        progress: called with the number of images that the reference and each simulator have run.

    Returns:
        a comparison of each simulator and of the recording, and the logits of the reference.
    """
    axis = network.input.batch_axis
    images = x.shape[axis]
    reference = ReferenceSimulator(network)
    parts: dict[str, list[Comparison]] = {spec: [] for spec in simulators}
    recorded, logits = [], []
    size = images_at_once(network, len(simulators))
    for start in range(0, images, size):
        stop = min(start + size, images)
        batch = x.take(range(start, stop), axis=axis)
        progress("reference", start, images)
        with inner_progress(progress):
            expected = reference.run(batch)
        progress("reference", stop, images)
        logits.append(expected.logits)
        judge = partial(
            compare,
            expected,
            graph=network,
            tolerance=tolerance,
            first_image=start,
            reference_potentials=probe(reference, batch, axis),
        )
        for spec in tuple(parts):
            simulator = simulators[spec]
            progress(f"comparing {spec}", start, images)
            with _failing(spec, errors), inner_progress(progress):
                other = replace(simulator.run(batch), backend=spec)
                parts[spec].append(judge(other, other_potentials=probe(simulator, batch, axis)))
            if errors and spec in errors:
                del parts[spec]
            progress(f"comparing {spec}", stop, images)
        if against is not None:
            recorded.append(judge(_images(against, start, stop)))
    found = [*parts.values(), *([recorded] if against is not None else [])]
    return tuple(merge(part, tolerance) for part in found), np.concatenate(logits)


@contextmanager
def _failing(spec: str, errors: dict[str, IcsnnError] | None) -> Iterator[None]:
    """Keep the error of a backend, so that the others go on; without `errors` it is raised."""
    try:
        yield
    except IcsnnError as error:
        if errors is None:
            raise
        errors[spec] = error


def _open(
    bundle: Bundle,
    backends: Sequence[str],
    errors: dict[str, IcsnnError] | None,
    progress: Progress,
) -> dict[str, Simulator]:
    """Open the backends, by name; one that is named twice is opened once."""
    specs = list(dict.fromkeys(backends))
    # Exported files first, so that a file is refused before PyTorch is loaded.
    order = sorted(specs, key=lambda spec: find_backend(spec)[0].export is None)
    opened = {}
    for spec in order:
        progress(f"opening {spec}", 0, 1)  # ONNX Runtime optimizes a file for seconds
        with _failing(spec, errors):
            opened[spec] = open_backend(bundle, spec)
        progress(f"opening {spec}", 1, 1)
    return {spec: opened[spec] for spec in specs if spec in opened}


def _asked_contents(backends: Sequence[str], exports: Sequence[str]) -> dict[str, str]:
    """The format of each export that is compared, by the backend that runs it, or by itself."""
    asked = {}
    for spec in backends:
        export_format = find_backend(spec)[0].export
        if export_format is not None:
            asked[spec] = export_format
    others = [name for name in exports if name not in asked.values()]
    return {**asked, **{name: name for name in others}}


def _compare_contents(
    bundle: Bundle,
    asked: Mapping[str, str],
    errors: dict[str, IcsnnError] | None,
    progress: Progress,
) -> dict[str, Contents]:
    """How each export compares with what its exporter writes, by format."""
    found: dict[str, Contents] = {}
    for name in tracked(list(asked), "comparing files", len(asked), progress) if asked else ():
        export_format = asked[name]
        if export_format not in found:
            with _failing(name, errors):
                found[export_format] = check_contents(bundle, export_format)
    return found


def _ann_logits(bundle: Bundle, inputs: Array, progress: Progress) -> Array:
    ann = bundle.ann()
    starts = range(0, len(inputs), _ANN_IMAGES)
    return np.concatenate(
        [
            run_ann(ann, inputs[start : start + _ANN_IMAGES])
            for start in tracked(starts, "batches of the ANN", len(starts), progress)
        ]
    )


def _images(recording: Recording, start: int, stop: int) -> Recording:
    """Some images of a recording; of arrays over time they are the second axis."""
    rows = slice(start, stop)
    return Recording(
        backend=recording.backend,
        logits=recording.logits[rows],
        spikes={name: s[:, rows] for name, s in recording.spikes.items()},
        counts={name: count[rows] for name, count in recording.counts.items()},
        first_spikes={name: step[rows] for name, step in recording.first_spikes.items()},
        logits_t=None if recording.logits_t is None else recording.logits_t[:, rows],
        potentials={name: u[:, rows] for name, u in recording.potentials.items()},
    )


def probe(simulator: Simulator, batch: Array, axis: int) -> Potentials:
    """Potentials of single images; each is run again, alone, when it is asked for."""

    def potentials(image: int, layer: str) -> Array | None:
        sample = batch.take([image], axis=axis)
        record = Record(spikes=False, potentials=frozenset({layer}))
        u = simulator.run(sample, record).potentials.get(layer)
        return None if u is None else u[:, 0]

    return potentials


def images_at_once(network: Graph, backends: int) -> int:
    """Number of images to run at a time, at most 64, so that the spikes of all backends fit."""
    neurons = sum(int(np.prod(network.shape(node.name))) for node in network.nodes_of(Population))
    return max(1, min(64, DEFAULT_MEMORY // max(1, neurons * network.steps * (backends + 10))))
