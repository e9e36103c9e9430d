"""What all commands share: arguments, and how results, errors and progress are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from icsnn_deploy.distributed import is_first
from icsnn_deploy.errors import IcsnnError, UnsupportedOperatorError
from icsnn_deploy.report.bar import ProgressBars

BundlePath = Annotated[Path, typer.Argument(help="A bundle, as icsnn convert makes it.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_LOG_WIDTH = 120  # characters of a line where nobody resizes the window


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Turn our own errors into one message on standard error and exit code 2."""
    try:
        yield
    except IcsnnError as error:
        if as_json and is_first():
            details: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
            if isinstance(error, UnsupportedOperatorError):
                details["rejections"] = [vars(rejection) for rejection in error.rejections]
            print_json(details)
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


def progress_bars() -> ProgressBars:
    """Progress on standard error; of several processes, the first one's."""
    return ProgressBars(Console(stderr=True, quiet=not is_first()))


def print_json(value: Any) -> None:
    """A JSON result on standard output."""
    typer.echo(json.dumps(value, indent=2))


def print_table(table: Table) -> None:
    """A table on standard output, as wide as the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(table)
