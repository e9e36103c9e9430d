"""icsnn demo: the whole workflow on a small network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.cli.arguments import JsonFlag
from icsnn_deploy.cli.printing import (
    print_json,
    print_note,
    print_table,
    progress_bars,
    report_errors,
    say,
)


def demo(
    out: Annotated[
        Path,
        typer.Option(help="Folder of the bundle to write; the integer one is OUT-int8 beside it."),
    ] = Path("build/demo"),
    lava: Annotated[
        bool | None,
        typer.Option(
            help="Verify on Lava too; run icsnn lava setup first. Default: where it is set up.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace both bundles if they exist.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train, convert, quantize, export and verify a small network on scikit-learn's digits."""
    with report_errors(as_json):
        with progress_bars():
            from icsnn_deploy.demo.requirements import missing_environments

            missing = missing_environments()
        for line in missing:
            print_note(line)
        with progress_bars() as progress:
            from icsnn_deploy.demo.run import run_demo
            from icsnn_deploy.report.tables import accuracy_table, parity_table

            result = run_demo(out, progress, lava=lava, overwrite=overwrite)
        if as_json:
            print_json(result.to_json())
        else:
            print_table(accuracy_table(result.ann_accuracy, result.accuracy_over_time))
            print_table(parity_table(result.parity, "float network: parity"))
            print_table(parity_table(result.integer_parity, "8-bit integer network: parity"))
            tightest = result.certificate.tightest
            say(
                f"8-bit integer network: {result.integer_accuracy:.1%}, certified exact with "
                f"{tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}"
            )
            say(f"bundles: {out}, {result.integer_bundle}; see: icsnn inspect {out}")
        if not result.passed:
            raise typer.Exit(1)
