"""Which items of a data set are used, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import DataError

_GOLDEN_RATIO = (np.sqrt(5.0) - 1.0) / 2.0


def check_limit(limit: int | None, what: str = "samples") -> None:
    """Raise DataError if a limit that Python code gives is below 1; None: no limit."""
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} {what}: at least 1 is needed")


@dataclass(frozen=True)
class Selection:
    """Which samples are used.

    Args:
        limit: use at most this many; None: all. Of images and data sets they are evenly spread over
            all, because these are often sorted by class; of everything else they are the first.
        mixed: put images and items of data sets in a mixed order (mixed_order). Calibration does,
            because it holds samples out at the end.
    """

    limit: int | None = None
    mixed: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise DataError(f"--limit {self.limit}: at least 1 is needed")

    def numbers(self, count: int) -> list[int]:
        """The numbers of the items that are used, of `count` in all."""
        taken = count if self.limit is None else min(self.limit, count)
        spread = [i * count // taken for i in range(taken)]
        return [spread[i] for i in mixed_order(taken)] if self.mixed else spread


def mixed_order(count: int) -> list[int]:
    """The numbers 0 to count - 1 so that any stretch of them is evenly spread over all.

    They are the ranks of the fractional parts of i times the golden ratio, i = 0, 1, ... The order
    depends on the count alone.
    """
    parts = np.arange(count) * _GOLDEN_RATIO % 1.0
    return [int(rank) for rank in np.argsort(np.argsort(parts))]
