"""How far the outputs of a network are from those of the ANN, by what each output is.

    classification, binary, segmentation   KL(ANN || network), nats: mean over samples, positions
    regression, detection                  mean squared difference / spread^2 of the ANN's values

The divergence of a network with several outputs is the sum of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.conversion.report import OutputScore
from icsnn_deploy.graph.arrangement import output_parts, output_tasks, split_outputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import (
    agreement,
    binary_scores,
    kl_divergences,
    torch_kl_divergence,
)
from icsnn_deploy.graph.spread import relative_squared_errors, spread_of
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task


class Score(NamedTuple):
    """The score of a network.

    Attributes:
        agreement: mean over the outputs that are classes; None if there are none.
        divergence: sum over the outputs.
        outputs: by name.
        by_sample: what is minimized, of each sample, [N].
        loss: what is minimized, where that is not the divergence.
    """

    agreement: float | None
    divergence: float
    outputs: dict[str, OutputScore]
    by_sample: Array
    loss: float | None = None


class Objective:
    """Compares logits with those of the ANN on the same samples.

    Args:
        graph: the ANN, for the names, the arrangement and the tasks of its outputs.
        logits: of the ANN, [N, *output shape].

    Attributes:
        tasks: by name of the output.
        spread: of the ANN's values, by name of the outputs that are numbers.
    """

    def __init__(self, graph: Graph, logits: Array) -> None:
        self.graph = graph
        self.tasks: dict[str, Task] = output_tasks(graph)
        self.wanted = split_outputs(graph, logits)
        self.spread = {
            name: spread_of(self.wanted[name])
            for name, task in self.tasks.items()
            if task not in CLASS_TASKS
        }
        index = graph.output.index
        self._index = None if index is None else torch.from_numpy(index.astype(np.int64))

    def score(self, logits: Array) -> Score:
        """The score of logits [N, *output shape], in units of the ANN's."""
        found = split_outputs(self.graph, logits)
        scores = {name: self._score(name, found[name]) for name in self.tasks}
        return _joined(
            {name: score for name, (score, _) in scores.items()},
            np.sum([each for _, each in scores.values()], axis=0),
        )

    def _score(self, name: str, found: Array) -> tuple[OutputScore, Array]:
        """The score of one output, and its divergence for each sample [N]."""
        wanted, task = self.wanted[name], self.tasks[name]
        if name in self.spread:
            each = relative_squared_errors(wanted, found, self.spread[name])
            return OutputScore(task=task, agreement=None, divergence=float(each.mean())), each
        if task == "binary":
            wanted, found = binary_scores(wanted), binary_scores(found)
        each = kl_divergences(wanted, found)
        share = agreement(wanted, found)
        return OutputScore(task=task, agreement=share, divergence=float(each.mean())), each

    def loss(
        self,
        wanted: Tensor,
        found: Tensor,
        labels: Array | None = None,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """The divergence of logits from those of the ANN, both [B, *output shape]; differentiable.

        Of outputs that are classes, with both logits divided by a temperature and the divergence
        multiplied by its square (Hinton et al. 2015): the higher it is, the more the classes take
        part that the ANN does not choose.

        Args:
            wanted: of the ANN, on any samples.
            found: of the network, on the same.
            labels: of the samples, where they are kept; they play no part here.
            temperature: of outputs that are classes.
        """
        return torch.stack(
            [
                self._loss(name, expected, got, temperature)
                for (name, expected), (_, got) in zip(
                    self._split(wanted), self._split(found), strict=True
                )
            ]
        ).sum()

    def _loss(self, name: str, wanted: Tensor, found: Tensor, temperature: float) -> Tensor:
        if name in self.spread:
            return ((found - wanted) / self.spread[name]).square().mean()
        if self.tasks[name] == "binary":
            # One decision keeps the layout of a single logit, as binary_scores does.
            shape = (len(wanted), 1, *(() if wanted[0].numel() == 1 else (-1,)))
            wanted, found = wanted.reshape(shape), found.reshape(shape)
        return torch_kl_divergence(wanted / temperature, found / temperature) * temperature**2

    def _split(self, logits: Tensor) -> Iterator[tuple[str, Tensor]]:
        """split_outputs of a tensor."""
        flat = logits.flatten(1)
        if self._index is not None:
            flat = flat[:, self._index.to(logits.device)]
        begin = 0
        for part in output_parts(self.graph):
            end = begin + math.prod(part.shape)
            yield part.name, flat[:, begin:end].reshape(len(logits), *part.shape)
            begin = end


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of scores of the same outputs."""
    outputs = {}
    for name, first in scores[0].outputs.items():
        each = [score.outputs[name] for score in scores]
        rows = np.array([(one.agreement, one.divergence) for one in each], np.float64)
        share, divergence = map(float, np.mean(rows, axis=0))  # NaN where there is no share
        outputs[name] = replace(
            first, agreement=None if first.agreement is None else share, divergence=divergence
        )
    losses = [score.loss for score in scores if score.loss is not None]
    by_sample = np.mean([score.by_sample for score in scores], axis=0)
    return _joined(outputs, by_sample)._replace(loss=sum(losses) / len(losses) if losses else None)


def _joined(outputs: dict[str, OutputScore], by_sample: Array) -> Score:
    shares = [score.agreement for score in outputs.values() if score.agreement is not None]
    divergences = [score.divergence for score in outputs.values()]
    return Score(
        sum(shares) / len(shares) if shares else None,
        divergences[0] if len(divergences) == 1 else sum(divergences),
        outputs,
        by_sample,
    )
