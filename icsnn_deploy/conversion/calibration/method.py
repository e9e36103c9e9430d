"""A calibration method: one rule for v_threshold, one for v_init, and what is done to biases."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.conversion.calibration.threshold_rules import ThresholdRule
from icsnn_deploy.conversion.calibration.v_init_rules import VInitRule


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to derive v_threshold, v_init and biases from calibration samples.

    Args:
        threshold: rule for v_threshold.
        v_init: rule for v_init.
        bias_shift: add v_threshold / (2 T) to the current of every step (Deng & Gu 2021, Opt).
        bias_correction: correct biases layer by layer on the spikes of the network itself.
    """

    threshold: ThresholdRule
    v_init: VInitRule
    bias_shift: bool = False
    bias_correction: bool = False

    @property
    def simulations(self) -> int:
        """How often the network is run on all samples to build it."""
        corrections = 2 if self.bias_correction else 0  # measured, then stored
        return self.threshold.simulations + self.v_init.simulations + corrections

    def __str__(self) -> str:
        parts = [str(self.threshold), f"v_init {self.v_init}"]
        parts += ["bias shift"] if self.bias_shift else []
        parts += ["bias correction"] if self.bias_correction else []
        return ", ".join(parts)
