"""Progress callbacks for long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")

REPORT_EVERY_S = 0.25
"""Time between two reports of short steps (InnerSteps)."""
_clock = time.monotonic

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


class InnerSteps:
    """Steps that are short in a small network: reported to inner_progress where they take time.

    Args:
        stage: name of the stage.
        total: number of steps.
    """

    def __init__(self, stage: str, total: int) -> None:
        self._stage, self._total = stage, total
        self._done, self._reported = 0, False
        self._due = _clock() + REPORT_EVERY_S

    def step(self) -> None:
        """One step is done; reported a few times per second, and at the end."""
        self._done += 1
        now = _clock()
        if now >= self._due or (self._reported and self._done == self._total):
            self._due, self._reported = now + REPORT_EVERY_S, True
            report_inner(self._stage, self._done, self._total)


def inner_tracked(items: Sequence[Item], stage: str) -> Iterator[Item]:
    """Yield the items; each is one of InnerSteps."""
    steps = InnerSteps(stage, len(items))
    for item in items:
        yield item
        steps.step()
