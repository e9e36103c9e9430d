"""Round a weight matrix to integers so that its products with the inputs change least.

Column by column: the columns that are not rounded yet compensate the error of the rounded column,
as far as their inputs are correlated with its input (Frantar & Alistarh, Optimal Brain Compression,
2022; order and Cholesky form as in GPTQ, 2023).
"""

from __future__ import annotations

import numpy as np
import torch

from icsnn_deploy.graph.neuron import Array

_CLIPS = np.linspace(0.5, 1.0, 21)
_CHUNK = 1 << 18  # weights at a time, so that they stay in the processor's cache
_DAMPING = 0.01
_BLOCK = 128  # columns within which errors are passed on one by one


def best_scales(weight: Array, energy: Array, largest: int) -> Array:
    """Scale of each row with the least energy-weighted error of plain rounding.

    Args:
        weight: [O, K], float64.
        energy: mean square of each input, [O, K] or [1, K].
        largest: largest integer magnitude.

    Returns:
        one scale per row, [O]; 0 for a row of zeros.
    """
    rows = max(1, _CHUNK // weight.shape[1])
    parts = []
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        parts.append(_best_of(weight[part], energy if len(energy) == 1 else energy[part], largest))
    return np.concatenate(parts)


def _best_of(weight: Array, energy: Array, largest: int) -> Array:
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
    """Integers [O, K] whose product with the inputs is close to that of the weights.

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
    integers = _nearest(target, largest)  # inputs that are always zero keep plain rounding
    if used.any():
        part = moment[np.ix_(used, used)]
        integers[:, used] = _round_correlated(target[:, used], part, largest)
    return integers


def _nearest(target: Array, largest: int) -> Array:
    return np.clip(np.round(target), -largest, largest).astype(np.int64)


def _round_correlated(target: Array, moment: Array, largest: int) -> Array:
    order = np.argsort(
        -np.diag(moment), kind="stable"
    )  # the strongest inputs first: most columns are left to compensate
    damped = moment[np.ix_(order, order)].copy()
    damped[np.diag_indices_from(damped)] += _DAMPING * np.mean(np.diag(moment))
    upper = _upper_factor_of_inverse(damped)
    left = np.ascontiguousarray(target[:, order].T)  # [K, O]: columns of weights are contiguous
    integers = np.empty(left.shape, np.int64)
    for begin in range(0, len(left), _BLOCK):
        end = min(begin + _BLOCK, len(left))
        errors = np.empty((end - begin, left.shape[1]))
        for k in range(begin, end):
            integers[k] = _nearest(left[k], largest)
            errors[k - begin] = (left[k] - integers[k]) / upper[k, k]
            left[k + 1 : end] -= upper[k, k + 1 : end, None] * errors[k - begin]
        left[end:] -= upper[begin:end, end:].T @ errors
    result = np.empty_like(integers.T)
    result[:, order] = integers.T
    return result


def _upper_factor_of_inverse(matrix: Array) -> Array:
    """Upper triangular U with U^T U the inverse: row k holds what column k passes on to later ones.

    With the order reversed the matrix is M M^T, M lower triangular; U is M's inverse, reversed.
    """
    lower = torch.linalg.cholesky(torch.from_numpy(matrix[::-1, ::-1].copy()))
    one = torch.eye(len(matrix), dtype=lower.dtype)
    inverse: Array = torch.linalg.solve_triangular(lower, one, upper=False).numpy()
    return inverse[::-1, ::-1]
