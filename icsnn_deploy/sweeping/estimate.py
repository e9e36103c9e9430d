"""How long the rest of a sweep takes, from what finished work took.

The time of a conversion and of a measurement is taken to grow as T + 4: a part that does not depend
on T, and one per step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

_ALWAYS = 4


class Estimate:
    """The seconds per kind of work: kinds are the recipes, and measuring a converted network."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._steps: dict[str, int] = defaultdict(int)

    def add(self, kind: str, time_steps: int, seconds: float) -> None:
        """Note how long finished work took."""
        self._seconds[kind] += seconds
        self._steps[kind] += time_steps + _ALWAYS

    def left(self, work: Iterable[tuple[str, int]]) -> float | None:
        """Seconds that work takes, given as (kind, T); None while nothing is known of a kind."""
        total = 0.0
        for kind, time_steps in work:
            if not self._steps[kind]:
                return None
            total += self._seconds[kind] / self._steps[kind] * (time_steps + _ALWAYS)
        return total
