"""icsnn verify: compare backends with the reference simulator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.backends import find_backend
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.cli.arguments import (
    BACKEND_NAMES,
    BundlePath,
    ChannelsLast,
    Crop,
    ImageLimit,
    InputKey,
    JsonFlag,
    JudgedTasks,
    LabelKey,
    Margin,
    OwnOrImages,
    Resize,
)
from icsnn_deploy.cli.input_arrays import load_with_source, take_first
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.errors import DataError, plain
from icsnn_deploy.evaluation.recording_samples import open_recordings, recording_labels
from icsnn_deploy.evaluation.source_samples import given_labels
from icsnn_deploy.graph.arrangement import output_parts
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

_USUAL_BACKENDS = {
    "onnx": "onnxruntime",
    "onnx-step": "onnxruntime-step",
    "c": "c",
    "nir": "nir",
    "nir-portable": "nir-portable",
    "nir-relay": "nir-relay",
}
"""The backend that runs each export where no backend is named."""


def verify(
    bundle: BundlePath,
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME or NAME:OPTION; {BACKEND_NAMES}. May be repeated."),
    ] = None,
    images: OwnOrImages = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of the images, FILE.npz:array or FILE.npy: class indices, of a "
            "segmentation [N, H, W], or the numbers of a regression. Of several outputs FILE.npz "
            "with an array per output name. Default: the labels that images come with; none: "
            "without."
        ),
    ] = None,
    task: JudgedTasks = None,
    limit: ImageLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    label_key: LabelKey = None,
    channels_last: ChannelsLast = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Also compare an .npz recording: logits, and spikes [T, N, ...] by layer name."
        ),
    ] = None,
    margin: Margin = 1e-4,
    behavior_only: Annotated[
        bool,
        typer.Option(
            "--behavior-only",
            help="Run exports whose content is not what the exporter writes, and compare spikes.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare backends with the reference simulator, spike by spike."""
    with report_errors(as_json):
        opened = open_bundle(bundle)
        backends = backend or ([] if against else _default_backends(opened))
        for spec in backends:  # refuse an unknown name before anything is loaded
            find_backend(spec)
        tasks = declared_tasks(task or [])
        with progress_bars():
            network = judged_as(opened.network(), tasks)
        source = None
        options = SourceOptions.parse(
            resize=resize,
            crop=crop,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )
        if images:
            with progress_bars() as progress:
                reading = Reading(
                    options=options,
                    selection=Selection(limit),
                    keep_labels=labels is None,
                    progress=progress,
                )
                inputs, source = load_with_source(opened, images, reading)
        else:
            inputs = take_first(opened.samples(), limit, network.input.batch_axis)
        if labels and not images:
            raise DataError("--labels needs --images: the bundle's own samples have no labels")
        recordings = open_recordings(opened, images) if images else None
        with progress_bars() as progress:
            truth = (
                given_labels(network, labels, source, progress)
                if recordings is None or images is None
                else recording_labels(network, images, recordings.folder, labels)
            )
        with progress_bars() as progress:
            from icsnn_deploy.backends.recording_file import load_recording
            from icsnn_deploy.parity.judge import Tolerance
            from icsnn_deploy.parity.verify import verify_inputs
            from icsnn_deploy.report.figures import figure_line
            from icsnn_deploy.report.tables import parity_table

            recording = load_recording(against, network, against.name) if against else None
            report = verify_inputs(
                opened,
                backends,
                inputs,
                labels=truth,
                task=tasks,
                against=recording,
                tolerance=Tolerance(margin=margin),
                exports=() if backend or against else list(opened.exports),
                behavior_only=behavior_only,
                on_error="report",
                progress=progress,
            )
        if as_json:
            print_json(report.to_json())
        else:
            print_table(parity_table(report))
            for comparison in report.comparisons:
                say(f"{comparison.backend}: {comparison.reason}")
                if comparison.first_divergence:
                    say(f"  first divergence: {comparison.first_divergence}")
            for name, contents in report.exports.items():
                say(f"{opened.exports[name]}: {contents}")
            for name, figures in report.outputs.items():
                say(figure_line(name, figures, alone=len(output_parts(network)) == 1))
        for name, error in report.errors.items():
            print(f"error: {plain(f'{name}: {error}')}", file=sys.stderr)
        if any(comparison.verdict != "pass" for comparison in report.comparisons):
            raise typer.Exit(1)
        if report.errors:
            raise typer.Exit(2)


def _default_backends(bundle: Bundle) -> list[str]:
    """torch, and the usual backend of each export in the bundle."""
    exported = (backend for needed, backend in _USUAL_BACKENDS.items() if needed in bundle.exports)
    return ["torch", *exported]
