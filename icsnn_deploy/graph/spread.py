"""What numbers of an output mean: the one rule for regression and detection.

    spread^2 = mean (y - m)^2          m: mean of y over samples, of each value by itself;
                                       of a map [C, H, W] over samples and positions, by channel
    relative squared error = mean (x - y)^2 / spread^2 = 1 - R^2

x is judged against y. Of several values the squares are added before they are divided, so that a
value which hardly varies does not count more than one that does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and summed squared deviation of numbers, of each value or channel.

    Args:
        count: samples (and positions) that each mean is taken over.
        mean: one per value, or per channel of a map.
        squares: sum over everything of (y - mean)^2.
    """

    count: int
    mean: tuple[float, ...]
    squares: float

    @property
    def values(self) -> int:
        """Number of values in all."""
        return self.count * len(self.mean)

    @property
    def spread(self) -> float | None:
        """Root of the mean squared deviation; None where nothing varies."""
        return math.sqrt(self.squares / self.values) if self.squares > 0 else None


def moments(values: Array) -> Moments:
    """Moments of numbers [N, *shape]."""
    rows = _by_mean(values)  # [means, count]
    mean = rows.mean(axis=1)
    squares = np.square(rows - mean[:, None]).sum()
    return Moments(count=rows.shape[1], mean=tuple(map(float, mean)), squares=float(squares))


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of successive samples together (Chan, Golub & LeVeque 1983, Eq. 1.5)."""
    counts = np.array([part.count for part in parts], np.float64)
    means = np.array([part.mean for part in parts], np.float64)  # [parts, means]
    mean = (counts @ means) / counts.sum()
    between = float((counts[:, None] * np.square(means - mean)).sum())
    return Moments(
        count=int(counts.sum()),
        mean=tuple(map(float, mean)),
        squares=sum(part.squares for part in parts) + between,
    )


def squared_error(expected: Array, found: Array) -> float:
    """Sum of the squared differences of arrays of one shape."""
    return float(np.square(found.astype(np.float64) - expected.astype(np.float64)).sum())


def spread_of(values: Array) -> float:
    """Spread of numbers [N, *shape], > 0; their root mean square where they do not vary, or 1."""
    found = moments(values).spread
    return found or math.sqrt(float(np.square(values.astype(np.float64)).mean())) or 1.0


def relative_squared_errors(expected: Array, found: Array, spread: float) -> Array:
    """Mean squared difference of each sample [N], in units of spread^2."""
    difference = found.astype(np.float64) - expected.astype(np.float64)
    result: Array = np.square(difference).reshape(len(expected), -1).mean(axis=1) / spread**2
    return result


def relative_squared_error(expected: Array, found: Array, spread: float) -> float:
    """Mean squared difference, in units of spread^2."""
    return squared_error(expected, found) / (expected.size * spread**2)


def _by_mean(values: Array) -> Array:
    """Numbers [N, *shape] as float64 rows with one mean each."""
    numbers = values.astype(np.float64)
    if numbers.ndim == 4:
        numbers = np.moveaxis(numbers, 1, 0)  # [C, N, H, W]
        return numbers.reshape(len(numbers), -1)
    return numbers.reshape(len(numbers), -1).T
