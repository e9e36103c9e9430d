"""Fit a product of two tensors by functions of their sum and of their difference.

    x g = m_x m_g + m_g d_x p + m_x d_g q + d_x d_g p q    p = (x - m_x) / d_x, q = (g - m_g) / d_g
    4 p q = (p + q)^2 - (p - q)^2

with mean m and deviation d of each channel. What is linear in x and in g is linear in the sum and
the difference, so that only what both vary together is approximated: of a gate that is nearly
constant, nearly nothing. The squares are balanced, since p and q have the same deviation. Each
becomes a function with K knots: the knots are those of a fit of the square, and the heights, with a
linear part, are fitted to p q. The functions of all channels share knots, not slopes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.approximate.knots import Knots, fit_knots
from icsnn_deploy.graph.neuron import Array

_LEAST_DEVIATION = 1e-3  # of the mean deviation of all channels
_LEAST_OF_RANGE = 1 / 8
_RIDGE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductFit:
    """x g = sum_of(u) + difference_of(v)

        u = x / d_x + g / d_g - sum_shift          v = x / d_x - g / d_g - difference_shift

    Attributes:
        scale_x, scale_g: 1 / d_x and 1 / d_g, [1, C, 1, ...] or [1, 1, 1, ...].
        sum_shift, difference_shift: the same.
        sum_of, difference_of: functions with slopes and values per channel.
    """

    scale_x: torch.Tensor
    scale_g: torch.Tensor
    sum_shift: torch.Tensor
    difference_shift: torch.Tensor
    sum_of: Knots
    difference_of: Knots


def fit_product(
    x: torch.Tensor, g: torch.Tensor, knots: int, choice: torch.Generator
) -> ProductFit:
    """The fit of x * g.

    Args:
        x, g: [N, C, ...], broadcast against each other.
        knots: K of each of both functions.
        choice: of the values that are fitted to.

    Raises:
        FloatingPointError: a factor is not finite.
    """
    if not (torch.isfinite(x).all() and torch.isfinite(g).all()):
        raise FloatingPointError("a factor is not finite on the samples")
    (mean_x, deviation_x), (mean_g, deviation_g) = _moments(x), _moments(g)
    p = (x.double() - mean_x) / deviation_x
    q = (g.double() - mean_g) / deviation_g
    shape = (p + q).shape
    p, q = p.expand(shape), q.expand(shape)
    p, q = chosen_values(p, choice), chosen_values(q, choice)
    weight = chosen_values((deviation_x * deviation_g).expand(shape), choice)
    sum_knots, difference_knots = (
        fit_knots(np.square, values.numpy(), knots).places for values in (p + q, p - q)
    )
    linear, bends = _heights(p.numpy(), q.numpy(), weight.numpy(), sum_knots, difference_knots)
    height = deviation_x * deviation_g
    # m_g x + m_x g = m_g d_x p + m_x d_g q + ..., and p = (u + v) / 2, q = (u - v) / 2
    slope_p = mean_g * deviation_x + height * linear[1]
    slope_q = mean_x * deviation_g + height * linear[2]
    sum_of = _per_channel(sum_knots, bends[:knots], height, (slope_p + slope_q) / 2)
    difference_of = _per_channel(difference_knots, bends[knots:], height, (slope_p - slope_q) / 2)
    constant = (mean_x * mean_g + height * linear[0])[0].numpy()
    scaled_x, scaled_g = mean_x / deviation_x, mean_g / deviation_g
    return ProductFit(
        scale_x=(1 / deviation_x).float(),
        scale_g=(1 / deviation_g).float(),
        sum_shift=(scaled_x + scaled_g).float(),
        difference_shift=(scaled_x - scaled_g).float(),
        **_shared(constant, sum_of, difference_of),
    )


def _per_channel(places: Array, bends: Array, height: torch.Tensor, slope: torch.Tensor) -> Knots:
    """height * sum_k bends[k] relu(u - places[k]) + slope * u, of each channel."""
    scale, line = height[0].numpy(), slope[0].numpy()
    summed = np.concatenate([[0.0], np.cumsum(bends)])
    slopes = np.stack([scale * one + line for one in summed])
    return Knots(places=places, slopes=slopes, value=line * places[0])


def _shared(constant: Array, first: Knots, second: Knots) -> dict[str, Knots]:
    """Both functions, with the constant in them so that the first has a zero in each channel.

    A function without a zero leaves a constant, which can't be moved past zero padding.
    """
    raised = first.value + constant + first.rises()  # at the knots, [K, C, ...]
    excess = np.maximum(raised.min(axis=0), 0)
    return {
        "sum_of": replace(first, value=first.value + constant - excess),
        "difference_of": replace(second, value=second.value + excess),
    }


def chosen_values(values: torch.Tensor, choice: torch.Generator, most: int = 2**16) -> torch.Tensor:
    """At most `most` of the values, the same of every tensor of that size."""
    flat = values.reshape(-1)
    if len(flat) <= most:
        return flat
    state = choice.get_state()
    index = torch.randint(len(flat), (most,), generator=choice)
    choice.set_state(state)
    return flat[index]


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation per channel, [1, C, 1, ...].

    Of a channel that rarely leaves one value the deviation is a share of its range, so that those
    rare values are not far from all others.
    """
    x = x.double()
    axes = [axis for axis in range(x.dim()) if axis != 1]
    deviation = x.std(axes, unbiased=False, keepdim=True)
    room = x.amax(axes, keepdim=True) - x.amin(axes, keepdim=True)
    deviation = torch.maximum(deviation, room * _LEAST_OF_RANGE)
    least = _LEAST_DEVIATION * float(deviation.mean())
    return x.mean(axes, keepdim=True), deviation.clamp(min=least if least > 0 else 1.0)


def _heights(
    p: Array, q: Array, weight: Array, sum_knots: Array, difference_knots: Array
) -> tuple[Array, Array]:
    """The linear part [3] and the bends at the knots [2 K] that fit p q best."""
    columns = [np.ones_like(p), p, q]
    columns += [np.maximum(p + q - place, 0) for place in sum_knots]
    columns += [np.maximum(p - q - place, 0) for place in difference_knots]
    matrix = np.stack(columns, axis=1) * weight[:, None]
    target = p * q * weight
    scale = np.sqrt((matrix**2).mean(axis=0)) + 1e-12
    matrix = matrix / scale
    normal = matrix.T @ matrix / len(p) + _RIDGE * np.eye(len(columns))
    solution = np.linalg.solve(normal, matrix.T @ target / len(p)) / scale
    return solution[:3], solution[3:]
