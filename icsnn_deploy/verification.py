"""Run a bundle's backends beside the reference and compare them spike for spike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.bundle import Bundle
from icsnn_deploy.data import load_archive
from icsnn_deploy.divergence import Potentials
from icsnn_deploy.encoding import check_inputs, to_input_units, to_real_units
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph import Graph
from icsnn_deploy.lattice.certificate import require_certificate
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF
from icsnn_deploy.parity import Comparison, ParityReport, Tolerance, compare, merge, top1
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.simulate import find_backend, open_backend
from icsnn_deploy.simulate.recording import Record, Recording, Simulator
from icsnn_deploy.simulate.reference import ReferenceSimulator, run_ann

DEFAULT_MEMORY = 1 << 30  # bytes of spikes held at once, all backends together


def verify(
    bundle: Bundle,
    backends: Sequence[str],
    inputs: Array | None = None,
    *,
    labels: Array | None = None,
    against: Recording | None = None,
    tolerance: Tolerance = Tolerance(),
    progress: Progress = silent,
) -> ParityReport:
    """Compare backends with the reference on a bundle's network.

    An integer network must certify, and then nothing but equality passes.

    Args:
        bundle: the network and its exports.
        backends: names as `simulate.open_backend` takes them.
        inputs: [N, *shape] ([T, N, *shape] for rate and event input); floats are put in steps of
            an integer input's unit; default: the bundle's own samples.
        labels: class indices [N], for the accuracies.
        against: an external recording of the same inputs, compared too.
        tolerance: what is allowed of a float network.
        progress: told how many images are done.

    Raises:
        DataError: inputs, labels or recording that do not fit.
        LatticeError: an integer network that does not certify.
        BundleError, ExportError, BackendUnavailableError: a backend that can't be opened.
        SimulationError: Lava's worker crashed, hung or was killed.
    """
    network = bundle.network()
    if network.is_integer:
        require_certificate(network)
        tolerance = replace(tolerance, exact=True)
    given = bundle.samples() if inputs is None else inputs
    x = check_inputs(network, to_input_units(network, given))
    axis = 0 if network.input.encoding == "direct" else 1
    images = x.shape[axis]
    if images == 0 or not (backends or against):
        raise DataError(f"{images} images and {len(backends)} backends: nothing to compare")
    if against is not None and len(against.logits) != images:
        raise DataError(f"{against.backend}: {len(against.logits)} images, {images} are needed")
    if labels is not None and len(labels) < images:
        raise DataError(f"{len(labels)} labels for {images} images")
    backends = list(dict.fromkeys(backends))  # a backend named twice is still one comparison
    # Exported files first: one that is refused is told before PyTorch is loaded.
    order = sorted(backends, key=lambda spec: find_backend(spec)[0].export is None)
    opened = {spec: open_backend(bundle, spec) for spec in order}
    simulators = [opened[spec] for spec in backends]
    reference = ReferenceSimulator(network)
    parts: list[list[Comparison]] = [[] for _ in range(len(backends) + (against is not None))]
    logits = []
    size = images_at_once(network, len(simulators))
    for start in range(0, images, size):
        progress("comparing", start, images)
        stop = min(start + size, images)
        batch = x.take(range(start, stop), axis=axis)
        expected = reference.run(batch)
        logits.append(expected.logits)
        u = probe(reference, batch, axis)
        for number, (spec, simulator) in enumerate(zip(backends, simulators, strict=True)):
            found = compare(
                expected,
                replace(simulator.run(batch), backend=spec),
                network,
                tolerance=tolerance,
                first_image=start,
                reference_potentials=u,
                other_potentials=probe(simulator, batch, axis),
            )
            parts[number].append(found)
        if against is not None:
            part = _images(against, start, stop)
            found = compare(
                expected,
                part,
                network,
                tolerance=tolerance,
                first_image=start,
                reference_potentials=u,
            )
            parts[-1].append(found)
    progress("comparing", images, images)
    report = ParityReport(
        comparisons=tuple(merge(found, tolerance) for found in parts),
        graph_hash=bundle.graph_hash,
    )
    if labels is None:
        return report
    report = replace(report, snn_accuracy=_accuracy(np.concatenate(logits), labels))
    if bundle.ann_hash is None:
        return report
    ann = bundle.ann()
    analog = to_real_units(network, x if axis == 0 else x.mean(axis=0))  # mean of spikes: the rate
    ann_logits = np.concatenate([run_ann(ann, analog[i : i + 16]) for i in range(0, images, 16)])
    return replace(report, ann_accuracy=_accuracy(ann_logits, labels))


def load_recording(path: Path, network: Graph, backend: str) -> Recording:
    """A recording from an .npz file: `logits` [N, classes], spikes [T, N, *shape] by layer name.

    Raises:
        DataError: names the file, and what is missing or does not fit.
    """
    arrays = load_archive(path)
    if "logits" not in arrays:
        raise DataError(f"{path}: no array 'logits'; it holds {', '.join(arrays) or 'nothing'}")
    logits = arrays.pop("logits")
    if logits.dtype.kind not in "fiu" or logits.shape[1:] != network.shape(network.output.name):
        raise DataError(
            f"{path}: logits {logits.dtype} {list(logits.shape)}; numbers [N, classes] needed, "
            f"classes {list(network.shape(network.output.name))}"
        )
    populations = [node.name for node in network.nodes_of(IF)]
    unknown = [name for name in arrays if name not in populations]
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is no population; those are {populations}")
    for name, array in arrays.items():
        wanted = (network.steps, len(logits), *network.shape(name))
        binary = array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all()
        if array.shape != wanted or not binary:
            raise DataError(f"{path}: {name} {list(array.shape)}; 0 and 1 of {list(wanted)} needed")
    spikes = {n: arrays[n].astype(np.uint8) for n in populations if n in arrays}
    return Recording(backend=backend, logits=logits, spikes=spikes)


def save_recording(recording: Recording, path: Path) -> None:
    """Write spikes and logits as an .npz file that `load_recording` reads."""
    arrays: dict[str, Any] = {"logits": recording.logits, **recording.spikes}
    np.savez_compressed(path, **arrays)


def _images(recording: Recording, start: int, stop: int) -> Recording:
    return replace(
        recording,
        logits=recording.logits[start:stop],
        spikes={name: s[:, start:stop] for name, s in recording.spikes.items()},
    )


def probe(simulator: Simulator, batch: Array, axis: int) -> Potentials:
    """Potentials of single images, from a run of their own when they are asked for."""

    def potentials(image: int, layer: str) -> Array | None:
        one = batch.take([image], axis=axis)
        record = Record(spikes=False, potentials=frozenset({layer}))
        found = simulator.run(one, record).potentials.get(layer)
        return None if found is None else found[:, 0]

    return potentials


def images_at_once(network: Graph, backends: int) -> int:
    """Images at a time, at most 64, so that the spikes of all backends fit in memory."""
    neurons = sum(int(np.prod(network.shape(node.name))) for node in network.nodes_of(IF))
    return max(1, min(64, DEFAULT_MEMORY // max(1, neurons * network.steps * (backends + 10))))


def _accuracy(logits: Array, labels: Array) -> float:
    return float(np.mean(top1(logits) == labels[: len(logits)]))
