"""The calibration context: the samples, and how passes over them are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import SINGLE, Ranks, WorkResult
from icsnn_deploy.graph.encoder import DIRECT, InputEncoder, placed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import Shape
from icsnn_deploy.pixels import as_network_samples, channels_first, is_channels_last
from icsnn_deploy.progress import Progress, silent, tracked

_MOST_HELD_OUT = 1_024


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationContext:
    """What every calibration step needs besides the networks, passed as one object.

    Args:
        samples: the calibration samples; they know the processes that share the passes.
        batch_size: samples run at once.
        device: torch device.
        progress: called as each stage advances.
        encoder: of the input of IF networks; the ANN takes its frames.
    """

    samples: CalibrationSet
    batch_size: int
    device: str = "cpu"
    progress: Progress = silent
    encoder: InputEncoder = DIRECT

    @classmethod
    def of(
        cls,
        source: CalibrationSource | CalibrationSet,
        *,
        batch_size: int,
        limit: int | None = None,
        input_key: str | None = None,
        label_key: str | None = None,
        keep_labels: bool = False,
        device: str = "cpu",
        progress: Progress = silent,
        ranks: Ranks = SINGLE,
        encoder: InputEncoder = DIRECT,
    ) -> CalibrationContext:
        """The context of an array, a DataLoader or an iterable of batches (see CalibrationSet.of).

        Samples of events encoding are given as spikes [T, N, *shape].

        Raises:
            DataError: no samples, batches of different shapes or types, or samples that the
                encoding does not take.
            RankError: the processes of the run have different samples.
        """
        axis = 1 if encoder.encoding == "events" else 0
        samples = CalibrationSet.of(
            source,
            limit=limit,
            input_key=input_key,
            label_key=label_key,
            keep_labels=keep_labels,
            progress=progress,
            ranks=ranks,
            axis=axis,
        )
        if encoder.is_timed:
            for batch in samples.batches(batch_size):
                encoder.check(batch)
        return cls(
            samples=samples,
            batch_size=batch_size,
            device=device,
            progress=progress,
            encoder=encoder,
        )

    def __len__(self) -> int:
        return len(self.samples)

    def part(self, start: int, stop: int) -> CalibrationContext:
        """The same context on samples start to stop, without a copy."""
        return replace(self, samples=self.samples.part(start, stop))

    def split(self, held_out: float) -> tuple[CalibrationContext, CalibrationContext]:
        """(samples to fit on, held-out samples at the end); both overlap where there is only one.

        Args:
            held_out: share of the samples that is held out, 0 to 1; at least one sample is, and
                1,024 at most: there the standard error of an agreement is below 1.6 points.
        """
        count = min(max(1, round(len(self) * held_out)), _MOST_HELD_OUT)
        fit = self.part(0, max(1, len(self) - count))
        return fit, self.part(len(self) - count, len(self))

    def map(
        self, work: Callable[[int, Array], WorkResult], *, stage: str | None = None
    ) -> Iterator[WorkResult]:
        """Results of work(index of the first sample, batch) for successive batches, in order.

        Args:
            work: called once for each batch as the ANN takes it, [<= batch_size, *shape], in one of
                the processes.
            stage: name under which progress is reported; None reports none.
        """
        return self._map(lambda start, found: work(start, self.encoder.frames(found)), stage)

    def map_inputs(
        self, work: Callable[[int, Array], WorkResult], *, stage: str | None = None
    ) -> Iterator[WorkResult]:
        """As map, with each batch as the IF network takes it: [T, B, *shape] of spike input."""
        return self._map(lambda start, found: work(start, self.encoder.inputs(found)), stage)

    def _map(
        self, work: Callable[[int, Array], WorkResult], stage: str | None
    ) -> Iterator[WorkResult]:
        results = self.samples.map(self.batch_size, work)
        if stage is None:
            return results
        return tracked(results, stage, self.batch_count, self.progress)

    def frames(self, rows: slice | Array) -> Array:
        """Some of the samples as the ANN takes them, [B, *shape]."""
        return self.encoder.frames(np.asarray(self.samples.samples[rows]))

    def inputs(self, rows: slice | Array) -> Array:
        """Some of the samples as the IF network takes them."""
        return self.encoder.inputs(np.asarray(self.samples.samples[rows]))

    def image_shape(self, graph: Graph) -> tuple[int, ...]:
        """Shape of the samples if they are single images [C, H, W] of a graph; () of others."""
        shape = tuple(self.samples.samples.shape[1:])
        arranged = graph.input.index is not None or graph.input.parts
        events = self.encoder.encoding == "events"
        return () if arranged or events or len(shape) != 3 else shape

    @property
    def batch_count(self) -> int:
        """Number of batches in one pass."""
        return -(-len(self) // self.batch_size)

    def with_channels_first(
        self,
        normalization: Normalization | None,
        channels_last: bool | None,
        own: Shape | None = None,
    ) -> CalibrationContext:
        """The same with the channels before the positions (see pixels.is_channels_last)."""
        array = self.samples.samples
        axis = 2 if self.encoder.encoding == "events" else 1
        pixels = normalization if axis == 1 else None
        shape = array.shape[axis - 1 :]
        if not is_channels_last("calibration data", shape, pixels, channels_last, own):
            return self
        return replace(self, samples=replace(self.samples, samples=channels_first(array, axis)))

    def for_normalization(self, normalization: Normalization | None) -> CalibrationContext:
        """The same; with a normalization with samples as pixels (see pixels.as_pixels)."""
        if normalization is None:
            return self
        pixels = as_network_samples("calibration data", self.samples.samples, normalization)
        return replace(self, samples=replace(self.samples, samples=pixels))

    def arranged_for(self, graph: Graph) -> CalibrationContext:
        """The same with samples arranged as the graph takes them (see encoder.placed)."""
        if graph.input.index is None:
            return self
        arranged = placed(graph, np.asarray(self.samples.samples))
        return replace(self, samples=replace(self.samples, samples=arranged))
