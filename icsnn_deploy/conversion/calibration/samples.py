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

from icsnn_deploy.distributed import SINGLE, Ranks, WorkResult
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.batches import Batch, as_array, split_batch, spool
from icsnn_deploy.sources.data_sets import as_pair, batches_of, gives_items, is_data_set
from icsnn_deploy.sources.selection import Selection

CalibrationSource: TypeAlias = "Array | torch.Tensor | Iterable[Any]"


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Samples [N, *shape] in a fixed order."""

    samples: Array
    ranks: Ranks = SINGLE

    @classmethod
    def of(
        cls,
        source: CalibrationSource | CalibrationSet,
        *,
        limit: int | None = None,
        input_key: str | None = None,
        progress: Progress = silent,
        ranks: Ranks = SINGLE,
        axis: int = 0,
    ) -> CalibrationSet:
        """Hold the samples of an array, a tensor, (X, y), a Dataset, a DataLoader, or batches.

        A batch is an array or tensor [B, *shape], a tuple or list whose first entry is one
        (a DataLoader's (images, labels)), or a dict with an entry `input_key` that is one. The
        items of a Dataset are such, without B. With axis 1, arrays and batches are spikes
        [T, B, *shape], and are held as [N, T, *shape].

        Raises:
            DataError: no samples, or batches of different shapes or types.
            RankError: the processes of the run have different samples.
        """
        if limit is not None and limit < 1:
            raise DataError(f"a limit of {limit} calibration samples: at least 1 is needed")
        if isinstance(source, CalibrationSet):
            samples = source.samples
        else:
            samples = _held(source, input_key, limit, progress, axis)
        if samples.ndim < 2 or len(samples) == 0:
            raise DataError(f"calibration data of shape {samples.shape}: [N, *shape] with N >= 1")
        found = cls(samples[:limit], ranks)
        ranks.require_equal("calibration samples", found.digest)
        return found

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> CalibrationSet:
        """Samples start to stop, without a copy."""
        return CalibrationSet(self.samples[start:stop], self.ranks)

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
        """sha256 of the samples, as hex."""
        digest = hashlib.sha256(f"{self.samples.dtype} {self.samples.shape}".encode())
        for batch in self.batches(64):
            digest.update(np.ascontiguousarray(batch).tobytes())
        return digest.hexdigest()


def _held(
    source: Any, input_key: str | None, limit: int | None, progress: Progress, axis: int
) -> Array:
    """The samples of an array where they are, and those of everything else in a file."""
    what = "a calibration batch"
    pair = as_pair(source, "calibration data")
    if pair is not None:
        array = as_array(split_batch(pair.samples, what, input_key=input_key).samples, what)
        return _batch_first(array, axis)
    items = is_data_set(source)
    if items:
        data_set = source
        # mixed, because samples are held out at the end of data sets that are sorted by class
        source = (
            data_set[number] for number in Selection(limit, mixed=True).numbers(len(data_set))
        )
    if not isinstance(source, Iterable):
        raise DataError(
            f"calibration data of type {type(source).__name__}: an array, a DataLoader or an "
            "iterable of batches is needed"
        )
    items = items or gives_items(source)
    batches = batches_of(source, what, items=items, input_key=input_key)
    if axis and not items:
        batches = (Batch(_batch_first(as_array(one.samples, what), axis)) for one in batches)
    stage = "reading calibration data"
    return spool(batches, what, limit=limit, progress=progress, stage=stage)[0]


def _batch_first(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0) if axis < array.ndim else array
