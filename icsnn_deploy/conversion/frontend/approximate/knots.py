"""Fit a function of one variable by a continuous one that is linear between K knots.

    min over knots b and values y of   sum_i w_i (f(x_i) - p(x_i))^2

For given knots the values are a linear least-squares problem; the knots start at the quantiles of
(w f''^2)^(1/5), which is optimal for many knots, and are improved by damped Gauss-Newton steps on
what the linear problem leaves (variable projection). Where f has an asymptote, the outer piece is
that asymptote, so that the fit is right however far an input is from the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from icsnn_deploy.graph.neuron import Array

_GROUPS = 384  # quantiles of the samples
_GRID = 96  # places over their whole range
_GRID_WEIGHT = 0.02  # so that a piece without samples is near the function, too
_STEPS = 25
_RIDGE = 1e-7
_LEAST_GAP = 2e-3  # of the range of the samples
_WORTH = 1.5  # how much more error a fit may have that keeps to the asymptotes
_ROOM = 8.0  # ranges of the samples that a knot at an asymptote may be away from them
_FAR = 1e4
_SLOWLY = 5e-5  # how far softsign, which tends to 1 as 1 / x, is from it at 4 _FAR, and more


@dataclass(frozen=True, kw_only=True, eq=False)
class Knots:
    """p(x): slope s[k] between b[k - 1] and b[k], p(b[0]) = value.

    Args:
        places: b, [K], ascending.
        slopes: s, [K + 1] or, per channel, [K + 1, C, 1, ...].
        value: at the first knot; a number or [C, 1, ...].
    """

    places: Array
    slopes: Array
    value: Any

    def rises(self) -> Array:
        """p(b[k]) - p(b[0]), [K] or [K, C, 1, ...]."""
        widths = np.diff(self.places).reshape(-1, *(1,) * (self.slopes.ndim - 1))
        rises = np.cumsum(self.slopes[1:-1] * widths, axis=0)
        return np.concatenate([np.zeros_like(self.slopes[:1]), rises])

    def __call__(self, x: Array) -> Array:
        """p(x), for slopes that are the same for all."""
        rises = self.rises()
        piece = np.searchsorted(self.places, x)
        start = np.maximum(piece - 1, 0)
        result: Array = self.value + rises[start] + self.slopes[piece] * (x - self.places[start])
        return result


@dataclass(frozen=True)
class Line:
    """slope * x + intercept; any intercept for None."""

    slope: float
    intercept: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted:
    """Places [P] with weights [P], in place of many samples."""

    x: Array
    weight: Array

    @classmethod
    def of(cls, samples: Array) -> Weighted:
        """The means of groups of equal size, and a light grid over the range."""
        values = np.sort(np.asarray(samples, np.float64).ravel())
        groups = [part for part in np.array_split(values, _GROUPS) if len(part)]
        means = np.array([part.mean() for part in groups])
        shares = np.array([len(part) for part in groups]) / len(values)
        low, high = values[0], values[-1]
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-3):
            low, high = low - 0.5, high + 0.5
        grid = np.linspace(low, high, _GRID)
        x = np.concatenate([means, grid])
        weight = np.concatenate([(1 - _GRID_WEIGHT) * shares, np.full(_GRID, _GRID_WEIGHT / _GRID)])
        order = np.argsort(x, kind="stable")
        return cls(x=x[order], weight=weight[order])


def fit_knots(f: Callable[[Array], Array], samples: Array, count: int) -> Knots:
    """The fit of f with `count` knots.

    Args:
        f: takes and returns float64 [P].
        samples: values at which it is read.
        count: K >= 2.

    Raises:
        FloatingPointError: f is not finite on the samples.
    """
    if not np.isfinite(samples).all():
        raise FloatingPointError("its input is not finite on the samples")
    points = Weighted.of(samples)
    target = f(points.x)
    if not np.isfinite(target).all():
        raise FloatingPointError("the function is not finite on its inputs")
    first = _first_places(f, points, count)
    found, least = None, np.inf
    for left, right in _outer_lines(asymptote(f, -1.0), asymptote(f, 1.0)):
        problem = _Problem(points, target, left, right)
        places = problem.improved(first)
        error = problem.error(places)
        if error * _WORTH < least:
            found, least = problem.solved(places), error
    if found is None:
        raise FloatingPointError("the function is too steep to fit")
    return found


def _outer_lines(left: Line | None, right: Line | None) -> list[tuple[Line | None, Line | None]]:
    """What the outer pieces may be: asymptotes, lines of the same slopes, or any lines."""
    slopes = [None if one is None else Line(one.slope, None) for one in (left, right)]
    tried = [(left, right), (slopes[0], slopes[1]), (slopes[0], None), (None, slopes[1])]
    return list(dict.fromkeys([*tried, (None, None)]))


def asymptote(f: Callable[[Array], Array], side: float) -> Line | None:
    """The line that f tends to for x -> side * infinity; None without one."""
    with np.errstate(all="ignore"):
        near, middle, far = f(side * _FAR * np.array([1.0, 2.0, 4.0]))
    if not np.isfinite([near, middle, far]).all():
        return None
    end = side * 4 * _FAR
    slope = _whole((far - middle) / (2 * side * _FAR), 1e-6)
    intercept = _whole(far - slope * end, _SLOWLY)
    expected = slope * side * _FAR + intercept
    return Line(slope, intercept) if abs(expected - near) <= 4 * _SLOWLY else None


def _whole(value: float, within: float) -> float:
    """The whole number that the value is near, otherwise the value."""
    nearest = round(float(value))
    return float(nearest if abs(value - nearest) <= within else value)


def _first_places(f: Callable[[Array], Array], points: Weighted, count: int) -> Array:
    """Quantiles of (w f''^2)^(1/5) over the range of the samples."""
    low, high = points.x[0], points.x[-1]
    grid = np.linspace(low, high, 513)
    middle = (grid[:-1] + grid[1:]) / 2
    mass, _ = np.histogram(points.x, bins=grid, weights=points.weight)
    width = 15
    padded = np.pad(mass, width, mode="edge")
    density = np.convolve(padded, np.ones(2 * width + 1) / (2 * width + 1), mode="valid")
    step = (high - low) / 128
    bend = np.abs(f(middle - step) - 2 * f(middle) + f(middle + step))
    importance = (density * bend**2) ** 0.2
    importance = np.where(np.isfinite(importance), importance, 0)
    importance = importance + 1e-3 * importance.max() + 1e-300
    summed = np.concatenate([[0.0], np.cumsum(importance)])
    shares = (np.arange(count) + 0.5) / count * summed[-1]
    places: Array = np.interp(shares, summed, grid)
    return places


class _Problem:
    """The least-squares problem: knots -> the best values, and what they leave."""

    def __init__(
        self,
        points: Weighted,
        target: Array,
        left: Line | None,
        right: Line | None,
    ) -> None:
        self.x, self.root = points.x, np.sqrt(points.weight)
        self.target, self.left, self.right = target, left, right
        self.low, self.high = float(points.x[0]), float(points.x[-1])
        self.gap = _LEAST_GAP * (self.high - self.low)

    def improved(self, places: Array) -> Array:
        """The knots after damped Gauss-Newton steps."""
        places = self._spread(places)
        left = self._left_over(places)
        damping = 1e-2
        for _ in range(_STEPS):
            jacobian = self._jacobian(places, left)
            normal, gradient = jacobian.T @ jacobian, jacobian.T @ left
            scale = np.diag(normal) + 1e-12 * (np.trace(normal) + 1e-300)
            for _ in range(6):
                step = np.linalg.solve(normal + damping * np.diag(scale), -gradient)
                tried = self._spread(places + step)
                after = self._left_over(tried)
                if after @ after < left @ left:
                    break
                damping *= 6
            else:
                break
            gained = 1 - (after @ after) / max(left @ left, 1e-300)
            places, left, damping = tried, after, max(damping / 6, 1e-8)
            if gained < 1e-5:
                break
        return places

    def error(self, places: Array) -> float:
        """The weighted root mean square difference of the fit with these knots."""
        return float(np.linalg.norm(self._left_over(places)))

    def solved(self, places: Array) -> Knots:
        """The fit with these knots."""
        values, first, last = self._values(places)
        slopes = np.concatenate([[first], np.diff(values) / np.diff(places), [last]])
        return Knots(places=places, slopes=slopes, value=float(values[0]))

    def _spread(self, places: Array) -> Array:
        """The places in order, with a least gap, near the samples."""
        room = _ROOM * (self.high - self.low)
        low = self.low - (room if self.left is not None else 0)
        high = self.high + (room if self.right is not None else 0)
        places = np.sort(np.clip(places, low, high))
        for k in range(1, len(places)):
            places[k] = max(places[k], places[k - 1] + self.gap)
        return places

    def _jacobian(self, places: Array, left: Array) -> Array:
        step = 1e-3 * self.gap
        columns = []
        for k in range(len(places)):
            moved = places.copy()
            moved[k] += step
            columns.append((self._left_over(moved) - left) / step)
        return np.stack(columns, axis=1)

    def _left_over(self, places: Array) -> Array:
        """Weighted differences from the target, [P]."""
        result: Array = self.root * (self.solved(places)(self.x) - self.target)
        return result

    def _values(self, places: Array) -> tuple[Array, float, float]:
        """The values at the knots, and the outer slopes."""
        count = len(places)
        hats = np.stack([np.interp(self.x, places, row) for row in np.eye(count)], axis=1)
        before, after = np.minimum(self.x - places[0], 0), np.maximum(self.x - places[-1], 0)
        columns = np.concatenate([hats, before[:, None], after[:, None]], axis=1)
        prior = np.concatenate([np.interp(places, self.x, self.target), [0.0, 0.0]])
        known = np.full(count + 2, np.nan)
        for line, end, place in ((self.left, 0, places[0]), (self.right, 1, places[-1])):
            if line is not None:
                known[count + end] = line.slope
            if line is not None and line.intercept is not None:
                known[end * (count - 1)] = line.slope * place + line.intercept
        fixed = ~np.isnan(known)
        target = self.target - columns[:, fixed] @ known[fixed]
        open_columns = self.root[:, None] * columns[:, ~fixed]
        normal = open_columns.T @ open_columns
        ridge = _RIDGE * np.eye(len(normal))
        right = open_columns.T @ (self.root * target) + ridge @ prior[~fixed]
        if len(normal):
            known[~fixed] = np.linalg.solve(normal + ridge, right)
        return known[:count], float(known[count]), float(known[count + 1])
