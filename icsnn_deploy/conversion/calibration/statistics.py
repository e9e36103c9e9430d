"""Statistics of the ANN's activations on the calibration samples: one pass, constant memory.

Activations are counted in bins of constant relative width, 64 per octave: the bin of a positive
float32 is given by the upper bits of its representation. The bins of a layer cover the 48 octaves
up to its largest activation, so that the counts do not depend on the unit of the activations. They
do not depend on the order of the samples either, or on how batches and processes share them.
"""

from __future__ import annotations

import math
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
_OCTAVES = 48  # below the largest activation of the layer; smaller values count as zero
_SHIFT = 23 - _BITS
_SMALLEST = -125  # 2^-126 is the smallest normal float32
BINS = (_OCTAVES << _BITS) + 1


def bin_values(exponent: int) -> Array:
    """The middle of each bin, [BINS], float64; bin 0 holds zero.

    Args:
        exponent: the last octave ends at 2^exponent (see ActivationStatistics.exponent).
    """
    edges = 1 + np.arange((1 << _BITS) + 1) / (1 << _BITS)
    octave = (edges[:-1] + edges[1:]) / 2
    powers = np.arange(exponent - _OCTAVES, exponent, dtype=np.float64)
    return np.concatenate([[0.0], (2.0 ** powers[:, None] * octave).ravel()])


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationStatistics:
    """Activations of one rectifier, per channel, in activation units.

    Args:
        histogram: counts, int64 [C, BINS].
        maximum: largest activation, [C].
        total: sum of the activations, [C].
        exponent: the histogram covers [2^(exponent - 48), 2^exponent); all channels of the layer
            are below 2^exponent, and the largest of them is in the last octave.
        upper: upper bound of the rectifier itself (ReLU6, a trained clip); None without one.
    """

    histogram: Array
    maximum: Array
    total: Array
    exponent: int
    upper: float | None

    @property
    def mean(self) -> Array:
        """Mean activation per channel, [C]."""
        mean: Array = self.total / np.maximum(self.histogram.sum(axis=1), 1)
        return mean

    @property
    def bin_values(self) -> Array:
        """The middle of each bin of the histogram, [BINS], activation units."""
        return bin_values(self.exponent)

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
        found: Array = np.minimum(self.bin_values[reached.argmax(axis=1)], limit)
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
    histograms = {name: _Histogram(ann.shape(name)[0], context.device) for name in relus}

    def measure(start: int, batch: Array) -> _Batch:
        peaks: dict[str, Array] = {}
        sums: dict[str, Array] = {}

        def observe(node: Node, value: Tensor) -> None:
            if node.name in relus:
                by_channel = value.transpose(0, 1).flatten(1)  # [C, B * positions]
                histograms[node.name].add(by_channel)
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
    summed: dict[str, Array] = {}
    exponents: dict[str, int] = {}
    for name, histogram in histograms.items():
        exponents[name] = _exponent(float(maxima[name].max()))  # over all processes
        histogram.cover(exponents[name])
        summed[name] = context.samples.ranks.sum(histogram.counts).cpu().numpy()
    layers = {
        name: ActivationStatistics(
            histogram=summed[name],
            maximum=maxima[name],
            total=totals[name],
            exponent=exponents[name],
            upper=relu.upper,
        )
        for name, relu in relus.items()
    }
    return Statistics(layers=layers, logits_mean=logits_sum / logits_count)


def _exponent(largest: float) -> int:
    """The smallest e with largest < 2^e, at least that of the normal float32 numbers."""
    return max(math.frexp(largest)[1], _SMALLEST) if largest > 0 else _SMALLEST


class _Histogram:
    """Counts of the activations of one layer, in the octaves up to the largest one seen so far."""

    def __init__(self, channels: int, device: str) -> None:
        self.counts = torch.zeros((channels, BINS), dtype=torch.int64, device=device)
        self.exponent = _SMALLEST

    def add(self, values: Tensor) -> None:
        """Count nonnegative values, [C, M]."""
        self.cover(_exponent(float(values.max())))
        bits = values.contiguous().view(torch.int32) >> _SHIFT
        first = (self.exponent - _OCTAVES + 127) << _BITS  # the first bin that is not zero
        least = max(first, 1 << _BITS)  # subnormal numbers count as zero
        index = torch.where(bits < least, 0, (bits - (first - 1)).clamp(max=BINS - 1))
        row = torch.arange(len(values), device=values.device).unsqueeze(1) * BINS
        counted = torch.bincount((index + row).flatten(), minlength=self.counts.numel())
        self.counts += counted.reshape(self.counts.shape)

    def cover(self, exponent: int) -> None:
        """Move the bins up to 2^exponent; counts below the first octave become those of zero."""
        bins = min((exponent - self.exponent) << _BITS, BINS - 1)
        if bins <= 0:
            return
        moved = torch.zeros_like(self.counts)
        moved[:, 0] = self.counts[:, : bins + 1].sum(dim=1)
        moved[:, 1 : BINS - bins] = self.counts[:, bins + 1 :]
        self.counts, self.exponent = moved, exponent
