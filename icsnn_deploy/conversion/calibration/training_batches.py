"""The batches that a distillation learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.batches import Batch


class TrainingBatches(Protocol):
    """Gives batches by number."""

    size: int
    """Samples of a batch."""

    def batch(self, number: int) -> Batch:
        """Samples [size, *shape], as a calibration set holds them, and labels if they are kept."""


class FreshlyReadBatches:
    """Batches that a data set gives anew: the number of a batch makes no difference.

    Args:
        batches: endless, in the form that the data set gives them.
        taken: turns the samples of a batch into those of a calibration set.
        size: samples per batch.
    """

    def __init__(
        self, batches: Iterator[Batch], taken: Callable[[Array], Array], size: int
    ) -> None:
        self.batches = batches
        self.taken = taken
        self.size = size

    def batch(self, number: int) -> Batch:
        found = next(self.batches)
        return Batch(self.taken(found.samples), found.labels)


class DrawnBatches:
    """Batches of held samples in random order, every sample once before any comes again.

    Batch n is always the same, so that an interrupted training goes on as if it had not been.

    Args:
        context: the samples.
        size: samples per batch; fewer if there are fewer.
        augmentation: how the samples are varied.
        seed: of the order and of the variations.
    """

    def __init__(
        self, context: CalibrationContext, size: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.context = context
        self.size = min(size, len(context))
        self.augmentation = augmentation
        self.seed = seed
        self._round = -1
        self._order = np.zeros(0, np.int64)

    def batch(self, number: int) -> Batch:
        per_round = len(self.context) // self.size
        turn, place = divmod(number, per_round)
        if turn != self._round:
            generator = np.random.default_rng((self.seed, 0, turn))
            self._round, self._order = turn, generator.permutation(len(self.context))
        rows = np.sort(self._order[place * self.size : (place + 1) * self.size])
        samples = np.asarray(self.context.samples.samples[rows])
        varied = self.augmentation.vary(samples, np.random.default_rng((self.seed, 1, number)))
        labels = self.context.samples.labels
        return Batch(varied, None if labels is None else np.asarray(labels[rows]))
