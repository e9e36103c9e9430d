"""The icsnn command.

Results go to standard output, progress and errors to standard error. Exit code 0: good; 1: parity
or a target check fails; 2: bad usage or input.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from icsnn_deploy.cli.conversion import convert
from icsnn_deploy.cli.evaluation import evaluate
from icsnn_deploy.cli.exporting import export
from icsnn_deploy.cli.hardware import check, quantize, targets
from icsnn_deploy.cli.importing import import_
from icsnn_deploy.cli.lava import lava
from icsnn_deploy.cli.memory import keep_freed_memory
from icsnn_deploy.cli.readers import readers
from icsnn_deploy.cli.verification import demo, inspect, verify
from icsnn_deploy.distributed import is_launched
from icsnn_deploy.version import __version__

app = typer.Typer(
    name="icsnn",
    help="Convert trained PyTorch networks to integrate-and-fire networks, export and verify them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (convert, quantize, export, verify, evaluate, inspect, targets, check, demo):
    app.command()(_command)
_SHARED = ("convert", "evaluate")  # commands that several processes may run together
app.command("import")(import_)
app.add_typer(lava)
app.add_typer(readers)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"icsnn-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if is_launched() and context.invoked_subcommand not in _SHARED:
        print(
            f"error: {context.invoked_subcommand} runs in one process, not under torchrun; "
            f"{' and '.join(_SHARED)} share their work",
            file=sys.stderr,
        )
        raise typer.Exit(2)


def main() -> None:
    """Entry point of the icsnn command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that a terminal can't show is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    try:
        app()
    except OSError as error:  # full disks end with 2, too: 1 would be a verdict
        print(f"error: {error}; what was written is not whole", file=sys.stderr)
        sys.exit(2)
