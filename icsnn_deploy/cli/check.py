"""icsnn check: whether a network fits a hardware target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli.arguments import BundlePath, JsonFlag
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say

if TYPE_CHECKING:
    from icsnn_deploy.targets.profile import TargetProfile


def _advice(bundle: Path, profile: TargetProfile, *, integer: bool) -> str:
    """What to do where everything that does not fit is a width of numbers."""
    source = "FLOAT_BUNDLE" if integer else str(bundle)
    per_layer = " --per-layer" if profile.threshold_granularity == "layer" else ""
    return (
        f"only widths of numbers do not fit; quantizing for the target chooses them: icsnn "
        f"quantize {source} --target {profile.name}{per_layer} --calibration ... --out ..."
    )


def check(
    bundle: BundlePath,
    target: Annotated[str, typer.Option(help="Name of a target; icsnn targets lists them.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a number of the target: KEY=VALUE. May be repeated."),
    ] = None,
    host_first_layer: Annotated[
        bool,
        typer.Option(
            "--host-first-layer",
            help="The host computes the analog first layer and sends its spikes.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check whether a bundle's network fits a hardware target; list everything that does not."""
    with report_errors(as_json):
        with progress_bars():
            from icsnn_deploy.report import resources as tables
            from icsnn_deploy.targets import find_target
            from icsnn_deploy.targets.check import check as run_check
            from icsnn_deploy.targets.override import override, parse_settings

            profile = override(find_target(target), parse_settings(settings or []))
            network = open_bundle(bundle).network()
            result = run_check(network, profile, host_first_layer=host_first_layer)
        if as_json:
            print_json(result.to_json())
        else:
            print_table(tables.resources_table(result.resources))
            if result.allocation is not None:
                print_table(tables.allocation_table(result.allocation))
            if result.misfits:
                print_table(tables.misfits_table(result))
            for note in result.notes:
                say(f"note: {note}")
            for line in result.summary().splitlines():
                say(line)
            if result.needs_narrower_numbers:
                say(_advice(bundle, profile, integer=network.is_integer))
        if not result.ok:
            raise typer.Exit(1)
