"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.backends import BACKENDS
from icsnn_deploy.graph.tasks import TASKS

BundlePath = Annotated[Path, typer.Argument(help="A bundle, as icsnn convert writes it.")]
CalibrationArray = Annotated[
    str,
    typer.Option(
        help="Calibration samples: FILE.npz:array or FILE.npy; of several inputs FILE.npz, with "
        "an array of each name."
    ),
]
CalibrationLimit = Annotated[
    int | None, typer.Option(help="Use at most this many calibration samples.")
]
ImageLimit = Annotated[int | None, typer.Option(help="Use at most this many images.")]
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
OutputBundle = Annotated[Path, typer.Option(help="Folder of the bundle to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

BACKEND_NAMES = ", ".join(BACKENDS)
