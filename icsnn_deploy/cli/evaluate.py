"""icsnn evaluate: accuracy, spikes and parity over a data set."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.cli.arguments import (
    BACKEND_NAMES,
    SOURCE_FORMS,
    BatchSize,
    BundlePath,
    ChannelsLast,
    Crop,
    ImageLimit,
    InputKey,
    JsonFlag,
    JudgedTasks,
    LabelKey,
    Margin,
    Resize,
)
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.distributed import WAIT_S, is_first, open_ranks
from icsnn_deploy.evaluation.encoded_samples import encoded_set, open_files
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.recording_samples import open_recordings, recording_labels
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.evaluation.source_samples import given_labels, open_source_samples
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection


def evaluate(
    bundle: BundlePath,
    images: Annotated[
        str,
        typer.Option(help=SOURCE_FORMS),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of the images, in files of arrays: class indices, of a segmentation "
            "[N, H, W], or the numbers of a regression. Of several outputs FILE.npz, or a folder "
            "of them, with an array per output name. Default: the labels that images come with; "
            "none: without."
        ),
    ] = None,
    task: JudgedTasks = None,
    backend: Annotated[
        str,
        typer.Option(
            help=f"The backend to measure: {BACKEND_NAMES}; auto: torch, or the C program of an "
            "integer network where that is faster."
        ),
    ] = "auto",
    parity_backend: Annotated[
        list[str] | None,
        typer.Option(help="Compare this backend with it, spike by spike. May be repeated."),
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(help="Also measure stopping each sample at this softmax confidence, 0 to 1."),
    ] = None,
    limit: ImageLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    label_key: LabelKey = None,
    channels_last: ChannelsLast = None,
    batch_size: BatchSize = 64,
    shard_size: Annotated[
        int, typer.Option(help="Samples per shard: given to one process, and saved, together.")
    ] = 256,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for finished shards; an interrupted run continues from it."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Torch device of the ANN, and of torch backends without :DEVICE. Default: the "
            "device of --backend torch:DEVICE, or cpu."
        ),
    ] = None,
    margin: Margin = 1e-4,
    wait: Annotated[
        float, typer.Option(help="Under torchrun: seconds to wait for other processes.")
    ] = WAIT_S,
    as_json: JsonFlag = False,
) -> None:
    """Measure accuracy, spikes and parity on a data set; torchrun's processes share the work."""
    with report_errors(as_json):
        options = EvaluationOptions(
            backend=backend,
            parity=tuple(dict.fromkeys(parity_backend or [])),
            confidence=early_exit,
            batch_size=batch_size,
            shard_size=shard_size,
            device=device,
            margin=margin,
        )
        opened = open_bundle(bundle)
        tasks = declared_tasks(task or [])
        with progress_bars():
            network = judged_as(opened.network(), tasks)
        given = SourceOptions.parse(
            resize=resize,
            crop=crop,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )
        with progress_bars() as progress:
            reading = Reading(
                options=given,
                selection=Selection(limit),
                keep_labels=labels is None,
                progress=progress,
            )
            samples, wanted = open_data_set(opened, network, images, labels, reading)
        with progress_bars():
            from icsnn_deploy.evaluation.run import evaluate as run_evaluation
            from icsnn_deploy.report import evaluation as report

        with (
            _interruptible(out),
            progress_bars() as progress,
            open_ranks(options.torch_device, wait_s=wait) as ranks,
        ):
            result = run_evaluation(
                opened,
                samples,
                wanted,
                options,
                task=tasks,
                limit=limit,
                out=out,
                ranks=ranks,
                progress=progress,
            )
        if ranks.rank == 0 and as_json:
            print_json(result.to_json())
        elif ranks.rank == 0:
            for table in report.evaluation_tables(result):
                print_table(table)
            if result.counts.parity:
                print_table(report.parity_counts_table(result))
            say(report.activity_line(result))
        if result.verdict != "pass":
            raise typer.Exit(1)


def open_data_set(
    bundle: Bundle,
    network: Graph,
    images: str,
    labels: str | None,
    reading: Reading,
) -> tuple[DataSet, Mapping[str, Array] | Array | None]:
    """Open samples, and the labels of each output, from files or as the samples come with them."""
    recordings = open_recordings(bundle, images)
    if recordings is not None:
        reading.options.require_only(images, "recordings of events")
        return recordings, recording_labels(network, images, recordings.folder, labels)
    source = open_source_samples(bundle, images, reading)
    wanted = given_labels(network, labels, source, reading.progress)
    if source is not None:
        return encoded_set(bundle, source), wanted
    return open_files(bundle, images, channels_last=reading.options.channels_last), wanted


@contextmanager
def _interruptible(out: Path | None) -> Iterator[None]:
    """On Ctrl-C, print what is kept of the run."""
    try:
        yield
    except KeyboardInterrupt:
        if is_first():
            kept = (
                f"the same command continues from what {out} holds"
                if out
                else "nothing is kept; with --out, finished shards are"
            )
            print(f"interrupted: {kept}", file=sys.stderr)
        raise
