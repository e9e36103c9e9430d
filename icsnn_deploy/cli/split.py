"""icsnn split: a part of the network for the host and a part for a chip that takes spikes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli.arguments import BundlePath, ImageLimit, JsonFlag
from icsnn_deploy.cli.input_arrays import load_inputs, take_first
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.errors import DataError, ParityError
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.splitting.split import Split


def split(
    bundle: BundlePath,
    out: Annotated[Path, typer.Option(help="Folder to write both parts into.")],
    host_first_layer: Annotated[
        bool,
        typer.Option(
            "--host-first-layer",
            help="Cut behind the populations that the analog input drives: the host runs them.",
        ),
    ] = False,
    images: Annotated[
        str | None,
        typer.Option(
            help="Inputs to compare the parts on, FILE.npz:array or FILE.npy; of several inputs "
            "FILE.npz, with an array of each name. Default: the samples in the bundle."
        ),
    ] = None,
    limit: ImageLimit = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that icsnn split wrote.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Split a network for a chip that takes spikes: an ONNX file for the host, and the rest."""
    with report_errors(as_json):
        if not host_first_layer:
            raise DataError("no cut is named: pass --host-first-layer, the only one there is")
        with progress_bars() as progress:
            from icsnn_deploy.report.tables import parity_table
            from icsnn_deploy.splitting.split import check_free_split
            from icsnn_deploy.splitting.split import split as run_split

            check_free_split(out, overwrite=overwrite)
            opened = open_bundle(bundle)
            if images:
                reading = Reading(selection=Selection(limit), progress=progress)
                samples = load_inputs(opened, images, reading)
            else:
                samples = take_first(opened.samples(), limit, opened.network().input.batch_axis)
        try:
            with progress_bars() as progress:
                result = run_split(opened, out, samples, overwrite=overwrite, progress=progress)
        except ParityError as error:
            if as_json:
                print_json({"error": "ParityError", "parity": error.report.to_json()})
            else:
                print_table(parity_table(error.report))
            typer.echo(f"error: {error}\nNothing was written.", err=True)
            raise typer.Exit(1) from error
        if as_json:
            print_json(result.to_json())
            return
        print_table(parity_table(result.report))
        for line in _lines(result):
            say(line)


def _lines(result: Split) -> list[str]:
    """What the parts take and give, how they compare, and the next commands."""
    chip = result.chip.network()
    shape = [chip.steps, "N", *chip.input.shape]
    *_, cut, with_file = result.report.comparisons
    packed = " (packed by icsnn_deploy.pack_inputs)" if len(result.populations) > 1 else ""
    return [
        f"host  {result.host_file}: output {', '.join(result.populations.values())}, uint8; "
        f"{result.host_step_file.name} is one step of it",
        f"chip  {result.chip.path}: takes these spikes{packed}, "
        f"[{', '.join(map(str, shape))}], events",
        f"host and chip together: {cut.spike_mismatches} of {cut.spikes_compared:,} spikes and "
        f"{cut.logit_mismatches} logits differ from the whole network on {cut.images} samples",
        f"{with_file.backend}: {with_file.reason}",
        f"wrote {result.path}; next: icsnn check {result.chip.path} --target speck; "
        f"icsnn export {result.chip.path} --format nir; icsnn verify {result.chip.path}",
    ]
