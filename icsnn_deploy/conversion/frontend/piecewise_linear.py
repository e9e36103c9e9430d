"""Functions of one variable that are linear between kinks, with parameters per channel.

    f(x) = slopes[k] x + intercepts[k]      for kinks[k - 1] < x < kinks[k]

They may jump at a kink, as comparisons do; only those that do not jump can be computed by
rectifiers. The value at a kink itself is left open: where there is no jump, both sides give it.

Arrays have the kinks or the pieces on the first axis, then axes that broadcast to a node's shape. A
kink at infinity stands for none, since channels may differ in how many they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icsnn_deploy.graph.neuron import Array

_SAME = 1e-12  # relative difference that float64 arithmetic makes
_CONTINUOUS = 1e-6  # relative difference that parameters rounded to float32 make


@dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """A piecewise-linear function, per layer, channel or neuron.

    Args:
        kinks: [n, *p], ascending along the first axis.
        slopes: [n + 1, *p].
        intercepts: [n + 1, *p].
    """

    kinks: Array
    slopes: Array
    intercepts: Array

    @classmethod
    def of(
        cls, kinks: Sequence[Any], slopes: Sequence[Any], intercepts: Sequence[Any]
    ) -> PiecewiseLinear:
        """The function of these kinks, slopes and intercepts, each a number or an array."""
        values = [np.asarray(one, np.float64) for one in (*kinks, *slopes, *intercepts)]
        shape = np.broadcast_shapes(*(value.shape for value in values))
        rows = np.stack([np.broadcast_to(value, shape) for value in values])
        n = len(kinks)
        return cls(rows[:n], rows[n : 2 * n + 1], rows[2 * n + 1 :]).simplified()

    @classmethod
    def linear(cls, slope: Any, intercept: Any = 0.0) -> PiecewiseLinear:
        """f(x) = slope * x + intercept"""
        return cls.of([], [slope], [intercept])

    @property
    def is_linear(self) -> bool:
        """Whether it has no kink."""
        return len(self.kinks) == 0

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every x."""
        return self.is_linear and not self.slopes.any()

    @property
    def is_identity(self) -> bool:
        """Whether f(x) = x."""
        return self.is_linear and bool((self.slopes == 1).all()) and not self.intercepts.any()

    @property
    def is_step(self) -> bool:
        """Whether it is constant between its kinks."""
        return not self.slopes.any()

    def __call__(self, x: Array) -> Array:
        """f(x) for x [N, *p]; at a kink the value of the piece on its left."""
        slope, intercept = self.pieces_at(x)
        result: Array = slope * x + intercept
        return result

    def pieces_at(self, x: Array) -> tuple[Array, Array]:
        """Slope and intercept at each x [N, *p]; at a kink those of the piece on its left."""
        return self._pieces((self.kinks[:, None] < x[None]).sum(axis=0))

    def _pieces(self, index: Array) -> tuple[Array, Array]:
        shape = np.broadcast_shapes(index.shape[1:], self.slopes.shape[1:])
        index = np.broadcast_to(index, (len(index), *shape))
        slopes, intercepts = (
            np.take_along_axis(np.broadcast_to(rows, (len(rows), *shape)), index, axis=0)
            for rows in (self.slopes, self.intercepts)
        )
        return slopes, intercepts

    def edges(self) -> Array:
        """The ends of the pieces, [n + 2, *p], from -inf to inf."""
        end = np.full((1, *self.slopes.shape[1:]), np.inf)
        return np.concatenate([-end, self.kinks, end])

    def widened(self, rank: int) -> PiecewiseLinear:
        """The same function with `rank` parameter axes."""
        shape = self.slopes.shape[1:]
        shape = (1,) * (rank - len(shape)) + shape
        rows = (self.kinks, self.slopes, self.intercepts)
        return PiecewiseLinear(*(one.reshape(len(one), *shape) for one in rows))

    def channels(self, begin: int, end: int) -> PiecewiseLinear:
        """The function of the channels begin to end - 1, for parameters [n, C or 1, ...]."""
        if self.slopes.shape[1] == 1:
            return self
        rows = (self.kinks, self.slopes, self.intercepts)
        return PiecewiseLinear(*(one[:, begin:end] for one in rows)).simplified()

    def jump(self) -> float | None:
        """A kink at which the function jumps; None if it is continuous."""
        left, right, size = self._at_kinks()
        jumps = np.isfinite(self.kinks) & (np.abs(left - right) > _CONTINUOUS * size)
        return float(self.kinks[jumps][0]) if jumps.any() else None

    def _at_kinks(self) -> tuple[Array, Array, Array]:
        """Values on the left and right of each kink (0 at infinity), and the size of the terms."""
        finite = np.isfinite(self.kinks)
        at = np.where(finite, self.kinks, 0)
        terms = np.stack([self.slopes[:-1] * at, self.slopes[1:] * at])
        constants = np.stack([self.intercepts[:-1], self.intercepts[1:]])
        left, right = np.where(finite, terms + constants, 0)
        size: Array = np.abs(np.concatenate([terms, constants])).max(axis=0)
        return left, right, size

    def limits(self) -> tuple[Array, Array]:
        """Greatest lower and least upper bound of a continuous function, [1, *p] each."""
        first, last = self.slopes[:1], self.slopes[-1:]
        ends = [
            np.where(first == 0, self.intercepts[:1], np.where(first > 0, -np.inf, np.inf)),
            np.where(last == 0, self.intercepts[-1:], np.where(last > 0, np.inf, -np.inf)),
        ]
        _, values, _ = self._at_kinks()
        values = np.where(np.isfinite(self.kinks), values, ends[1])
        rows = np.concatenate([values, *ends])
        return rows.min(axis=0, keepdims=True), rows.max(axis=0, keepdims=True)

    def restricted(self, low: Array, high: Array) -> PiecewiseLinear:
        """A function with the same values between low and high [*p], without other kinks."""

        def pieces(x: Array) -> tuple[Array, Array]:
            index = (self.kinks[:, None] < x[None]).sum(axis=0)
            least = (self.kinks <= low).sum(axis=0, keepdims=True)
            most = (self.kinks < high).sum(axis=0, keepdims=True)
            return self._pieces(np.clip(index, least, np.maximum(least, most)))

        return _built([self.kinks], pieces)

    def after(self, inner: PiecewiseLinear) -> PiecewiseLinear | None:
        """f(inner(x)); None if f jumps at a value that the inner function keeps on a piece."""
        outer = self.widened(inner.slopes.ndim - 1)
        if self.is_linear:
            return combined(_affine_of(outer.slopes, outer.intercepts), inner)
        edges = inner.edges()
        found = [inner.kinks]
        for kink in outer.kinks:
            with np.errstate(divide="ignore", invalid="ignore"):
                crossing = (kink - inner.intercepts) / inner.slopes
            crossing = np.where(inner.slopes == 0, np.inf, crossing)
            found.append(np.clip(crossing, edges[:-1], edges[1:]))
        if self.jump() is not None:
            flat = (inner.slopes == 0) & ~_is_empty(edges)
            values = np.where(flat, inner.intercepts, np.nan)
            if (values[None] == outer.kinks[:, None]).any():
                return None

        def pieces(x: Array) -> tuple[Array, Array]:
            slope, intercept = inner.pieces_at(x)
            outer_slope, outer_intercept = outer.pieces_at(slope * x + intercept)
            return outer_slope * slope, outer_slope * intercept + outer_intercept

        return _built(found, pieces)

    def simplified(self) -> PiecewiseLinear:
        """The same function without empty pieces, and without kinks at which nothing changes."""
        if self.is_linear:
            return self
        filled = ~_is_empty(self.edges())
        numbers = np.arange(len(filled)).reshape(-1, *(1,) * (filled.ndim - 1))
        source = np.maximum.accumulate(np.where(filled, numbers, -1), axis=0)
        source = np.where(source < 0, filled.argmax(axis=0, keepdims=True), source)
        slopes, intercepts = self._pieces(source)
        finite = np.isfinite(self.kinks)
        at = np.abs(np.where(finite, self.kinks, 0))
        steepness = np.maximum(np.abs(slopes[1:]), np.abs(slopes[:-1]))
        size = np.maximum(np.abs(intercepts[1:]), np.abs(intercepts[:-1]))
        same = np.abs(np.diff(slopes, axis=0)) <= _SAME * steepness
        same &= np.abs(np.diff(intercepts, axis=0)) <= _SAME * np.maximum(size, steepness * at)
        same |= ~finite
        kinks = np.where(same, np.inf, self.kinks)
        order = np.argsort(kinks, axis=0, kind="stable")
        kinks = np.take_along_axis(kinks, order, axis=0)
        kept = int(np.isfinite(kinks).reshape(len(kinks), -1).any(axis=1).sum())
        rows = []
        for values in (slopes, intercepts):
            later = np.take_along_axis(values[1:], order, axis=0)
            later = np.where(np.isfinite(kinks), later, values[-1:])
            rows.append(np.concatenate([values[:1], later[:kept]]))
        return PiecewiseLinear(kinks[:kept], *rows)


Pieces = Callable[..., tuple[Array, Array]]
"""From the slopes and intercepts of the operands to those of the result."""


def combined(operation: Pieces, *functions: PiecewiseLinear) -> PiecewiseLinear:
    """The function that is computed piece by piece from others of the same variable."""

    def pieces(x: Array) -> tuple[Array, Array]:
        return operation(*(one.pieces_at(x) for one in functions))

    return _built([one.kinks for one in functions], pieces)


def total(f: PiecewiseLinear, g: PiecewiseLinear) -> PiecewiseLinear:
    """f(x) + g(x)"""
    return combined(lambda a, b: (a[0] + b[0], a[1] + b[1]), f, g)


def product(f: PiecewiseLinear, g: PiecewiseLinear) -> PiecewiseLinear | None:
    """f(x) * g(x); None if that is quadratic somewhere."""
    f, g = (g, f) if g.is_step else (f, g)
    if not f.is_step:
        return None
    return combined(lambda a, b: (a[1] * b[0], a[1] * b[1]), f, g)


def larger(f: PiecewiseLinear, g: PiecewiseLinear) -> PiecewiseLinear:
    """max(f(x), g(x))"""
    difference = combined(lambda a, b: (a[0] - b[0], a[1] - b[1]), f, g)
    edges = difference.edges()
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = -difference.intercepts / difference.slopes
    crossings = np.where(difference.slopes == 0, np.inf, crossings)
    crossings = np.clip(crossings, edges[:-1], edges[1:])

    def pieces(x: Array) -> tuple[Array, Array]:
        (a, b), (c, d) = f.pieces_at(x), g.pieces_at(x)
        first = a * x + b >= c * x + d
        return np.where(first, a, c), np.where(first, b, d)

    return _built([f.kinks, g.kinks, crossings], pieces)


def chosen(condition: PiecewiseLinear, f: PiecewiseLinear, g: PiecewiseLinear) -> PiecewiseLinear:
    """f(x) where the condition, a step function, is not 0, else g(x)."""

    def pieces(on: Any, a: Any, b: Any) -> tuple[Array, Array]:
        return np.where(on[1] != 0, a[0], b[0]), np.where(on[1] != 0, a[1], b[1])

    return combined(pieces, condition, f, g)


def _affine_of(scale: Array, shift: Array) -> Pieces:
    return lambda one: (one[0] * scale, one[1] * scale + shift)


def _built(
    kinks: Sequence[Array], pieces: Callable[[Array], tuple[Array, Array]]
) -> PiecewiseLinear:
    """The function with kinks at some of the given places, in any order.

    Args:
        kinks: [n, *p] each.
        pieces: slope and intercept at x [N, *p].
    """
    shape = np.broadcast_shapes(*(one.shape[1:] for one in kinks))
    rows = [np.broadcast_to(one, (len(one), *shape)) for one in kinks]
    places = np.sort(np.concatenate(rows), axis=0)
    end = np.full((1, *shape), np.inf)
    edges = np.concatenate([-end, places, end])
    slopes, intercepts = pieces(_between(edges))
    shape = np.broadcast_shapes(shape, slopes.shape[1:])
    count = len(slopes)
    return PiecewiseLinear(
        np.broadcast_to(places, (count - 1, *shape)),
        np.broadcast_to(slopes, (count, *shape)),
        np.broadcast_to(intercepts, (count, *shape)),
    ).simplified()


def _between(edges: Array) -> Array:
    """A finite place within each piece."""
    low, high = edges[:-1], edges[1:]
    finite_low, finite_high = np.isfinite(low), np.isfinite(high)
    a, b = np.where(finite_low, low, 0), np.where(finite_high, high, 0)
    outside = np.where(finite_low, a + np.maximum(1, np.abs(a)), b - np.maximum(1, np.abs(b)))
    inside = np.where(finite_low & finite_high, a + (b - a) / 2, outside)
    result: Array = np.where(finite_low | finite_high, inside, 0)
    return result


def _is_empty(edges: Array) -> Array:
    """Whether each piece has no width, but for rounding."""
    low, high = edges[:-1], edges[1:]
    finite = np.isfinite(low) & np.isfinite(high)
    a, b = np.where(finite, low, 0), np.where(finite, high, 1)
    tiny = b - a <= _SAME * np.maximum(np.abs(a), np.abs(b))
    empty: Array = (low == high) | (finite & tiny)
    return empty
