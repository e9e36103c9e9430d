"""The icsnn command: one file per command, joined here.

Results go to standard output, progress and errors to standard error. Exit codes: 0, success; 1, a
parity or target check fails; 2, wrong usage or input; 130, interrupted.

    arguments.py      arguments and options that several commands share
    input_arrays.py   loads the arrays that a network is run on
    printing.py       results, errors and progress
    notes.py          what libraries say beside a result
    interrupts.py     the exit code of Ctrl-C
    freed_memory.py   a setting of the C library that saves time
    others            one command, or one group of commands, each

Backends and other heavy packages are imported when a command runs, so that `icsnn --help` is fast.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from icsnn_deploy.cli.check import check
from icsnn_deploy.cli.convert import convert
from icsnn_deploy.cli.cost import cost
from icsnn_deploy.cli.demo import demo
from icsnn_deploy.cli.deploy import deploy
from icsnn_deploy.cli.evaluate import evaluate
from icsnn_deploy.cli.export import export
from icsnn_deploy.cli.freed_memory import keep_freed_memory
from icsnn_deploy.cli.import_nir import import_nir
from icsnn_deploy.cli.inspect import inspect
from icsnn_deploy.cli.interrupts import exit_code_of
from icsnn_deploy.cli.lava import lava
from icsnn_deploy.cli.notes import keep_unraisable, show_notes, show_traceback
from icsnn_deploy.cli.quantize import quantize
from icsnn_deploy.cli.readers import readers
from icsnn_deploy.cli.report import report
from icsnn_deploy.cli.split import split
from icsnn_deploy.cli.sweep import sweep
from icsnn_deploy.cli.targets import targets
from icsnn_deploy.cli.tools import tools
from icsnn_deploy.cli.verify import verify
from icsnn_deploy.distributed import is_launched
from icsnn_deploy.errors import plain, text_of
from icsnn_deploy.version import __version__

app = typer.Typer(
    name="icsnn",
    help="Convert trained PyTorch networks to integrate-and-fire networks, export and verify them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "convert": convert,
    "quantize": quantize,
    "export": export,
    "verify": verify,
    "evaluate": evaluate,
    "report": report,
    "sweep": sweep,
    "inspect": inspect,
    "targets": targets,
    "check": check,
    "cost": cost,
    "split": split,
    "deploy": deploy,
    "demo": demo,
    "import": import_nir,
}
GROUPS = (lava, readers, tools)
DISTRIBUTED = ("convert", "evaluate", "sweep")
"""Commands that run in several processes under torchrun."""

for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
for _group in GROUPS:
    app.add_typer(_group)


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
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Also show notes of libraries, and where an error was raised."
        ),
    ] = False,
) -> None:
    show_notes(verbose)
    if is_launched() and context.invoked_subcommand not in DISTRIBUTED:
        print(
            f"error: {context.invoked_subcommand} runs in one process, not under torchrun; "
            f"only {', '.join(DISTRIBUTED)} do",
            file=sys.stderr,
        )
        raise typer.Exit(2)


def main() -> None:
    """Entry point of the icsnn command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # escape what the terminal can't show
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    keep_unraisable()
    keep_freed_memory()
    sys.exit(exit_code_of(_run))


def _run() -> None:
    try:
        os.getcwd()
        app()
    except OSError as error:  # a full disk: exit code 2, because 1 means that a check failed
        show_traceback(error)
        print(f"error: {plain(_explained(error))}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        show_traceback(error)
        said = text_of(error)
        print(
            f"error: unexpected {type(error).__name__}{': ' if said else ''}{said}; this is a "
            "fault of icsnn-deploy, please report what `icsnn --verbose COMMAND ...` prints",
            file=sys.stderr,
        )
        sys.exit(2)


def _explained(error: OSError) -> str:
    try:
        os.getcwd()
    except OSError:
        return "the working directory does not exist any more; change to another"
    return f"{error}; the output is incomplete"
