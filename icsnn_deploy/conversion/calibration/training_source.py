"""Where a distillation gets its batches: from the samples that are held, or from a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.training_batches import (
    DrawnBatches,
    FreshlyReadBatches,
    TrainingBatches,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.fresh_batches import FreshBatches


class TrainingSource(Protocol):
    """Gives batches to learn from."""

    def batches(self, size: int, augmentation: Augmentation | None, seed: int) -> TrainingBatches:
        """Batches of at most `size` samples, varied as given; None: as it suits the source."""


@dataclass(frozen=True)
class HeldSamples:
    """Samples that are held.

    Args:
        context: the samples.
        image_shape: of samples that are single images [C, H, W]; () of others.
    """

    context: CalibrationContext
    image_shape: tuple[int, ...] = ()

    def batches(self, size: int, augmentation: Augmentation | None, seed: int) -> TrainingBatches:
        """Samples in random order; single images are shifted and flipped by default."""
        suited = Augmentation.suited_to(self.image_shape)
        return DrawnBatches(
            self.context, size, suited if augmentation is None else augmentation, seed
        )


@dataclass(frozen=True)
class FreshSamples:
    """Samples that a data set gives anew in every round.

    Args:
        source: the data set.
        numbers: of the items that are learned from.
        taken: turns the samples of a batch into those of a calibration set.
    """

    source: FreshBatches
    numbers: Sequence[int]
    taken: Callable[[Array], Array]

    def batches(self, size: int, augmentation: Augmentation | None, seed: int) -> TrainingBatches:
        """Batches as the data set gives them, by its own transforms; varied only if asked."""
        generator = np.random.default_rng(seed)

        def varied(batch: Array) -> Array:
            samples = self.taken(batch)
            return samples if augmentation is None else augmentation.vary(samples, generator)

        size = min(size, len(self.numbers))
        return FreshlyReadBatches(self.source.endless(self.numbers, size, seed), varied, size)
