"""What each layer of a network does: when its neurons first fire, and how near its output comes.

IC-SNN (Li et al. 2023) shows both, in figures 6 and 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class FirstSpikes:
    """When the neurons of one population first fire, over all samples."""

    layer: str
    mean: float | None  # step 1..T, of the neurons that fire at all; None where none does
    silent: float  # share of neurons without a spike in T steps


def first_spikes(recording: Recording) -> tuple[FirstSpikes, ...]:
    """One entry a population, in the network's order.

    A silent neuron has no first spike, so the mean leaves it out and its share stands beside.

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
    """How near a population's output x = v_threshold * spikes / T comes to the activation a.

    R^2 = 1 - sum((a - x)^2) / sum((a - mean(a))^2): 1 where x is a, 0 where the mean would do as
    well, below 0 where it is worse than that.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = self._error = 0.0

    def add(self, activation: Array, output: Array) -> None:
        """Take in some values, both of the same shape; raises DataError."""
        if activation.shape != output.shape:
            raise DataError(
                f"outputs of shape {output.shape} for activations of shape {activation.shape}"
            )
        a, x = activation.astype(np.float64), output.astype(np.float64)
        self._count += a.size
        self._sum += float(a.sum())
        self._squares += float((a * a).sum())
        self._error += float(((a - x) ** 2).sum())

    @property
    def r_squared(self) -> float | None:
        """None where the activation never varies."""
        spread = self._squares - self._sum**2 / max(self._count, 1)
        return 1 - self._error / spread if spread > 1e-12 * self._squares else None
