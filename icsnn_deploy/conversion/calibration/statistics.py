"""Statistics of the ANN's activations on the calibration samples: one pass, constant memory.

Activations are counted in bins of constant relative width, 64 per octave: the bin of a positive
float32 is given by the upper bits of its representation. Counts of different batches or machines
add up to the same histogram in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node, Relu

_BITS = 6  # mantissa bits kept: 64 bins per octave, 1.6 % wide
_OCTAVES = (-24, 24)  # values below 2^-24 count as zero, above 2^24 as the last bin
_SHIFT = 23 - _BITS
_LOWEST = (127 + _OCTAVES[0]) << _BITS
BINS = ((_OCTAVES[1] - _OCTAVES[0]) << _BITS) + 1


def bin_values() -> Array:
    """The middle of each bin, [BINS], float64; bin 0 holds zero."""
    edges = (np.arange(BINS, dtype=np.uint32) + np.uint32(_LOWEST)) << np.uint32(_SHIFT)
    lower = edges.view(np.float32).astype(np.float64)
    values = np.empty(BINS)
    values[0] = 0.0
    values[1:] = (lower[:-1] + lower[1:]) / 2
    return values


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationStatistics:
    """Activations of one rectifier, per channel, in activation units.

    Args:
        histogram: counts, int64 [C, BINS].
        maximum: largest activation, [C].
        total: sum of the activations, [C].
        upper: upper bound of the rectifier itself (ReLU6, a trained clip); None without one.
    """

    histogram: Array
    maximum: Array
    total: Array
    upper: float | None

    @property
    def mean(self) -> Array:
        """Mean activation per channel, [C]."""
        mean: Array = self.total / np.maximum(self.histogram.sum(axis=1), 1)
        return mean

    def counts(self, *, per_channel: bool) -> Array:
        """The histogram of each channel, [C, BINS], or of the layer, [1, BINS]."""
        return self.histogram if per_channel else self.histogram.sum(axis=0, keepdims=True)

    def largest(self, *, per_channel: bool) -> Array:
        """The largest activation of each channel, [C], or of the layer, [1]."""
        return self.maximum if per_channel else self.maximum.max(keepdims=True)

    def quantile(self, p: float, *, per_channel: bool) -> Array:
        """The p-quantile of all activations, zeros included; [C] or [1]."""
        counts = self.counts(per_channel=per_channel)
        limit = self.largest(per_channel=per_channel)
        cumulated = counts.cumsum(axis=1)
        reached = cumulated >= p * cumulated[:, -1:]
        found: Array = np.minimum(bin_values()[reached.argmax(axis=1)], limit)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Statistics of every rectifier by name, and the mean logits of the ANN, [C]."""

    layers: dict[str, ActivationStatistics]
    logits_mean: Array


@dataclass(frozen=True, eq=False)
class _Batch:
    """Results that are combined in the order of the batches; counts need no order."""

    peaks: dict[str, Array]
    sums: dict[str, Array]
    logits_sum: Array
    logits_count: int


def collect_statistics(ann: Graph, context: CalibrationContext) -> Statistics:
    """Run the ANN once over the calibration samples, shared by the processes of the run."""
    network = TorchANN(ann, device=context.device)
    relus = {node.name: node for node in ann.nodes_of(Relu)}
    histograms = {
        name: torch.zeros(ann.shape(name)[0] * BINS, dtype=torch.int64, device=context.device)
        for name in relus
    }

    def measure(start: int, batch: Array) -> _Batch:
        peaks: dict[str, Array] = {}
        sums: dict[str, Array] = {}

        def observe(node: Node, value: Tensor) -> None:
            if node.name in relus:
                by_channel = value.transpose(0, 1).flatten(1)  # [C, B * positions]
                histograms[node.name] += _count(by_channel)
                peaks[node.name] = by_channel.amax(dim=1).double().cpu().numpy()
                sums[node.name] = by_channel.sum(dim=1, dtype=torch.float64).cpu().numpy()

        logits = np.moveaxis(network.run(batch, observe), 1, -1)
        axes = tuple(range(logits.ndim - 1))
        return _Batch(peaks, sums, logits.sum(axis=axes, dtype=np.float64), logits[..., 0].size)

    maxima = {name: np.zeros(ann.shape(name)[0]) for name in relus}
    totals = {name: np.zeros(ann.shape(name)[0]) for name in relus}
    logits_sum, logits_count = np.zeros(ann.shape(ann.output.name)[0]), 0
    for found in context.map(measure, stage="activations"):
        for name in relus:
            np.maximum(maxima[name], found.peaks[name], out=maxima[name])
            totals[name] += found.sums[name]
        logits_sum += found.logits_sum
        logits_count += found.logits_count
    summed = {name: context.samples.ranks.sum(counts) for name, counts in histograms.items()}
    layers = {
        name: ActivationStatistics(
            histogram=summed[name].reshape(-1, BINS).cpu().numpy(),
            maximum=maxima[name],
            total=totals[name],
            upper=relu.upper,
        )
        for name, relu in relus.items()
    }
    return Statistics(layers=layers, logits_mean=logits_sum / logits_count)


def _count(values: Tensor) -> Tensor:
    """Histogram of each row of nonnegative values, [C, M] -> [C * BINS]."""
    bits = values.contiguous().view(torch.int32) >> _SHIFT
    index = (bits - (_LOWEST - 1)).clamp(0, BINS - 1)  # bin 0: everything below the lowest octave
    row = torch.arange(len(values), device=values.device, dtype=index.dtype).unsqueeze(1) * BINS
    return torch.bincount((index + row).flatten(), minlength=len(values) * BINS)
