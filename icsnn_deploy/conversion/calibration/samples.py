"""Calibration samples from any source, in memory that does not grow with their number.

Calibration makes several passes over the same samples in the same order. Arrays are used in place;
everything else (a shuffling DataLoader, a generator) is written once to a temporary file.

The processes of a run share a pass (`map`): each runs its own batches and gets the results of all
batches in order.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from icsnn_deploy.distributed import SINGLE, Ranks, WorkResult
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent

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
        progress: Progress = silent,
        ranks: Ranks = SINGLE,
    ) -> CalibrationSet:
        """Hold the samples of an array, a tensor, a DataLoader, or an iterable of batches.

        A batch is an array or tensor [B, *shape], or a tuple or list whose first entry is one
        (a DataLoader's (images, labels)).

        Raises:
            DataError: no samples, or batches of different shapes or types.
            RankError: the processes of the run have different samples.
        """
        if limit is not None and limit < 1:
            raise DataError(f"a limit of {limit} calibration samples: at least 1 is needed")
        if isinstance(source, CalibrationSet):
            samples = source.samples
        elif isinstance(source, (np.ndarray, torch.Tensor)):
            samples = _array(source)
        elif isinstance(source, Iterable):
            samples = _spool(source, limit, progress)
        else:
            raise DataError(
                f"calibration data of type {type(source).__name__}: an array, a DataLoader or an "
                "iterable of batches is needed"
            )
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


def _array(batch: Any) -> Array:
    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, torch.Tensor):
        tensor = batch.detach().cpu()
        # NumPy has no bfloat16.
        array: Array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    elif isinstance(batch, np.ndarray):
        array = batch
    else:
        raise DataError(f"a calibration batch of type {type(batch).__name__}: array or tensor")
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise DataError(
            f"a calibration batch of type {array.dtype} and shape {array.shape}: "
            "real numbers [B, *shape] are needed"
        )
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _spool(source: Iterable[Any], limit: int | None, progress: Progress) -> Array:
    """Write the batches to an unnamed temporary file, in order, and map it."""
    count, first = 0, None
    with tempfile.TemporaryFile() as file:
        for batch in source:
            array = _array(batch)
            if limit is not None:
                array = array[: limit - count]
            if first is None:
                first = array
            elif array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise DataError(
                    f"a calibration batch {array.dtype} {list(array.shape)} after "
                    f"{first.dtype} {list(first.shape)}: all batches must be of one kind"
                )
            file.write(np.ascontiguousarray(array).tobytes())
            count += len(array)
            progress("reading calibration data", count, limit)
            if limit is not None and count >= limit:
                break
        if first is None or count == 0:
            raise DataError("the calibration data holds no samples")
        file.flush()
        # The mapping keeps the file alive after it is closed.
        return np.memmap(file, first.dtype, "r", shape=(count, *first.shape[1:]))
