"""icsnn report: everything about a bundle on one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.cli.arguments import (
    BACKEND_NAMES,
    ChannelsLast,
    CostFiles,
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
from icsnn_deploy.cli.evaluate import open_data_set
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors, say
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.judging.declared_tasks import judged_as
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection


def report(
    bundles: Annotated[
        list[Path],
        typer.Argument(help="Bundles, as icsnn convert writes them; several are compared."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The HTML file to write; the same for a pull request is written beside it, with "
            "the ending .md."
        ),
    ],
    images: OwnOrImages = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of the images, in files of arrays, as icsnn evaluate takes them. Default: "
            "the labels that images come with; none: without."
        ),
    ] = None,
    task: JudgedTasks = None,
    limit: ImageLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    label_key: LabelKey = None,
    channels_last: ChannelsLast = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Compare this backend with the reference: {BACKEND_NAMES}. May be repeated. "
            "Default: torch, and that of each export."
        ),
    ] = None,
    parity_samples: Annotated[
        int, typer.Option(help="Samples that backends are compared on, the first ones; 0: none.")
    ] = 8,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Check this hardware target. May be repeated. Default: all with limits."),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of network and ANN.")] = "cpu",
    cost: CostFiles = None,
    margin: Margin = 1e-4,
    as_json: JsonFlag = False,
) -> None:
    """Write a page about one or several bundles: accuracy, spikes, parity, targets, costs."""
    with report_errors(as_json):
        with progress_bars():
            from icsnn_deploy.evaluation.cost_record import costs_of
            from icsnn_deploy.report.page.measure import ReportOptions, measure, own_samples
            from icsnn_deploy.report.page.write import check_out, write_report

            check_out(out)
        options = ReportOptions(
            backends=tuple(backend) if backend else None,
            parity_samples=parity_samples,
            targets=tuple(target) if target else None,
            margin=margin,
            device=device,
        )
        if labels and not images:
            raise DataError("--labels needs --images: the bundle's own samples have no labels")
        given = SourceOptions.parse(
            resize=resize,
            crop=crop,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )
        tasks = declared_tasks(task or [])
        found = []
        all_opened = [open_bundle(path) for path in bundles]
        costs = costs_of(all_opened, cost or [])
        for opened in all_opened:
            with progress_bars() as progress:
                reading = Reading(
                    options=given,
                    selection=Selection(limit),
                    keep_labels=labels is None,
                    progress=progress,
                )
                samples: DataSet
                truth: Mapping[str, Array] | Array | None = None
                if images is None:
                    samples = own_samples(opened)
                else:
                    samples, truth = _open(opened, images, labels, tasks, reading)
                measured = measure(
                    opened,
                    samples,
                    truth,
                    options,
                    task=tasks,
                    limit=limit,
                    chip_cost=costs.get(opened.graph_hash),
                    progress=progress,
                )
                found.append((opened, measured))
        with progress_bars() as progress:
            written = write_report(found, out, progress=progress)
        if as_json:
            files = [str(path) for path in written]
            print_json({"files": files, "bundles": [m.to_json() for _, m in found]})
        else:
            for path in written:
                say(f"{path} ({path.stat().st_size / 2**20:.2f} MiB)")


def _open(
    bundle: Bundle, images: str, labels: str | None, tasks: Any, reading: Reading
) -> tuple[DataSet, Mapping[str, Array] | Array | None]:
    return open_data_set(bundle, judged_as(bundle.network(), tasks), images, labels, reading)
