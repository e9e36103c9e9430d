"""SpikeNorm (Sengupta et al. 2019): thresholds follow the largest current of the IF network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.graph.nodes import IF


def spike_norm(bounds: Mapping[str, float | None]) -> Visitor:
    """A visitor that sets v_threshold to the largest current that arrives.

    Args:
        bounds: upper bound of each rectifier by name, which its threshold never exceeds; None
            where a rectifier has no bound.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        node = population_input.node
        if not isinstance(node, IF):
            return CalibrationUpdate()
        largest = max(population_input.replay(lambda start, currents: float(currents.max())))
        upper = bounds.get(node.name)
        value = min(largest if largest > 0 else 1.0, math.inf if upper is None else upper)
        return CalibrationUpdate(v_threshold=np.full_like(node.v_threshold, value))

    return visit
