"""Rules for v_threshold, from the ANN's activation statistics.

Every rule gives values in activation units, one a layer or one a channel. A bound that the
rectifier itself has (ReLU6, a trained clip) is never exceeded, and a channel that was never active
takes its layer's value: its threshold is of no consequence, but it must be positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from icsnn_deploy.conversion.calibration.statistics import ActivationStatistics, bin_values
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.neuron import Array

Granularity = Literal["layer", "channel"]


@dataclass(frozen=True, kw_only=True)
class MaxThreshold:
    """The largest activation (Diehl et al. 2015)."""

    per: Granularity = "layer"

    def __str__(self) -> str:
        return f"max per {self.per}"


@dataclass(frozen=True, kw_only=True)
class QuantileThreshold:
    """The p-quantile of the activations, zeros included (Rueckauer et al. 2017; IC-SNN, 4.1.3)."""

    p: float
    per: Granularity = "layer"

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ConversionError(f"quantile p = {self.p}: 0 < p <= 1 is needed")

    def __str__(self) -> str:
        return f"quantile {self.p:g} per {self.per}"


@dataclass(frozen=True, kw_only=True)
class MSEThreshold:
    """The threshold whose T-step code comes nearest to the activations.

    Minimizes mean((clip(floor(a T / v_threshold + 1/2), 0, T) v_threshold / T - a)^2): what a
    population with v_init = v_threshold / 2 makes of a constant current.
    """

    per: Granularity = "channel"

    def __str__(self) -> str:
        return f"MSE per {self.per}"


@dataclass(frozen=True, kw_only=True)
class LearnedBound:
    """The bound that the network was trained with (a clip or QCFS activation).

    A rectifier without one takes the rule `otherwise`, or is an error.
    """

    otherwise: MaxThreshold | QuantileThreshold | MSEThreshold | None = None

    def __str__(self) -> str:
        return "learned bound" + (f", else {self.otherwise}" if self.otherwise else "")


@dataclass(frozen=True, kw_only=True)
class SpikeNormThreshold:
    """Layer by layer, the largest current that the spiking network itself receives.

    (Sengupta et al. 2019.) `reset` is that of the network that is measured: "hard" as they ran it,
    or "soft" as RMP-SNN does (Han et al. 2020) and as the result runs.
    """

    reset: Literal["hard", "soft"] = "hard"

    def __str__(self) -> str:
        return f"SpikeNorm ({self.reset} reset)"


StatisticRule: TypeAlias = MaxThreshold | QuantileThreshold | MSEThreshold | LearnedBound
ThresholdRule: TypeAlias = StatisticRule | SpikeNormThreshold


def threshold_of(
    rule: StatisticRule, layer: str, statistics: ActivationStatistics, time_steps: int
) -> Array:
    """v_threshold of one rectifier, [C] or [1], > 0, activation units.

    Raises:
        ConversionError: LearnedBound on a rectifier that has no bound.
    """
    if isinstance(rule, LearnedBound):
        if statistics.upper is not None:
            return np.array([statistics.upper])
        if rule.otherwise is None:
            raise ConversionError(
                f"{layer}: no learned bound; declare the activation class that holds it "
                "(--activation CLASS:BOUND), or choose a recipe that measures thresholds"
            )
        rule = rule.otherwise
    per_channel = rule.per == "channel"
    if isinstance(rule, MaxThreshold):
        found = statistics.maximum if per_channel else statistics.maximum.max(keepdims=True)
    elif isinstance(rule, QuantileThreshold):
        found = statistics.quantile(rule.p, per_channel=per_channel)
    else:
        found = _nearest_code(statistics, time_steps, per_channel=per_channel)
    return bounded(positive(found, statistics), statistics)


def bounded(threshold: Array, statistics: ActivationStatistics) -> Array:
    """Not above the rectifier's own bound."""
    return threshold if statistics.upper is None else np.minimum(threshold, statistics.upper)


def positive(threshold: Array, statistics: ActivationStatistics) -> Array:
    """Zero thresholds replaced by the layer's largest, or by its largest activation, or by 1."""
    fallback = float(threshold.max()) or float(statistics.maximum.max()) or 1.0
    return np.where(threshold > 0, threshold, fallback)


def _nearest_code(statistics: ActivationStatistics, time_steps: int, *, per_channel: bool) -> Array:
    """The threshold of least squared coding error among 96 fractions of the maximum."""
    counts = statistics.histogram if per_channel else statistics.histogram.sum(0, keepdims=True)
    maximum = statistics.maximum if per_channel else statistics.maximum.max(keepdims=True)
    used = counts.any(axis=0)
    a, weight = bin_values()[used], counts[:, used].astype(np.float64)
    best = np.full(len(maximum), np.inf)
    found = maximum.copy()
    for fraction in np.geomspace(0.02, 1.0, 96)[::-1]:
        threshold = np.maximum(maximum * fraction, 1e-30)[:, None]  # [C, 1]
        level = np.clip(np.floor(a * (time_steps / threshold) + 0.5), 0, time_steps)
        error = (weight * (level * (threshold / time_steps) - a) ** 2).sum(axis=1)
        better = error < best
        best = np.where(better, error, best)
        found = np.where(better, threshold[:, 0], found)
    return np.where(maximum > 0, found, 0.0)
