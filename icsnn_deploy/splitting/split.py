"""Split a bundle's network into a part for the host and a part for a chip, and prove both.

host.onnx         the host part, all T steps: the bundle's input -> spikes of each population
host-step.onnx    the same, one step with explicit state
host/             a bundle of the host part, with the samples of the whole network
chip/             a bundle of the chip part, with the spikes of host.onnx as samples
split.json        the hashes of all parts, and the comparison with the whole network
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.atomic import folder_beside, put_folder
from icsnn_deploy.backends.recording import Record, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import SAMPLES_KEPT, create_bundle
from icsnn_deploy.bundle.described_folder import check_free_folder
from icsnn_deploy.bundle.manifest import json_bytes, sha256_of
from icsnn_deploy.errors import BundleError, DataError, GraphError, ParityError, lines
from icsnn_deploy.exporters.onnx.contract import OnnxOptions, raw_spikes_name
from icsnn_deploy.exporters.onnx.write import write
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.certificate import require_certificate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.parity.golden import golden_bytes
from icsnn_deploy.parity.judge import Tolerance, judge
from icsnn_deploy.parity.report import ParityReport
from icsnn_deploy.parity.verify import compare_simulators
from icsnn_deploy.passes.split_first_layer import SplitNetwork, split_first_layer
from icsnn_deploy.progress import Progress
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.splitting.host_file import ChipSimulator, HostFileSimulator, JoinedSimulator
from icsnn_deploy.version import __version__

HOST_FILE, HOST_STEP_FILE, DESCRIPTION = "host.onnx", "host-step.onnx", "split.json"
FORMAT, VERSION = "icsnn-split", 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """A network in two parts, as written.

    Attributes:
        path: the folder.
        host: bundle of the host part: the input of the whole network -> spikes.
        chip: bundle of the chip part: spikes, uint8 [T, N, *shape] -> logits.
        populations: for each population of the host the output of host.onnx with its spikes, uint8
            [T, N, *shape]. A single one is the chip's input; several are packed by pack_inputs.
        report: comparisons of both host files with the host part, and with the whole network of
            host and chip part ("host + chip", on the reference simulator: exact) and of host.onnx
            followed by the chip part ("host.onnx + chip").
    """

    path: Path
    host: Bundle
    chip: Bundle
    populations: Mapping[str, str]
    report: ParityReport

    @property
    def host_file(self) -> Path:
        """The host part as an ONNX file of all T steps."""
        return self.path / HOST_FILE

    @property
    def host_step_file(self) -> Path:
        """The host part as an ONNX file of one step."""
        return self.path / HOST_STEP_FILE

    def to_json(self) -> dict[str, Any]:
        """The split as JSON values."""
        return {
            "folder": str(self.path),
            "host_graph_hash": self.host.graph_hash,
            "chip_graph_hash": self.chip.graph_hash,
            "populations": dict(self.populations),
            "parity": self.report.to_json(),
        }


def split(
    bundle: Bundle,
    path: str | os.PathLike[str],
    samples: Array | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressOption = True,
) -> Split:
    """Split a bundle's network behind its first populations; write the parts, proven, or nothing.

    The two parts must give every spike and logit of the whole network on the reference simulator.
    The host file runs on ONNX Runtime: for an integer network, whose parts are certified, it must
    be exact, too; for a float one its spikes may differ after a rounding tie (Tolerance).

    Args:
        bundle: an IF network with direct encoding.
        path: the folder to create.
        samples: inputs to compare the parts on, [N, *shape]; the first few are stored. None: those
            in the bundle.
        overwrite: replace a folder that an earlier split wrote.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        GraphError: the network can't be split, or leaves the chip no neuron; names the nodes.
        ParityError: the parts do not give what the whole network gives; nothing is written.
        LatticeError: an integer network that does not certify.
        DataError, BundleError, ExportError, BackendUnavailableError: no samples, or samples that do
            not fit; the folder exists; a file can't be written; ONNX Runtime is missing.
    """
    path = Path(path)
    check_free_split(path, overwrite=overwrite)
    if path.resolve() in bundle.path.resolve().parents:
        raise BundleError(f"{path}: holds {bundle.path}, which is split; choose another folder")
    network = bundle.network()
    parts = split_first_layer(network)
    _check_chip(parts)
    if network.is_integer:
        require_certificate(parts.host)
        require_certificate(parts.chip)
    given = bundle.samples() if samples is None else samples
    x = check_inputs(network, to_input_units(network, given))
    if not len(x):
        raise DataError("0 samples: at least one is needed to compare the parts with the network")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(path) as draft:
            for name, options in (
                (HOST_FILE, OnnxOptions(raw_spikes=True)),
                (HOST_STEP_FILE, OnnxOptions(layout="step", raw_spikes=True)),
            ):
                write(parts.host, draft / name, options)
            with shown(progress, "comparing the parts") as reporting:
                report = _compare(network, parts, draft, x, reporting)
            _write_bundles(bundle, parts, draft, x[:SAMPLES_KEPT])
            description = _description(draft, network, parts, report)
            (draft / DESCRIPTION).write_bytes(json_bytes(description))
            put_folder(draft, path, partial(check_free_split, path, overwrite=overwrite))
    except OSError as error:
        raise BundleError(f"{path}: can't be written ({error.strerror})") from error
    return Split(
        path=path,
        host=open_bundle(path / "host"),
        chip=open_bundle(path / "chip"),
        populations={name: raw_spikes_name(name) for name in parts.populations},
        report=report,
    )


def check_free_split(path: Path, *, overwrite: bool) -> None:
    """Raise BundleError if no split can be written to `path`; only a split is overwritten."""
    check_free_folder(
        path, description=DESCRIPTION, written_as=FORMAT, command="split", overwrite=overwrite
    )


def _check_chip(parts: SplitNetwork) -> None:
    """Raise GraphError where no population is left for the chip: any target would fit."""
    if not parts.chip.nodes_of(Population):
        raise GraphError(
            f"{', '.join(parts.populations)}: the only populations, and all take analog values, "
            "which the host computes: no neuron is left for the chip. Run the whole network on the "
            "host (icsnn export --format onnx), or add a layer with a ReLU to the model"
        )


def _compare(
    network: Graph, parts: SplitNetwork, folder: Path, x: Array, progress: Progress
) -> ParityReport:
    """Compare each host file with the host part, and both parts with the whole network.

    Raises:
        ParityError: they differ.
    """
    tolerance = Tolerance().on(network)
    host, step = (HostFileSimulator(folder / name) for name in (HOST_FILE, HOST_STEP_FILE))
    alone, _ = compare_simulators(
        parts.host,
        {HOST_FILE: host, HOST_STEP_FILE: step},
        x,
        tolerance=tolerance,
        progress=progress,
    )
    chip, names = ChipSimulator(parts.chip), parts.populations
    runs: dict[str, Simulator] = {
        "host + chip": ReferenceSimulator(parts.host),
        f"{HOST_FILE} + chip": host,
    }
    simulators = {name: JoinedSimulator(name, run, names, chip) for name, run in runs.items()}
    (cut, together), _ = compare_simulators(
        network, simulators, x, tolerance=tolerance, progress=progress
    )
    cut = judge(cut, Tolerance(exact=True))  # nothing is rounded differently by the cut
    report = ParityReport(comparisons=(*alone, cut, together), graph_hash=network.hash())
    if report.verdict != "pass":
        found = lines("the parts differ from the network:", report.summary().splitlines())
        raise ParityError(found, report)
    return report


def _write_bundles(bundle: Bundle, parts: SplitNetwork, folder: Path, x: Array) -> None:
    """The bundles of both parts; the chip's samples are the spikes of the host file."""
    spikes = HostFileSimulator(folder / HOST_FILE).run(x, Record()).spikes
    inputs = {"host": x, "chip": pack_inputs(parts.chip, spikes)}
    for part, graph in (("host", parts.host), ("chip", parts.chip)):
        create_bundle(
            folder / part,
            network=graph,
            ann=None,
            samples=np.ascontiguousarray(inputs[part]),
            report={"split": graph.provenance["split"], "whole": bundle.report()},
            normalization=bundle.normalization if part == "host" else None,
            image_size=bundle.image_size if part == "host" else None,
            golden=golden_bytes(graph, inputs[part]) if graph.is_integer else None,
        )


def _description(
    folder: Path, network: Graph, parts: SplitNetwork, report: ParityReport
) -> dict[str, Any]:
    """The content of split.json."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "producer": f"icsnn-deploy {__version__}",
        "graph_hash": network.hash(),
        "host_graph_hash": parts.host.hash(),
        "chip_graph_hash": parts.chip.hash(),
        "time_steps": network.steps,
        "populations": {
            name: {"output": raw_spikes_name(name), "shape": parts.host.shape(name)}
            for name in parts.populations
        },
        "files": {file.name: sha256_of(file) for file in sorted(folder.glob("host*.onnx*"))},
        "parity": report.to_json(),
    }
