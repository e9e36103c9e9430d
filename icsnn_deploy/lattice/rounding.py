"""Round a weight matrix to integers so that its products change least.

Column by column; what one column's rounding does to the output, the columns not rounded yet make
good as far as their inputs are correlated with its (Frantar & Alistarh, Optimal Brain Compression,
2022; the order and the Cholesky form are those of GPTQ, 2023).
"""

from __future__ import annotations

import numpy as np
import torch

from icsnn_deploy.graph.neuron import Array

_CLIPS = np.linspace(0.5, 1.0, 21)
_CHUNK = 1 << 18  # weights at a time: what stays in a processor's cache
_DAMPING = 0.01
_BLOCK = 128  # columns between which errors are handed on one by one


def best_scales(weight: Array, energy: Array, largest: int) -> Array:
    """Scale of each row with the least energy-weighted error of plain rounding.

    Args:
        weight: [O, K], float64.
        energy: mean square of each input, [O, K] or [1, K].
        largest: largest integer magnitude.

    Returns:
        one scale a row, [O]; 0 for a row of zeros.
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
    upper = _upper_factor_of_inverse(damped)
    left = np.ascontiguousarray(target[:, order].T)  # [K, O]: a column of weights in one piece
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
    """Upper triangular U with U^T U the inverse: row k holds what column k hands on to later ones.

    With the order reversed the matrix is M M^T, M lower triangular; U is M's inverse, reversed.
    """
    lower = torch.linalg.cholesky(torch.from_numpy(matrix[::-1, ::-1].copy()))
    one = torch.eye(len(matrix), dtype=lower.dtype)
    inverse: Array = torch.linalg.solve_triangular(lower, one, upper=False).numpy()
    return inverse[::-1, ::-1]
