"""Progress callbacks for long work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")

Progress = Callable[[str, int, "int | None"], None]
"""progress(stage, done, total): called as a stage advances; total is None if it is unknown."""


@runtime_checkable
class Announcer(Protocol):
    """A progress that also shows lines of text."""

    def announce(self, line: str) -> None:
        """Show one line."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Ignore the progress."""


def announces(progress: Progress) -> bool:
    """Whether lines of text reach anyone."""
    return isinstance(progress, Announcer)


def announce(progress: Progress, line: str) -> None:
    """Show one line, where the progress shows lines."""
    if isinstance(progress, Announcer):
        progress.announce(line)


def tracked(
    items: Iterable[Item], stage: str, total: int | None, progress: Progress
) -> Iterator[Item]:
    """Yield the items, and report the stage's progress before the first and after each."""
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)


_INNER: ContextVar[Progress] = ContextVar("inner progress", default=silent)


@contextmanager
def inner_progress(progress: Progress) -> Iterator[None]:
    """Let what runs inside report its steps, though it is not given a progress (report_inner).

    A simulator has one method, run(inputs, record); how far it is, only it knows.
    """
    token = _INNER.set(progress)
    try:
        yield
    finally:
        _INNER.reset(token)


def report_inner(stage: str, done: int, total: int | None) -> None:
    """Report to the innermost inner_progress; ignored outside of one."""
    _INNER.get()(stage, done, total)
