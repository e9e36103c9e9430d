"""Write a piecewise-linear function as a constant and a sum of rectifiers, without a linear term.

    f(x) = f(z) + sum_k s_k clip(x - e_k, 0, w_k) - sum_j s_j clip(e_j - x, 0, w_j)

The pieces on the right of an anchor z are the first sum, those on its left the second; a flat piece
needs no rectifier. A linear term s x would make the next layer read sums of weights where all else
are spikes. The anchor is a zero of f wherever f has one, so that no constant is left: a constant
can't be moved past the zero padding of the next convolution.

    LeakyReLU          relu(x) - s relu(-x)                     z = 0
    Hardtanh(-1, 1)    clip(x, 0, 1) - clip(-x, 0, 1)           z = 0
    Hardsigmoid        clip(x / 6 + 1 / 2, 0, 1)                z = -3
    clamp(x, 1, 3)     1 + clip(x - 1, 0, 2)                    z = 1
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear
from icsnn_deploy.graph.neuron import Array

_ZERO = 1e-9  # |f(kink)| relative to its terms that is taken as zero


@dataclass(frozen=True, kw_only=True, eq=False)
class Rectifier:
    """factor * clip(scale * x + shift, 0, upper)

    Attributes:
        side: "above" or "below" the anchor.
        scale, shift, factor: [*p].
        upper: one for the whole layer; None without a bound.
    """

    side: str
    scale: Array
    shift: Array
    upper: float | None
    factor: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class RectifierSum:
    """constant + sum of the rectifiers; the constant is [*p]."""

    constant: Array
    rectifiers: tuple[Rectifier, ...]


def rectifier_sum(f: PiecewiseLinear) -> RectifierSum:
    """The rectifiers that compute a continuous function; at least one unless it is constant."""
    anchor, constant = _anchor(f)
    rectifiers = [
        *_on_side(f, anchor, 1.0, "above"),
        *_on_side(f, anchor, -1.0, "below"),
    ]
    return RectifierSum(constant=constant, rectifiers=tuple(rectifiers))


def _anchor(f: PiecewiseLinear) -> tuple[Array, Array]:
    """A place from which f is built to both sides, and the value there, [*p] each.

    Preferred are kinks at which f is zero, then zeros within a piece, then the kink of least |f|,
    and among equals those near zero.
    """
    edges = f.edges()
    kinks = f.kinks
    finite = np.isfinite(kinks)
    at = np.where(finite, kinks, 0)
    terms = f.slopes[1:] * at
    values = terms + f.intercepts[1:]
    size = np.maximum(np.abs(terms), np.abs(f.intercepts[1:]))
    values = np.where(np.abs(values) <= _ZERO * size, 0, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(f.slopes == 0, np.inf, -f.intercepts / f.slopes)
    inside = (crossings > edges[:-1]) & (crossings < edges[1:])
    # Where a channel has neither: f is constant there.
    rest = np.zeros((1, *f.slopes.shape[1:]))
    places = np.concatenate([at, np.where(inside, crossings, 0), rest])
    results = np.concatenate([values, np.zeros_like(crossings), f.intercepts[:1]])
    rank = np.concatenate(
        [
            np.where(finite, np.where(values == 0, 0.0, 2.0), np.inf),
            np.where(inside, 1.0, np.inf),
            np.full_like(rest, 3.0),
        ]
    )
    best = np.lexsort((np.abs(places), np.abs(results), rank), axis=0)[:1]
    return (
        np.take_along_axis(places, best, axis=0)[0] + 0.0,
        np.take_along_axis(results, best, axis=0)[0] + 0.0,
    )


def _on_side(f: PiecewiseLinear, anchor: Array, direction: float, side: str) -> Iterator[Rectifier]:
    """The rectifiers of the pieces on one side of the anchor, from it outwards."""
    # Distances from the anchor; kinks on the other side do not count.
    away = direction * (f.kinks - anchor)
    away = np.sort(np.where(away > 0, away, np.inf), axis=0)
    ends = np.concatenate([np.zeros((1, *anchor.shape)), away, np.full((1, *anchor.shape), np.inf)])
    for near, far in pairwise(ends):
        begun = np.isfinite(near)
        start = np.where(begun, near, 0)
        middle = np.where(np.isfinite(far), start + (far - start) / 2, start + 1 + np.abs(start))
        slope = f.pieces_at((anchor + direction * middle)[None])[0][0]
        width = np.where(begun, far - start, 0.0)
        slope = np.where(begun & (width > 0), slope, 0.0)
        if slope.any():
            edge = anchor + direction * start
            yield from _rectifiers(side, direction, edge, width, slope * direction)


def _rectifiers(
    side: str, direction: float, edge: Array, width: Array, factor: Array
) -> Iterator[Rectifier]:
    """factor * clip(direction * (x - edge), 0, width), where factor is not 0 everywhere."""
    used = factor != 0
    steep = np.abs(factor)
    sign = np.where(used, np.sign(factor), 1.0)
    if sign.min() == sign.max() or not used.all():
        sign = np.where(used, sign, sign[used].max())
    scale = direction * steep + 0.0
    shift = -scale * edge + 0.0
    bounded = used & np.isfinite(width)
    if not bounded.any():
        yield Rectifier(side=side, scale=scale, shift=shift, upper=None, factor=sign)
        return
    if not bounded[used].all():  # some channels have a bound, so it is a rectifier of its own
        yield Rectifier(side=side, scale=scale, shift=shift, upper=None, factor=sign)
        end = np.where(bounded, edge + direction * np.where(bounded, width, 0), 0)
        scale = np.where(bounded, scale, 0.0)
        yield Rectifier(side=side, scale=scale, shift=-scale * end + 0.0, upper=None, factor=-sign)
        return
    heights = (steep * np.where(bounded, width, 0))[bounded]
    upper = float(heights.flat[0])
    if np.allclose(heights, upper, rtol=1e-12, atol=0):
        yield Rectifier(side=side, scale=scale, shift=shift, upper=upper, factor=sign)
        return
    height = np.where(bounded, steep * np.where(bounded, width, 1), 1.0)
    yield Rectifier(
        side=side,
        scale=scale / height,
        shift=shift / height,
        upper=1.0,
        factor=np.where(used, sign * height, 0.0),
    )
