"""What a sweep may do at each population: make the mean right, or follow the largest current."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF


def correct_bias(ann_mean: dict[str, Array], logits_mean: Array, readout_start: int = 0) -> Visitor:
    """A visitor that shifts each current until the mean output is the ANN's.

    b += mean over samples and positions of (ANN activation - v_threshold * firing rate), channel by
    channel; at the output, of (ANN logits - current).

    Args:
        ann_mean: mean activation [C] of each rectifier.
        logits_mean: mean logits of the ANN, [classes].
        readout_start: t0 of the network.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        node = population_input.node

        def measure(start: int, currents: Tensor) -> tuple[Array, int]:
            values = currents[readout_start:]
            if isinstance(node, IF):
                spikes = population_input.integrate(node, currents)
                values = spikes * torch.as_tensor(node.v_threshold.copy()).to(spikes)
            by_channel = values.flatten(0, 1).transpose(0, 1).flatten(1)  # [C, T B positions]
            part = by_channel.sum(dim=1, dtype=torch.float64).cpu().numpy()
            return part, by_channel.shape[1]

        total: Array | None = None
        count = 0
        for part, number in population_input.replay(measure):
            total = part if total is None else total + part
            count += number
        wanted = ann_mean[node.name] if isinstance(node, IF) else logits_mean
        return (
            CalibrationUpdate()
            if total is None
            else CalibrationUpdate(shift=wanted - total / count)
        )

    return visit


def spike_norm(bounds: Mapping[str, float | None]) -> Visitor:
    """A visitor that sets v_threshold to the largest current that arrives (SpikeNorm).

    Args:
        bounds: what each rectifier clips to, by name: its threshold goes no higher.
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
