"""Calibrate the integer network itself, so that what is deployed is what was calibrated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.conversion.calibration.bias_correction import correct_bias
from icsnn_deploy.conversion.calibration.layer_sweep import Visitor, sweep
from icsnn_deploy.conversion.calibration.sampled_activations import (
    SampledActivations,
    sample_activations,
)
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.round_network import Lattice
from icsnn_deploy.progress import Progress


def readout_steps(network: Graph) -> tuple[int, ...]:
    """The T that the network was calibrated for; its own T where nothing else is recorded."""
    recorded = network.provenance.get("counted")
    if not isinstance(recorded, (list, tuple)):
        return (network.steps,)
    # Provenance may come with a file from elsewhere: only what makes sense is taken.
    sensible = {t for t in recorded if isinstance(t, int) and network.readout_start < t}
    return tuple(sorted(t for t in sensible if t <= network.steps)) or (network.steps,)


def recalibrated(
    network: Graph,
    prepared: Graph,
    lattice: Lattice,
    ann: Graph,
    samples: CalibrationSet,
    integers: CalibrationSet,
    options: LatticeOptions,
    device: str,
    progress: Progress,
) -> dict[str, Graph]:
    """The rounded network, and the ones that calibrations make of it, by name.

    rounded: as it is. corrected: biases shifted layer by layer until the mean outputs are the
    ANN's. searched: v_threshold, v_init and bias of each channel searched on the lattice, on the
    currents of the integer network.

    Args:
        network: the float IF network.
        prepared: the same in the form that was rounded.
        lattice: the rounded network and its units.
        ann: the ANN.
        samples: calibration samples as the float network takes them.
        integers: the same as the integer network takes them.
        options: widths, granularity, batch size.
        device: torch device.
        progress: told how far each stage is.
    """
    units = _activation_units(network, prepared, lattice)
    activations = sample_activations(
        ann,
        samples,
        batch_size=options.batch_size,
        device=device,
        progress=progress,
    )

    def swept(stage: str, visitor: Visitor) -> Graph:
        return sweep(
            lattice.graph,
            integers,
            visitor,
            batch_size=options.batch_size,
            device=device,
            stage=stage,
            progress=progress,
        )

    settle = search(
        activations,
        readout_steps(network),
        units=units,
        keep_thresholds=options.per_layer,
        readout_start=network.readout_start,
    )
    correct = _lattice_correction(activations, units, lattice.graph)
    return {
        "rounded": lattice.graph,
        "corrected": swept("integer bias correction", correct),
        "searched": swept("integer search", settle),
    }


def _activation_units(network: Graph, prepared: Graph, lattice: Lattice) -> dict[str, Array]:
    """The activation, and the logit, that one unit stands for, [C] each."""
    units = {}
    for node in network.nodes_of(IF):
        ready = prepared.node(node.name)
        if not isinstance(ready, IF):
            raise LatticeError(f"{node.name}: prepared as a {ready.kind}")
        # Preparing may have given the population another unit: one threshold a layer.
        activation = node.v_threshold.astype(np.float64) / ready.v_threshold
        unit = activation * lattice.units[ready.inputs[0]]
        per_channel = unit.mean(axis=tuple(range(1, unit.ndim)))
        units[node.name] = np.broadcast_to(per_channel, (network.shape(node.name)[0],)).copy()
    logit_unit = float(np.mean(lattice.units[prepared.output.name]))
    units[prepared.output.name] = np.full(network.shape(network.output.name)[0], logit_unit)
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
