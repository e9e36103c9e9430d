"""A point of a sweep that is finished, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from icsnn_deploy.progress_display import duration
from icsnn_deploy.sweeping.rows import Row


@dataclass(frozen=True, kw_only=True)
class SweepStep:
    """A point that is finished.

    Args:
        done: points that are finished, this one included.
        total: points of the sweep.
        row: what was found; None as the sweep begins, with what it found in its folder.
        seconds_left: an estimate of what the rest takes; None where it can't be told yet.
    """

    done: int
    total: int
    row: Row | None
    seconds_left: float | None


OnStep = Callable[[SweepStep], None]
"""Called with each finished point."""


def verdict(row: Row) -> str:
    """Whether a row fits its target, and what is over."""
    found = row.measured
    if found is None:
        lines = row.error.splitlines() or [""]
        return f"not measured: {lines[0]}"
    used = "" if found.cores is None else f", {found.cores} core{'s' * (found.cores != 1)}"
    return f"yes{used}" if found.fits else f"no: {found.over}"


def step_line(step: SweepStep) -> str:
    """A finished point as a line of progress."""
    counted = f"{step.done} of {step.total}"
    left = ""
    if step.done < step.total and step.seconds_left is not None:
        left = f"; about {duration(step.seconds_left)} left"
    row = step.row
    if row is None:
        return f"{counted} points are measured already{left}" if step.done else ""
    if row.measured is None:
        return f"{counted}: {row.point}: {verdict(row)}{left}"
    fits = "fits" if row.measured.fits else "does not fit"
    return (
        f"{counted}: {row.point}: {row.measured.value:.2f} %, loses {row.measured.loss:.2f}, "
        f"{fits}{left}"
    )
