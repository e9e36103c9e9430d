"""Calibrate the integer network itself, because it is the one that is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from icsnn_deploy.conversion.calibration.bias_correction import correct_bias
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import Visitor, sweep
from icsnn_deploy.conversion.calibration.sampled_activations import SampledActivations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.lattice.output_units import channel_units
from icsnn_deploy.lattice.round_network import Lattice


def readout_steps(network: Graph) -> tuple[int, ...]:
    """The T that the network was calibrated for and reads out, ascending; otherwise its own T."""
    found = {t for t in network.calibrated_steps if network.readout_start < t <= network.steps}
    return tuple(sorted(found)) or (network.steps,)


def recalibrate(
    lattice: Lattice,
    activations: SampledActivations,
    units: Mapping[str, Array],
    integers: CalibrationContext,
    *,
    readout_steps: Sequence[int],
    keep_thresholds: bool,
) -> dict[str, Graph]:
    """The rounded network and its calibrated versions, by name.

    rounded: as it is. corrected: biases shifted layer by layer until the mean outputs are those of
    the ANN. searched: v_threshold, v_init and bias of each channel searched on the lattice, on the
    currents of the integer network.

    Args:
        lattice: the rounded network and its units.
        activations: of the ANN, on the same samples.
        units: activation, and logit, that one unit represents, [C] by name (activation_units).
        integers: calibration samples as the integer network takes them.
        readout_steps: the T after which the network is read, ascending.
        keep_thresholds: search v_init and bias only.
    """
    network = lattice.graph
    choose = search(
        activations,
        readout_steps,
        units=units,
        keep_thresholds=keep_thresholds,
        readout_start=network.readout_start,
    )
    correct = _lattice_correction(activations, units, network)
    return {
        "rounded": network,
        "corrected": sweep(network, integers, correct, stage="integer bias correction"),
        "searched": sweep(network, integers, choose, stage="integer search"),
    }


def activation_units(network: Graph, prepared: Graph, lattice: Lattice) -> dict[str, Array]:
    """Activation, and logit, that one unit of a population, and of the output, represents, [C].

    Args:
        network: the float IF network.
        prepared: the same network as lattice.prepare leaves it.
        lattice: the rounded network and its units.
    """
    units = {}
    for node in network.nodes_of(Population):
        ready = prepared.node(node.name)
        if not isinstance(ready, Population):
            raise LatticeError(f"{node.name}: prepared as a {ready.kind}")
        # Preparing may have given the population another unit: one threshold per layer.
        activation = node.v_threshold.astype(np.float64) / ready.v_threshold
        unit = activation * lattice.units[ready.inputs[0]]
        per_channel = unit.mean(axis=tuple(range(1, unit.ndim)))
        units[node.name] = np.broadcast_to(per_channel, (network.shape(node.name)[0],)).copy()
    name = prepared.output.name
    units[name] = channel_units(prepared, lattice.units[name])
    return units


def _lattice_correction(
    activations: SampledActivations, units: Mapping[str, Array], graph: Graph
) -> Visitor:
    """The bias correction in lattice units."""
    means = {
        name: values.double().mean(dim=1).cpu().numpy() / units[name]
        for name, values in activations.values.items()
    }
    logits = activations.logits_mean / units[graph.output.name]
    return correct_bias(means, logits, graph.readout_start)
