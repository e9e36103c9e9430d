"""Progress callbacks for long work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[str, int, "int | None"], None]
"""progress(stage, done, total): called as a stage advances; total is None if it is unknown."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Ignore the progress."""


def tracked(
    items: Iterable[Item], stage: str, total: int | None, progress: Progress
) -> Iterator[Item]:
    """Yield the items, and report the stage's progress before the first and after each."""
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)
