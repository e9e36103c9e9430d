"""How long work tells how far it is, without knowing who is looking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Progress = Callable[[str, int, "int | None"], None]
"""progress(stage, done, total): called as a stage advances; total is None where it is not known."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


def tracked(
    items: Iterable[Item], stage: str, total: int | None, progress: Progress
) -> Iterator[Item]:
    """The items, with the stage's progress told before the first and after each."""
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)
