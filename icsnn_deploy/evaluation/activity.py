"""Measure a network's activity: spikes, synaptic operations, and a range for its energy.

Definitions, those of NeuroBench (Yik et al., 2025; package neurobench 2.3) if it has one:
    firing rate          spikes / (neurons * time steps * samples)
    activation sparsity  1 - firing rate over all populations together: the share of activations
                         that are zero, over layers, time steps and samples
    AC                   accumulate: one spike over one non-zero synapse. Biases are not counted
    MAC                  multiply-accumulate: one analog value over one non-zero synapse
    effective MACs       MACs of values that are not zero, NeuroBench's "Effective_MACs"
    dense operations     every synapse, zero or not, at every time step, NeuroBench's "Dense"
All are per sample. NeuroBench counts MACs for values after a pooling layer, which are no longer 0
or 1; here a pooled spike counts as a spike, because hardware adds it as one.

The current of an analog input (direct encoding) is the same at every step: macs_once counts it
once, macs_every_step at every step, as NeuroBench's harness does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.targets.connectivity import fan_in, fan_out
from icsnn_deploy.targets.paths import is_zero_point

# M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9:
# 45 nm, 0.9 V, 32-bit float: addition 0.9 pJ, multiplication 3.7 pJ. Memory is not included.
AC_PICOJOULE = 0.9
MAC_PICOJOULE = 4.6
ENERGY_SOURCE = "4.6 pJ per MAC, 0.9 pJ per AC (45 nm, 32-bit float; Horowitz, ISSCC 2014)"


@dataclass(frozen=True, kw_only=True)
class LayerActivity:
    """The activity of one population, as means over the samples."""

    layer: str
    neurons: int
    spikes: float  # per sample
    firing_rate: float  # spikes per neuron and step
    acs: float  # per sample, of the spikes that it sends


@dataclass(frozen=True, kw_only=True)
class EnergyRange:
    """An estimate from operation counts, not a measurement; without memory and leakage."""

    low_nanojoule: float  # if the analog first layer is computed once
    high_nanojoule: float  # if it is computed at every step
    mac_picojoule: float
    ac_picojoule: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Activity:
    """The activity of a network per sample, as means over some samples."""

    samples: int
    time_steps: int
    layers: tuple[LayerActivity, ...]
    spikes: float
    firing_rate: float
    activation_sparsity: float
    acs: float  # input spikes included
    macs_once: float
    macs_every_step: float
    effective_macs_once: float | None  # None without the inputs
    effective_macs_every_step: float | None
    dense_operations: int
    energy: EnergyRange

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self)


def measure_activity(
    graph: Graph, counts: Recording | Mapping[str, Array], inputs: Array | None = None
) -> Activity:
    """Count spikes and operations of a recorded run.

    Args:
        graph: the network that ran.
        counts: a recording, or spikes of each neuron over all steps, [B, *shape] by population.
        inputs: of the run, [B, *shape], or [T, B, *shape] for rate and event input, which needs
            them; for direct input they give the effective MACs.

    Raises:
        DataError: a population without counts, counts of another shape or beyond T, or missing
            input spikes.
    """
    spike_counts = counts.spike_counts() if isinstance(counts, Recording) else counts
    populations = graph.nodes_of(Population)
    samples = _check_counts(graph, spike_counts)
    outgoing = fan_out(graph)
    layers = []
    for node in populations:
        spikes = spike_counts[node.name].astype(np.float64)
        neurons = math.prod(graph.shape(node.name))
        layers.append(
            LayerActivity(
                layer=node.name,
                neurons=neurons,
                spikes=float(spikes.sum()) / samples,
                firing_rate=float(spikes.sum()) / (neurons * graph.steps * samples),
                acs=float((spikes * outgoing[node.name]).sum()) / samples,
            )
        )
    direct = not graph.input.is_timed
    macs = float(outgoing[graph.input.name].sum()) if direct else 0.0
    effective = _input_operations(graph, inputs, outgoing, samples) if direct else 0.0
    acs = sum(layer.acs for layer in layers)
    if not direct:
        arriving = _input_operations(graph, inputs, outgoing, samples)
        if arriving is None:
            raise DataError("operations of spike input need the input spikes, [T, B, *shape]")
        acs += arriving
    total = sum(layer.neurons for layer in layers) * graph.steps
    spikes_a_sample = sum(layer.spikes for layer in layers)
    return Activity(
        samples=samples,
        time_steps=graph.steps,
        layers=tuple(layers),
        spikes=spikes_a_sample,
        firing_rate=spikes_a_sample / total,
        activation_sparsity=1 - spikes_a_sample / total,
        acs=acs,
        macs_once=macs,
        macs_every_step=macs * graph.steps,
        effective_macs_once=effective,
        effective_macs_every_step=None if effective is None else effective * graph.steps,
        dense_operations=graph.steps
        * sum(int(synapses.sum()) for synapses in fan_in(graph, dense=True).values()),
        energy=estimate_energy(acs, macs, macs * graph.steps),
    )


def merge_activities(parts: Sequence[Activity]) -> Activity:
    """The activity of one network over the samples of several runs together."""
    samples = sum(part.samples for part in parts)

    def mean(values: Sequence[float]) -> float:
        return (
            sum(part.samples * value for part, value in zip(parts, values, strict=True)) / samples
        )

    def mean_if_known(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if len(known) == len(parts) else None

    layers = [
        replace(
            rows[0],
            spikes=mean([row.spikes for row in rows]),
            firing_rate=mean([row.firing_rate for row in rows]),
            acs=mean([row.acs for row in rows]),
        )
        for rows in zip(*(part.layers for part in parts), strict=True)
    ]
    acs = mean([part.acs for part in parts])
    first = parts[0]
    return replace(
        first,
        samples=samples,
        layers=tuple(layers),
        spikes=mean([part.spikes for part in parts]),
        firing_rate=mean([part.firing_rate for part in parts]),
        activation_sparsity=mean([part.activation_sparsity for part in parts]),
        acs=acs,
        effective_macs_once=mean_if_known([part.effective_macs_once for part in parts]),
        effective_macs_every_step=mean_if_known([part.effective_macs_every_step for part in parts]),
        energy=estimate_energy(acs, first.macs_once, first.macs_every_step),
    )


def estimate_energy(acs: float, macs_once: float, macs_every_step: float) -> EnergyRange:
    """Estimate the energy of one sample's operations, from published constants of one process."""
    low, high = (
        (acs * AC_PICOJOULE + macs * MAC_PICOJOULE) / 1000 for macs in (macs_once, macs_every_step)
    )
    return EnergyRange(
        low_nanojoule=low,
        high_nanojoule=high,
        mac_picojoule=MAC_PICOJOULE,
        ac_picojoule=AC_PICOJOULE,
        source=ENERGY_SOURCE,
    )


def _check_counts(graph: Graph, counts: Mapping[str, Array]) -> int:
    """Check the counts against the graph; returns the number of samples. Raises DataError."""
    populations = graph.nodes_of(Population)
    missing = [node.name for node in populations if node.name not in counts]
    if missing or not populations:
        raise DataError(
            f"no spikes of {', '.join(missing) or 'any population'}: record spikes or counts"
        )
    sizes = set()
    for node in populations:
        array, shape = counts[node.name], graph.shape(node.name)
        if array.shape[1:] != shape:
            raise DataError(f"{node.name}: counts of shape {array.shape}; [B, *{shape}] is needed")
        if array.size and (array.min() < 0 or array.max() > graph.steps):
            raise DataError(
                f"{node.name}: counts from {array.min()} to {array.max()}; 0 to T = {graph.steps} "
                "is possible"
            )
        sizes.add(len(array))
    if len(sizes) != 1 or 0 in sizes:
        raise DataError(
            f"counts of {sorted(sizes)} samples: all must have the same number, at least 1"
        )
    return sizes.pop()


def _input_operations(
    graph: Graph, inputs: Array | None, outgoing: Mapping[str, Array], samples: int
) -> float | None:
    """Synapses that nonzero values of the input reach, per sample."""
    if inputs is None:
        return None
    values = check_inputs(graph, inputs)
    batch = values.shape[graph.input.batch_axis]
    if batch != samples:
        raise DataError(f"{batch} inputs for spikes of {samples} samples")
    reached = outgoing[graph.input.name]
    total = 0.0
    for node in dict.fromkeys(graph.consumers(graph.input.name)):
        if is_zero_point(graph, node):
            shift = node.arrays()["shift"].astype(np.float64)
            total += float(((values + shift != 0) * outgoing[node.name]).sum())
            reached = reached - outgoing[node.name]
    total += float(((values != 0) * reached).sum())
    return total / samples
