"""Round a weight matrix to integers so that its products change least.

Column by column; what one column's rounding does to the output, the columns not rounded yet make
good as far as their inputs are correlated with its (Frantar & Alistarh, Optimal Brain Compression,
2022; the order and the Cholesky form are those of GPTQ, 2023).
"""

from __future__ import annotations

import numpy as np

from icsnn_deploy.neuron import Array

_CLIPS = np.linspace(0.5, 1.0, 21)
_DAMPING = 0.01


def best_scales(weight: Array, energy: Array, largest: int) -> Array:
    """Scale of each row with the least energy-weighted error of plain rounding.

    Args:
        weight: [O, K], float64.
        energy: mean square of each input, [K].
        largest: largest integer magnitude.

    Returns:
        one scale a row, [O]; 0 for a row of zeros.
    """
    peak = np.abs(weight).max(axis=1)
    best, found = np.full(len(weight), np.inf), peak / largest
    for clip in _CLIPS[::-1]:
        scale = peak * clip / largest
        safe = np.where(scale > 0, scale, 1.0)[:, None]
        rounded = np.clip(np.round(weight / safe), -largest, largest) * safe
        error = ((rounded - weight) ** 2 * energy).sum(axis=1)
        better = error < best
        best, found = np.where(better, error, best), np.where(better, scale, found)
    return np.asarray(found)


def round_weights(weight: Array, scale: Array, moment: Array | None, largest: int) -> Array:
    """Integers [O, K] whose product with the inputs is nearest to that of the weights.

    Args:
        weight: [O, K], float64.
        scale: value of one integer step in each row, [O], > 0.
        moment: second moment of the inputs, [K, K]; None rounds each weight by itself.
        largest: largest integer magnitude.
    """
    target = weight / scale[:, None]
    if moment is None:
        return _nearest(target, largest)
    used = np.diag(moment) > 0
    integers = _nearest(target, largest)  # inputs that never come keep plain rounding
    if used.any():
        part = moment[np.ix_(used, used)]
        integers[:, used] = _round_correlated(target[:, used], part, largest)
    return integers


def _nearest(target: Array, largest: int) -> Array:
    return np.clip(np.round(target), -largest, largest).astype(np.int64)


def _round_correlated(target: Array, moment: Array, largest: int) -> Array:
    order = np.argsort(-np.diag(moment), kind="stable")  # what matters most has most to lean on
    damped = moment[np.ix_(order, order)].copy()
    damped[np.diag_indices_from(damped)] += _DAMPING * np.mean(np.diag(moment))
    # Upper Cholesky factor of the inverse: row k holds what column k hands on to later ones.
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = target[:, order].copy()
    integers = np.empty(left.shape, np.int64)
    for k in range(left.shape[1]):
        integers[:, k] = _nearest(left[:, k], largest)
        error = (left[:, k] - integers[:, k]) / upper[k, k]
        left[:, k + 1 :] -= error[:, None] * upper[k, k + 1 :]
    result = np.empty_like(integers)
    result[:, order] = integers
    return result
