"""Rules for v_threshold.

A rule gives values in activation units, one per layer or one per channel. It never exceeds the
bound of the rectifier itself (ReLU6, a trained clip). A channel that was never active takes the
largest threshold of its layer: the value has no effect, but it must be positive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import Reset, sweep
from icsnn_deploy.conversion.calibration.spike_norm import spike_norm
from icsnn_deploy.conversion.calibration.statistics import ActivationStatistics
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu

Granularity = Literal["layer", "channel"]


class ThresholdRule(ABC):
    """A rule for v_threshold. Subclass it, as a frozen dataclass with __str__, to add one."""

    simulations: ClassVar[int] = 0
    """How often `refine` runs the network on all samples, for estimates of time."""

    @abstractmethod
    def threshold(self, layer: str, statistics: ActivationStatistics, time_steps: int) -> Array:
        """v_threshold of one rectifier, [C] or [1], > 0, activation units.

        Args:
            layer: name of the rectifier, for messages.
            statistics: its activations on the calibration samples.
            time_steps: T of the network.

        Raises:
            ConversionError: the rule has no value for this rectifier.
        """

    def refine(self, network: Graph, ann: Graph, context: CalibrationContext) -> Graph:
        """The network with thresholds measured on the network itself; unchanged by default.

        Args:
            network: the IF network, with the thresholds of `threshold`.
            ann: the ANN that the network comes from.
            context: samples that the network may be run on.
        """
        return network


class StatisticsRule(ThresholdRule):
    """A rule that is a function of the activation statistics alone."""

    @abstractmethod
    def measure(self, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The threshold before it is made positive and bounded, [C] or [1]."""

    def threshold(self, layer: str, statistics: ActivationStatistics, time_steps: int) -> Array:
        """v_threshold of one rectifier, [C] or [1], > 0, activation units."""
        measured = self.measure(statistics, time_steps)
        return bounded(positive(measured, statistics), statistics)


@dataclass(frozen=True, kw_only=True)
class MaxThreshold(StatisticsRule):
    """The largest activation (Diehl et al. 2015)."""

    per: Granularity = "layer"

    def __str__(self) -> str:
        return f"max per {self.per}"

    def measure(self, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The largest activation, [C] or [1]."""
        return statistics.largest(per_channel=self.per == "channel")


@dataclass(frozen=True, kw_only=True)
class QuantileThreshold(StatisticsRule):
    """The p-quantile of the activations, zeros included (Rueckauer et al. 2017; IC-SNN, 4.1.3)."""

    p: float
    per: Granularity = "layer"

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ConversionError(f"quantile p = {self.p}: 0 < p <= 1 is needed")

    def __str__(self) -> str:
        return f"quantile {self.p:g} per {self.per}"

    def measure(self, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The p-quantile, [C] or [1]."""
        return statistics.quantile(self.p, per_channel=self.per == "channel")


@dataclass(frozen=True, kw_only=True)
class MSEThreshold(StatisticsRule):
    """The threshold whose T-step code has the least squared error.

    Minimizes mean((clip(floor(a T / v_threshold + 1/2), 0, T) v_threshold / T - a)^2): the output
    of a population with v_init = v_threshold / 2 for a constant current.
    """

    per: Granularity = "channel"

    def __str__(self) -> str:
        return f"MSE per {self.per}"

    def measure(self, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The best of 96 fractions of the largest activation, [C] or [1]."""
        per_channel = self.per == "channel"
        counts = statistics.counts(per_channel=per_channel)
        maximum = statistics.largest(per_channel=per_channel)
        used = counts.any(axis=0)
        a, weight = statistics.bin_values[used], counts[:, used].astype(np.float64)
        best = np.full(len(maximum), np.inf)
        found = maximum.copy()
        positive_maximum = np.where(maximum > 0, maximum, 1.0)
        for fraction in np.geomspace(0.02, 1.0, 96)[::-1]:
            threshold = (positive_maximum * fraction)[:, None]  # [C, 1]
            level = np.clip(np.floor(a * (time_steps / threshold) + 0.5), 0, time_steps)
            error = (weight * (level * (threshold / time_steps) - a) ** 2).sum(axis=1)
            better = error < best
            best = np.where(better, error, best)
            found = np.where(better, threshold[:, 0], found)
        return np.where(maximum > 0, found, 0.0)


@dataclass(frozen=True, kw_only=True)
class LearnedBound(ThresholdRule):
    """The bound that the network was trained with (a clip or QCFS activation).

    A rectifier without a bound takes the rule `otherwise`; without that rule it is an error.
    """

    otherwise: StatisticsRule | None = None

    def __str__(self) -> str:
        return "learned bound" + (f", else {self.otherwise}" if self.otherwise else "")

    def threshold(self, layer: str, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The bound, [1]; else what `otherwise` gives. Raises ConversionError without either."""
        if statistics.upper is not None:
            return np.array([statistics.upper])
        if self.otherwise is None:
            raise ConversionError(
                f"{layer}: no learned bound; declare the activation class that holds it "
                "(--activation CLASS:BOUND), or choose a recipe that measures thresholds"
            )
        return self.otherwise.threshold(layer, statistics, time_steps)


@dataclass(frozen=True, kw_only=True)
class SpikeNormThreshold(ThresholdRule):
    """The largest current that each population receives in the IF network, layer by layer.

    (Sengupta et al. 2019.) `reset` is the reset of the network that is measured: "hard" as in the
    paper, or "soft" as in RMP-SNN (Han et al. 2020) and as the converted network runs.
    """

    reset: Reset = "hard"

    simulations: ClassVar[int] = 2

    def __str__(self) -> str:
        return f"SpikeNorm ({self.reset} reset)"

    def threshold(self, layer: str, statistics: ActivationStatistics, time_steps: int) -> Array:
        """The largest activation, [1]: the value that the sweep starts from."""
        return MaxThreshold().threshold(layer, statistics, time_steps)

    def refine(self, network: Graph, ann: Graph, context: CalibrationContext) -> Graph:
        """The network with every v_threshold at the largest current of its population."""
        bounds = {node.name: node.upper for node in ann.nodes_of(Relu)}
        return sweep(network, context, spike_norm(bounds), reset=self.reset, stage="SpikeNorm")


def bounded(threshold: Array, statistics: ActivationStatistics) -> Array:
    """The threshold, cut at the rectifier's own bound."""
    return threshold if statistics.upper is None else np.minimum(threshold, statistics.upper)


def positive(threshold: Array, statistics: ActivationStatistics) -> Array:
    """Zero thresholds replaced by the largest of the layer, else its largest activation, else 1."""
    fallback = float(threshold.max()) or float(statistics.maximum.max()) or 1.0
    return np.where(threshold > 0, threshold, fallback)
