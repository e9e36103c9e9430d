"""Bias correction: shift each current until the mean output equals that of the ANN."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration.layer_sweep import (
    CalibrationUpdate,
    PopulationInput,
    Visitor,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF


def correct_bias(
    ann_mean: Mapping[str, Array], logits_mean: Array, readout_start: int = 0
) -> Visitor:
    """A visitor that shifts each current until the mean output is that of the ANN.

    b += mean over samples and positions of (ANN activation - v_threshold * firing rate), per
    channel; at the output, of (ANN logits - current).

    Args:
        ann_mean: mean activation [C] of each rectifier, by name.
        logits_mean: mean logits of the ANN, [classes].
        readout_start: t0 of the network.
    """

    def visit(population_input: PopulationInput) -> CalibrationUpdate:
        node = population_input.node
        wanted = ann_mean[node.name] if isinstance(node, IF) else logits_mean
        return shift_to_mean(population_input, wanted, readout_start)

    return visit


def shift_to_mean(
    population_input: PopulationInput, wanted: Array, readout_start: int = 0
) -> CalibrationUpdate:
    """The shift by which the present mean output differs from the wanted one.

    Args:
        population_input: currents of a population, or of the output.
        wanted: mean of v_threshold * spikes of a population, or mean current of the output, [C].
        readout_start: t0 of the network; the output's current counts from there on.
    """
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
    if total is None:
        return CalibrationUpdate()
    return CalibrationUpdate(shift=wanted - total / count)
