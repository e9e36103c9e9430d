"""How commands report results, errors and progress.

Results go to standard output, errors and progress to standard error. Of several processes under
torchrun, only the first prints results and progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from icsnn_deploy.distributed import is_first
from icsnn_deploy.errors import IcsnnError, UnsupportedOperatorError
from icsnn_deploy.report.bar import ProgressBars

_LOG_WIDTH = 120  # characters per line where the output is no terminal


@contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """Turn an IcsnnError into one message on standard error and exit code 2.

    Args:
        as_json: also print the error as a JSON object on standard output.
    """
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
    """Progress bars on standard error; nothing in processes other than the first."""
    return ProgressBars(Console(stderr=True, quiet=not is_first()))


def print_json(value: Any) -> None:
    """Print a result as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2))


def print_note(text: str) -> None:
    """Print a note on standard error, in the first process alone."""
    if is_first():
        print(f"note: {text}", file=sys.stderr)


def print_table(table: Table) -> None:
    """Print a table on standard output, as wide as the terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(table)
