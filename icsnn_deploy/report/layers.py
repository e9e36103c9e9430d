"""Measures per layer: first-spike times, and how well outputs match the ANN's activations.

Both are shown in figures 6 and 7 of IC-SNN (Li et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class FirstSpikes:
    """First-spike times of one population, over all samples.

    Args:
        layer: name of the population.
        mean: mean first-spike step, 1 to T, of the neurons that fire; None where none fires.
        silent: share of neurons without a spike in T steps, 0 to 1.
    """

    layer: str
    mean: float | None
    silent: float


def first_spikes(recording: Recording) -> tuple[FirstSpikes, ...]:
    """First-spike times per population, in the network's order.

    A silent neuron has no first spike: the mean excludes it, and `silent` counts it.

    Raises:
        DataError: the recording holds neither spikes nor first_spikes.
    """
    times = recording.first_spike_times()
    if not times:
        raise DataError(f"{recording.backend}: nothing recorded; record spikes or first_spikes")
    found = []
    for layer, steps in times.items():
        fired = steps[steps > 0]
        mean = float(fired.mean(dtype=np.float64)) if fired.size else None
        silent = 1 - fired.size / steps.size
        found.append(FirstSpikes(layer=layer, mean=mean, silent=silent))
    return tuple(found)


class OutputFit:
    """How well a population's output x = v_threshold * spikes / T matches the activation a.

    R^2 = 1 - sum((a - x)^2) / sum((a - mean(a))^2): 1 where x equals a, 0 where mean(a) would
    match as well, below 0 where x is worse.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = self._error = 0.0

    def add(self, activation: Array, output: Array) -> None:
        """Add values of the same shape; raises DataError for different shapes."""
        if activation.shape != output.shape:
            raise DataError(
                f"outputs of shape {output.shape} for activations of shape {activation.shape}: "
                "the shapes must be equal"
            )
        a, x = activation.astype(np.float64), output.astype(np.float64)
        self._count += a.size
        self._sum += float(a.sum())
        self._squares += float((a * a).sum())
        self._error += float(((a - x) ** 2).sum())

    @property
    def r_squared(self) -> float | None:
        """R^2 of all values added; None where the activation is constant."""
        spread = self._squares - self._sum**2 / max(self._count, 1)
        return 1 - self._error / spread if spread > 1e-12 * self._squares else None
