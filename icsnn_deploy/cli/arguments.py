"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from icsnn_deploy.backends import BACKENDS
from icsnn_deploy.graph.tasks import TASKS

LatticeEffort = Literal["quick", "standard", "best"]
"""Efforts of icsnn quantize."""
Replacement = Literal["average"]
"""What may stand for max pooling."""

BundlePath = Annotated[Path, typer.Argument(help="A bundle, as icsnn convert writes it.")]
SOURCE_FORMS = (
    "FILE.npz:array, FILE.npy, a folder of such files (FOLDER:array, FOLDER), FILE.py:callable, "
    "package.module:callable, a folder of images, or torchvision:NAME:ROOT:SPLIT; see "
    "docs/guide/data.md. Of several inputs FILE.npz, with an array of each name. Of events "
    "spikes [T, N, ...] or a folder of recordings."
)
_SPREAD = "evenly spread over images and data sets, otherwise the first."
OwnOrImages = Annotated[
    str | None,
    typer.Option(help=f"Default: the samples in the bundle. Otherwise {SOURCE_FORMS}"),
]
CalibrationArray = Annotated[str, typer.Option(help=f"Calibration samples: {SOURCE_FORMS}")]
CalibrationLimit = Annotated[
    int | None, typer.Option(help=f"Use at most this many calibration samples: {_SPREAD}")
]
ImageLimit = Annotated[int | None, typer.Option(help=f"Use at most this many images: {_SPREAD}")]

_SAMPLES = "How samples are read"
Resize = Annotated[
    str | None,
    typer.Option(
        help="Resize images: length of the shorter side, or H,W.", rich_help_panel=_SAMPLES
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Keep the center of images, N or H,W, after resizing.", rich_help_panel=_SAMPLES
    ),
]
InputKey = Annotated[
    str | None,
    typer.Option(help="Entry of dict batches that holds the samples.", rich_help_panel=_SAMPLES),
]
LabelKey = Annotated[
    str | None,
    typer.Option(help="Entry of dict batches that holds the labels.", rich_help_panel=_SAMPLES),
]
ChannelsLast = Annotated[
    bool | None,
    typer.Option(
        "--channels-last/--channels-first",
        help="Order of the axes of arrays. Default: that in which samples have the shape that a "
        "bundle's network takes; at conversion, of images with --mean and --std the axis with as "
        "many entries as channels, of others as the model takes them, [N, C, H, W].",
        show_default=False,
        rich_help_panel=_SAMPLES,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Samples per batch.")]
Margin = Annotated[
    float,
    typer.Option(help="For float networks: largest allowed |u - v_threshold| / v_threshold."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help=f"What the output is: {', '.join(TASKS)}; of several outputs NAME=TASK, repeated. "
        "Default: detected from its shape.",
    ),
]
JudgedTasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        help=f"Judge the output as {', '.join(TASKS)}; of several outputs NAME=TASK, repeated. "
        "Default: as the bundle records, otherwise as its shape tells.",
    ),
]
_COST = "A file of icsnn cost --out: latency and energy on a chip, as a tool models them"
CostFile = Annotated[Path | None, typer.Option(help=f"{_COST}.")]
CostFiles = Annotated[
    list[Path] | None,
    typer.Option(help=f"{_COST}, of one of the bundles. May be repeated."),
]
OutputBundle = Annotated[Path, typer.Option(help="Folder of the bundle to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

BACKEND_NAMES = ", ".join(BACKENDS)
