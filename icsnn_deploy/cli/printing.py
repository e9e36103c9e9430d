"""How commands report results, errors and progress.

Results go to standard output, errors and progress to standard error. Of several processes under
torchrun, only the first prints results and progress.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from icsnn_deploy.cli.notes import keeping_notes, show_traceback
from icsnn_deploy.distributed import is_first
from icsnn_deploy.errors import LONGEST_CELL, IcsnnError, UnsupportedOperatorError, plain
from icsnn_deploy.progress import Progress, inner_progress, silent
from icsnn_deploy.progress_display import LineDisplay, claimed, open_display, takes_bars

_LOG_WIDTH = 120  # characters per line where the output is no terminal
_DELAY_S = 2.0  # a command is silent for three seconds at most; Python starts before it


@dataclass(frozen=True)
class _Running:
    """The command that runs, and how it shows progress: `lines`, or bars without it."""

    title: str
    started: float
    lines: LineDisplay | None


_RUNNING: ContextVar[_Running | None] = ContextVar("running command", default=None)


@contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """Turn an IcsnnError into one message on standard error and exit code 2; show progress.

    Args:
        as_json: also print the error as a JSON object on standard output.
    """
    try:
        with keeping_notes(), _shows_progress():
            yield
    except IcsnnError as error:
        show_traceback(error)
        if as_json and is_first():
            details: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
            if isinstance(error, UnsupportedOperatorError):
                details["rejections"] = [vars(rejection) for rejection in error.rejections]
            print_json(details)
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


@contextmanager
def _shows_progress() -> Iterator[None]:
    """Let progress_bars show something, and write lines also between its blocks."""
    title = " ".join(["icsnn", *sys.argv[1:2]])
    with claimed(first=is_first()) as free:
        if not free:
            yield
            return
        lines = None if takes_bars() else LineDisplay(title, delay_s=_DELAY_S)
        token = _RUNNING.set(_Running(title, time.monotonic(), lines))
        try:
            if lines is None:
                yield
            else:
                with lines:
                    yield
        finally:
            _RUNNING.reset(token)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show progress on standard error; no result may be printed inside.

    Bars on a terminal, else lines; nothing in processes other than the first. It is also the
    inner_progress.
    """
    running = _RUNNING.get()
    if running is None:
        yield silent
    elif running.lines is not None:
        with inner_progress(running.lines):
            yield running.lines
        running.lines.clear()
    else:
        passed = time.monotonic() - running.started
        with (
            open_display(running.title, max(0.0, _DELAY_S - passed)) as bars,
            inner_progress(bars),
        ):
            yield bars


def print_json(value: Any) -> None:
    """Print a result as JSON on standard output."""
    typer.echo(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print a line of a result on standard output; what it quotes from files is made plain."""
    typer.echo(plain(line))


def print_note(text: str) -> None:
    """Print a note on standard error, in the first process alone."""
    if is_first():
        print(f"note: {plain(text)}", file=sys.stderr)


def _plain(text: Any) -> Any:
    return plain(text, LONGEST_CELL) if isinstance(text, str) else text


def print_table(table: Table) -> None:
    """Print a table on standard output, as wide as the terminal; all its texts are made plain."""
    table.title = _plain(table.title)
    for column in table.columns:
        column.header = _plain(column.header)
        column._cells = [_plain(cell) for cell in column._cells]
    console = Console(markup=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    console.print(table)
