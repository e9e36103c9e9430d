"""Calibration samples from any source, in memory that does not grow with their number.

Calibration makes several passes over the same samples in the same order. Arrays are used in place;
everything else (a shuffling DataLoader, a generator) is written once to a temporary file.

The processes of a run share a pass (`map`): each runs its own batches and gets the results of all
batches in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import Dataset

from icsnn_deploy.distributed import SINGLE, Ranks, WorkResult
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.held import held
from icsnn_deploy.sources.selection import check_limit

CalibrationSource: TypeAlias = "Array | torch.Tensor | Dataset[Any] | Iterable[Any]"


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Samples [N, *shape] in a fixed order, and their labels [N, ...] where they are kept."""

    samples: Array
    ranks: Ranks = SINGLE
    labels: Array | None = None

    @classmethod
    def of(
        cls,
        source: CalibrationSource | CalibrationSet,
        *,
        limit: int | None = None,
        input_key: str | None = None,
        label_key: str | None = None,
        keep_labels: bool = False,
        progress: Progress = silent,
        ranks: Ranks = SINGLE,
        axis: int = 0,
    ) -> CalibrationSet:
        """Hold the samples of an array, a tensor, (X, y), a Dataset, a DataLoader, or batches.

        A batch is an array or tensor [B, *shape], a tuple or list whose first entry is one
        (a DataLoader's (images, labels)), or a dict with an entry `input_key` that is one. The
        items of a Dataset are such, without B. With axis 1, arrays and batches are spikes
        [T, B, *shape], and are held as [N, T, *shape]. Labels, of (X, y) or of batches, are kept
        if asked; they are None where the source has none.

        Raises:
            DataError: no samples, or batches of different shapes or types.
            RankError: the processes of the run have different samples.
        """
        check_limit(limit, "calibration samples")
        if isinstance(source, CalibrationSet):
            samples, labels = source.samples, source.labels if keep_labels else None
        else:
            samples, labels = held(
                source,
                "calibration data",
                limit=limit,
                mixed=True,  # samples are held out at the end of data sets that are sorted by class
                input_key=input_key,
                label_key=label_key,
                keep_labels=keep_labels,
                axis=axis,
                progress=progress,
            )
        if samples.ndim < 2 or len(samples) == 0:
            raise DataError(f"calibration data of shape {samples.shape}: [N, *shape] with N >= 1")
        found = cls(samples[:limit], ranks, None if labels is None else labels[:limit])
        ranks.require_equal("calibration samples", found.digest)
        return found

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> CalibrationSet:
        """Samples start to stop, without a copy."""
        labels = None if self.labels is None else self.labels[start:stop]
        return CalibrationSet(self.samples[start:stop], self.ranks, labels)

    def batches(self, size: int) -> Iterator[Array]:
        """Successive batches [<= size, *shape]."""
        for start in range(0, len(self.samples), size):
            yield np.asarray(self.samples[start : start + size])

    def map(self, size: int, work: Callable[[int, Array], WorkResult]) -> Iterator[WorkResult]:
        """Results of work(index of the first sample, batch) for successive batches, in order."""

        def one(number: int) -> WorkResult:
            start = number * size
            return work(start, np.asarray(self.samples[start : start + size]))

        return self.ranks.each(-(-len(self.samples) // size), one)

    def digest(self) -> str:
        """sha256 of the samples, and of the labels that are kept, as hex."""
        digest = hashlib.sha256(f"{self.samples.dtype} {self.samples.shape}".encode())
        for batch in self.batches(64):
            digest.update(np.ascontiguousarray(batch).tobytes())
        if self.labels is not None:
            digest.update(f"{self.labels.dtype} {self.labels.shape}".encode())
            digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()
