"""The calibration context: the samples, and how passes over them are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import SINGLE, Ranks, WorkResult
from icsnn_deploy.graph.arrangement import as_taken
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.pixels import as_network_samples
from icsnn_deploy.progress import Progress, silent, tracked


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationContext:
    """What every calibration step needs besides the networks, passed as one object.

    Args:
        samples: the calibration samples; they know the processes that share the passes.
        batch_size: samples run at once.
        device: torch device.
        progress: called as each stage advances.
    """

    samples: CalibrationSet
    batch_size: int
    device: str = "cpu"
    progress: Progress = silent

    @classmethod
    def of(
        cls,
        source: CalibrationSource | CalibrationSet,
        *,
        batch_size: int,
        input_key: str | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        ranks: Ranks = SINGLE,
    ) -> CalibrationContext:
        """The context of an array, a DataLoader or an iterable of batches (see CalibrationSet.of).

        Raises:
            DataError: no samples, or batches of different shapes or types.
            RankError: the processes of the run have different samples.
        """
        samples = CalibrationSet.of(source, input_key=input_key, progress=progress, ranks=ranks)
        return cls(samples=samples, batch_size=batch_size, device=device, progress=progress)

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> CalibrationContext:
        """The same context on samples start to stop, without a copy."""
        return replace(self, samples=self.samples.part(start, stop))

    def split(self, held_out: float) -> tuple[CalibrationContext, CalibrationContext]:
        """(samples to fit on, held-out samples at the end); both overlap where there is only one.

        Args:
            held_out: share of the samples that is held out, 0 to 1; at least one sample is.
        """
        count = max(1, round(len(self) * held_out))
        fit = self.part(0, max(1, len(self) - count))
        return fit, self.part(len(self) - count, len(self))

    def map(
        self, work: Callable[[int, Array], WorkResult], *, stage: str | None = None
    ) -> Iterator[WorkResult]:
        """Results of work(index of the first sample, batch) for successive batches, in order.

        Args:
            work: called once for each batch [<= batch_size, *shape], in one of the processes.
            stage: name under which progress is reported; None reports none.
        """
        results = self.samples.map(self.batch_size, work)
        if stage is None:
            return results
        return tracked(results, stage, self.batch_count, self.progress)

    @property
    def batch_count(self) -> int:
        """Number of batches in one pass."""
        return -(-len(self) // self.batch_size)

    def for_normalization(self, normalization: Normalization | None) -> CalibrationContext:
        """The same; with a normalization with samples as pixels (see pixels.as_pixels)."""
        if normalization is None:
            return self
        pixels = as_network_samples("calibration data", self.samples.samples, normalization)
        return replace(self, samples=replace(self.samples, samples=pixels))

    def arranged_for(self, graph: Graph) -> CalibrationContext:
        """The same with samples as the graph takes them (see arrangement.as_taken)."""
        if graph.input.index is None:
            return self
        arranged = as_taken(graph, np.asarray(self.samples.samples))
        return replace(self, samples=replace(self.samples, samples=arranged))
