"""What logits mean as classes: the one rule that verification, evaluation and calibration share.

    several logits:  P(c) = softmax(logits)_c
    a single logit:  P(1) = sigmoid(logit) = softmax([0, logit])_1, so class 1 iff logit > 0

Of equal scores the lower class comes first. Classes lie on axis 1. Further axes are positions: the
probabilities are taken at each of them, while a label names one value of the whole output.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    from torch import Tensor

    from icsnn_deploy.graph.tasks import Task


def class_scores(logits: Array) -> Array:
    """Scores of at least two classes, [B, classes, *positions], from logits of that layout."""
    if logits.shape[1] != 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)


def binary_scores(logits: Array) -> Array:
    """Logits of decisions [B, ...] as single logits, [B, 1] or with positions [B, 1, decisions]."""
    decisions = math.prod(logits.shape[1:])
    return logits.reshape((len(logits), 1) if decisions == 1 else (len(logits), 1, decisions))


def label_scores(logits: Array) -> Array:
    """Scores of everything that a label may name, [B, ...] -> [B, classes]."""
    return class_scores(logits.reshape(len(logits), math.prod(logits.shape[1:])))


def top1(logits: Array) -> Array:
    """Predicted label of each sample, [B, ...] -> [B]."""
    best: Array = label_scores(logits).argmax(axis=1)
    return best


def decided_classes(task: Task, logits: Array) -> Array:
    """The class of each decision of a task of CLASS_TASKS.

    Args:
        task: classification, binary or segmentation.
        logits: [B, *output shape].

    Returns:
        Class indices, int64: of classification [B], of binary [B, *output shape], of segmentation
        [B, *positions].
    """
    if task == "classification":
        return top1(logits)
    if task == "binary":
        decided: Array = (logits > 0).astype(np.int64)
        return decided
    classes: Array = class_scores(logits).argmax(axis=1)
    return classes


def agreement(expected: Array, found: Array) -> float:
    """Fraction of samples (and positions) with the same most probable class."""
    same = class_scores(found).argmax(axis=1) == class_scores(expected).argmax(axis=1)
    return float(same.mean())


def kl_divergences(expected: Array, found: Array) -> Array:
    """KL(P_expected || P_found) of each sample [B], in nats; with positions, the mean over them."""
    wanted, got = _log_softmax(class_scores(expected)), _log_softmax(class_scores(found))
    each = (np.exp(wanted) * (wanted - got)).sum(axis=1)  # [B, *positions]
    result: Array = each.reshape(len(each), -1).mean(axis=1)
    return result


def kl_divergence(expected: Array, found: Array) -> float:
    """Mean over samples of KL(P_expected || P_found), in nats."""
    return float(kl_divergences(expected, found).mean())


def torch_class_scores(logits: Tensor) -> Tensor:
    """class_scores of a tensor, differentiable."""
    if logits.shape[1] != 1:
        return logits
    import torch

    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def torch_kl_divergence(expected: Tensor, found: Tensor) -> Tensor:
    """kl_divergence of tensors, differentiable."""
    from torch.nn import functional

    wanted, got = (torch_class_scores(x).log_softmax(dim=1) for x in (expected, found))
    each = functional.kl_div(got, wanted, reduction="none", log_target=True)
    return each.sum(dim=1).mean()


def _log_softmax(scores: Array) -> Array:
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
