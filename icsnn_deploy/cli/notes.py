"""What libraries and the user's code say beside a result: kept back, and shown with --verbose.

Warnings of Python, records of loggers, and exceptions in destructors. Messages of this package are
printed, as plain text.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from icsnn_deploy.errors import plain

_LONGEST = 300
_OURS = "icsnn_deploy"


class _Settings:
    """The options that stand before the command."""

    verbose = False


def show_notes(wanted: bool) -> None:
    """Whether what is kept back is printed when the command ends, with tracebacks of errors."""
    _Settings.verbose = wanted


@contextmanager
def keeping_notes() -> Iterator[None]:
    """Keep back what is said beside the result; print it at the end if --verbose is given."""
    found: dict[str, int] = {}

    def note(text: str) -> None:
        text = plain(text, _LONGEST)
        found[text] = found.get(text, 0) + 1

    handler = _Handler(note)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            show = warnings.showwarning
            if show is _STANDARD:  # else a test, or who calls main, keeps them
                warnings.showwarning = lambda message, category, *_, **__: note(
                    f"{category.__name__}: {message}"
                )
            yield
    finally:
        root.removeHandler(handler)
        if _Settings.verbose:
            for text, count in found.items():
                times = f" ({count} times)" if count > 1 else ""
                print(f"note: {text}{times}", file=sys.stderr)


def keep_unraisable() -> None:
    """Print exceptions in destructors, which may run when the program ends, only with --verbose."""

    def report(what: sys.UnraisableHookArgs) -> None:
        if _Settings.verbose:
            print(f"note: {what.exc_type.__name__} in a destructor, ignored", file=sys.stderr)

    sys.unraisablehook = report


def show_traceback(error: BaseException) -> None:
    """Print where an error was raised, if --verbose is given."""
    if _Settings.verbose:
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(f"note: {plain(line)}", file=sys.stderr)


_STANDARD = warnings.showwarning


class _Handler(logging.Handler):
    """Prints warnings of this package, and keeps those of others."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # arguments that do not fit the text
            text = str(record.msg)
        if record.name.partition(".")[0] == _OURS:
            print(plain(text), file=sys.stderr)
        else:
            self._note(f"{record.name}: {text}")
