"""Run backends of a bundle and compare them with the reference simulator, spike for spike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from icsnn_deploy.backends import find_backend, open_backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters.contents import Contents, check_contents
from icsnn_deploy.graph.arrangement import is_classifier, output_tasks
from icsnn_deploy.graph.certificate import require_certificate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task
from icsnn_deploy.judging.count import count_outputs
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.judging.figures import output_figures
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.parity.compare import Comparison, ParityReport, Tolerance, compare, merge
from icsnn_deploy.parity.divergence import Potentials
from icsnn_deploy.pixels import as_network_samples
from icsnn_deploy.progress import Progress, inner_progress, silent, tracked
from icsnn_deploy.progress_display import ProgressOption, shown

DEFAULT_MEMORY = 1 << 30  # bytes of spikes of all backends that are held at once
_ANN_IMAGES = 16  # run at once


def verify(
    bundle: Bundle,
    backends: Sequence[str],
    inputs: Array | None = None,
    *,
    labels: Array | Mapping[str, Array] | None = None,
    task: Task | Mapping[str, Task] | None = None,
    against: Recording | None = None,
    tolerance: Tolerance = Tolerance(),
    exports: Sequence[str] = (),
    behavior_only: bool = False,
    progress: ProgressOption = True,
) -> ParityReport:
    """Compare backends with the reference on a bundle's network.

    Every file that the manifest lists must be undamaged, and every export that a backend runs must
    be what its exporter writes for the network. An integer network must certify, and passes only if
    all spikes and logits are equal.

    Args:
        bundle: the network and its exports.
        backends: names, see `backends.open_backend`.
        inputs: [N, *shape] ([T, N, *shape] for rate and event input); floats are rounded to the
            unit of an integer input; default: the bundle's own samples.
        labels: of the only output, or by the name of the output (judging.labels), for the figures
            of network and ANN. Outputs that are numbers are compared with the ANN without labels.
        task: what the output is, where the bundle's task is wrong; of several outputs, by name.
        against: an external recording of the same inputs, to be compared as well.
        tolerance: the differences that are allowed for a float network.
        exports: formats of further exports whose content is compared, without running them.
        behavior_only: don't compare the content of exports, so that one that was changed on purpose
            is run and compared.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        DataError: the inputs, labels, task or recording do not fit the network.
        LatticeError: an integer network that does not certify.
        BundleError, ExportError, BackendUnavailableError: a file is damaged, an export is not what
            its exporter writes, or a backend can't be opened.
        SimulationError: a worker process crashed, hung or was killed.
    """
    bundle.check_files()
    network = judged_as(bundle.network(), task)
    if network.is_integer:
        require_certificate(network)
    samples = (
        bundle.samples()
        if inputs is None
        else as_network_samples("images", inputs, bundle.normalization)
    )
    x = check_inputs(network, to_input_units(network, samples))
    tolerance = tolerance.on(network, float(np.abs(x).max(initial=0)))
    axis = network.input.batch_axis
    images = x.shape[axis]
    if images == 0 or not (backends or against):
        raise DataError(f"{images} images and {len(backends)} backends: nothing to compare")
    if against is not None and len(against.logits) != images:
        raise DataError(f"{against.backend}: {len(against.logits)} images, {images} are needed")
    given = None if labels is None else check_output_labels(network, labels, images)
    run = [find_backend(spec)[0].export for spec in backends]
    named = dict.fromkeys(name for name in (*run, *exports) if name is not None)
    with shown(progress, "verifying") as reporting:
        try:
            compared = {} if behavior_only else _compare_contents(bundle, list(named), reporting)
            simulators = _open(bundle, backends, reporting)
        finally:  # the cause of an error may be that another command changed the bundle
            bundle.require_current(bundle.manifest.files)
        comparisons, logits = compare_simulators(
            network, simulators, x, against=against, tolerance=tolerance, progress=reporting
        )
        report = ParityReport(
            comparisons=comparisons, graph_hash=bundle.graph_hash, exports=compared
        )
        if given is None and CLASS_TASKS.issuperset(output_tasks(network).values()):
            return report
        ann = None
        if bundle.ann_hash is not None:
            analog = x if axis == 0 else x.mean(axis=0)  # mean of spikes: the rate
            ann = _ann_logits(bundle, to_real_units(network, analog), reporting)
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
    progress: Progress = silent,
) -> tuple[tuple[Comparison, ...], Array]:
    """Compare simulators, and a recording, with the reference, in batches that fit into memory.

    Args:
        network: the network that the reference runs.
        simulators: by the name that their comparisons get.
        x: checked inputs of the network.
        against: an external recording of the same inputs, compared last.
        tolerance: as compare takes it.
        progress: called with the number of images that the reference and each simulator have run.

    Returns:
        a comparison of each simulator and of the recording, and the logits of the reference.
    """
    axis = network.input.batch_axis
    images = x.shape[axis]
    reference = ReferenceSimulator(network)
    parts: list[list[Comparison]] = [[] for _ in range(len(simulators) + (against is not None))]
    logits = []
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
        for part, (spec, simulator) in zip(parts, simulators.items(), strict=False):
            progress(f"comparing {spec}", start, images)
            with inner_progress(progress):
                other = replace(simulator.run(batch), backend=spec)
            part.append(judge(other, other_potentials=probe(simulator, batch, axis)))
            progress(f"comparing {spec}", stop, images)
        if against is not None:
            parts[-1].append(judge(_images(against, start, stop)))
    return tuple(merge(part, tolerance) for part in parts), np.concatenate(logits)


def _open(bundle: Bundle, backends: Sequence[str], progress: Progress) -> dict[str, Simulator]:
    """Open the backends, by name; one that is named twice is opened once."""
    specs = list(dict.fromkeys(backends))
    # Exported files first, so that a file is refused before PyTorch is loaded.
    order = sorted(specs, key=lambda spec: find_backend(spec)[0].export is None)
    opened = {
        spec: open_backend(bundle, spec)
        for spec in tracked(order, "opening backends", len(order), progress)
    }
    return {spec: opened[spec] for spec in specs}


def _compare_contents(
    bundle: Bundle, formats: Sequence[str], progress: Progress
) -> dict[str, Contents]:
    """How each export compares with what its exporter writes; raises ExportError."""
    if not formats:
        return {}
    return {
        name: check_contents(bundle, name)
        for name in tracked(formats, "comparing files", len(formats), progress)
    }


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
    return replace(
        recording,
        logits=recording.logits[start:stop],
        spikes={name: s[:, start:stop] for name, s in recording.spikes.items()},
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
