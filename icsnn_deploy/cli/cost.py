"""icsnn cost: latency and energy on a chip, as a tool by others models them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli.arguments import SOURCE_FORMS, BundlePath, ImageLimit, JsonFlag
from icsnn_deploy.cli.input_arrays import load_inputs, take_first
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.evaluation.cost_record import ChipCost


def cost(
    bundle: BundlePath,
    tool: Annotated[str, typer.Option(help="The tool that models the chip: sanafe.")] = "sanafe",
    target: Annotated[str, typer.Option(help="The chip: loihi1.")] = "loihi1",
    images: Annotated[
        str | None,
        typer.Option(help=f"Default: the samples in the bundle. Otherwise {SOURCE_FORMS}"),
    ] = None,
    limit: ImageLimit = None,
    neurons_per_core: Annotated[
        list[int] | None,
        typer.Option(
            help="Neurons of a population on each of its cores: 1 to 1024. May be repeated, for "
            "several placements. Default: 512 and 256."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write the result to this file, for --cost of icsnn report and inspect."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Model the latency and energy of an integer network on a chip, from the spikes of a run."""
    with report_errors(as_json):
        from icsnn_deploy.evaluation.cost_record import check_cost_path, write_cost

        if out is not None:
            check_cost_path(out)
        with progress_bars() as progress:
            from icsnn_deploy.evaluation.chip_cost import model_cost

            opened = open_bundle(bundle)
            axis = opened.network().input.batch_axis
            inputs = (
                load_inputs(opened, images, Reading(selection=Selection(limit), progress=progress))
                if images
                else take_first(opened.samples(), limit, axis)
            )
            found = model_cost(
                opened,
                inputs,
                tool=tool,
                target=target,
                neurons_per_core=neurons_per_core or (512, 256),
                progress=progress,
            )
        if out is not None:
            write_cost(found, out)
        if as_json:
            print_json(found.to_json())
            return
        show_cost(found)


def show_cost(cost: ChipCost) -> None:
    """Print a modelled cost as tables and lines."""
    from icsnn_deploy.report import chip_cost as tables

    print_table(tables.placements_table(cost))
    print_table(tables.layers_table(cost.placements[0]))
    for line in tables.cost_lines(cost):
        say(line)
