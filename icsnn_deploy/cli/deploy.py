"""icsnn deploy: everything from a bundle to the files that a chip's own tools take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli.arguments import BundlePath, ImageLimit, JsonFlag, Overwrite
from icsnn_deploy.cli.input_arrays import load_samples
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.deploying.deploy import Deployment


def deploy(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="Name of a target; icsnn targets lists them.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Calibration samples, of a float network: it is quantized for the target first."
        ),
    ] = None,
    limit: ImageLimit = None,
    overwrite: Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Check, quantize, export and verify for a target; write a folder with the next steps."""
    with report_errors(as_json):
        with progress_bars():
            from icsnn_deploy.deploying.deploy import check_free_deployment
            from icsnn_deploy.deploying.deploy import deploy as run_deployment

            check_free_deployment(out, overwrite=overwrite)
            opened = open_bundle(bundle)
        samples = None
        with progress_bars() as progress:
            if calibration is not None:
                reading = Reading(
                    options=SourceOptions(),
                    selection=Selection(limit, mixed=True),
                    progress=progress,
                )
                samples, _ = load_samples(opened, calibration, reading)
            result = run_deployment(
                opened, target, out, samples, overwrite=overwrite, progress=progress
            )
        if as_json:
            print_json(result.to_json())
        else:
            _show(result)
        if not result.ok:
            raise typer.Exit(1)


def _show(result: Deployment) -> None:
    for step in result.steps:
        typer.echo(f"{step.name:12} {step.outcome}")
    typer.echo(f"wrote {result.path}; next: read {result.path / 'README.md'}")
