"""Train with labels: cross entropy, and the divergence from the ANN beside it.

    loss = share * cross_entropy(labels, logits) + (1 - share) * KL(ANN || network)

The cross entropy is the loss of HybridTrain (Rathi et al. 2020); the mixture with the outputs of a
teacher is that of Hinton et al. 2015. Candidates are compared by the same loss.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.conversion.calibration.objective import Objective, Score
from icsnn_deploy.data import check_labels
from icsnn_deploy.errors import ConversionError, DataError
from icsnn_deploy.graph.arrangement import output_parts, output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


class LabelObjective(Objective):
    """Compares logits with labels, and with those of the ANN on the same samples.

    Args:
        graph: the ANN; its only output is one class per sample.
        logits: of the ANN, [N, *output shape].
        labels: class indices of the same samples, [N].
        share: of the cross entropy in the loss, 0 to 1.
    """

    def __init__(self, graph: Graph, logits: Array, *, labels: Array | None, share: float) -> None:
        super().__init__(graph, logits)
        self.share = share
        self.labels = labels
        self.classes = class_count(graph)

    def score(self, logits: Array) -> Score:
        """The score of logits [N, *output shape], with the loss that is minimized."""
        found = super().score(logits)
        doubles = torch.from_numpy(logits).double()
        entropies = self._cross_entropy(doubles, self.labels, reduction="none").numpy()
        each = self.share * entropies + (1 - self.share) * found.by_sample
        return found._replace(loss=float(each.mean()), by_sample=each)

    def loss(
        self,
        wanted: Tensor,
        found: Tensor,
        labels: Array | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """The loss of logits, [B, *output shape] both; differentiable.

        Raises:
            DataError: samples without labels, or labels that are not classes of the network.
        """
        entropy = self._cross_entropy(found, labels)
        divergence = super().loss(wanted, found, temperature=temperature)
        return self.share * entropy + (1 - self.share) * divergence

    def _cross_entropy(
        self, logits: Tensor, labels: Array | None, reduction: str = "mean"
    ) -> Tensor:
        if labels is None:
            raise DataError("a calibration batch has no labels; each batch must have its own")
        classes = check_labels(np.asarray(labels), len(logits), classes=self.classes)
        ((_, rows),) = self._split(logits)
        target = torch.from_numpy(classes).to(logits.device)
        return functional.cross_entropy(rows.flatten(1), target, reduction=reduction)


def class_count(graph: Graph) -> int:
    """Number of classes of a network whose only output is one class per sample.

    Raises:
        ConversionError: other outputs; names them and their tasks.
    """
    tasks = output_tasks(graph)
    if list(tasks.values()) != ["classification"]:
        found = ", ".join(f"{name} ({task})" for name, task in tasks.items())
        raise ConversionError(
            f"outputs {found}: training with labels needs one output, a classification of two or "
            "more classes; declare it with task (--task classification) if it is one, otherwise "
            "choose the recipe auto, which needs no labels"
        )
    return int(np.prod(output_parts(graph)[0].shape))


def require_labels(recipe: str, graph: Graph, labels: Array | None, count: int) -> Array:
    """The labels of all calibration samples, int64 [N].

    Args:
        recipe: its name, for the message.
        graph: the ANN.
        labels: as they came with the samples.
        count: number of samples.

    Raises:
        ConversionError: an output that is no classification.
        DataError: no labels, another number of them, or labels that are not classes of the network.
    """
    classes = class_count(graph)
    if labels is None:
        raise DataError(
            f"recipe {recipe}: calibration data without labels; give (X, y), or a DataLoader or "
            "Dataset of pairs (--calibration-labels), or choose the recipe auto"
        )
    return check_labels(labels, count, classes=classes, samples=count)
