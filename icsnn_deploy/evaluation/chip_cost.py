"""Latency and energy of a network on a chip, as SANA-FE models it from the spikes of a run.

A model, not a measurement: SANA-FE's constants of Loihi are from SPICE simulations (Davies et al.,
"Loihi: a neuromorphic manycore processor with on-chip learning", IEEE Micro 2018). The populations
that an analog input drives, and the readout, are run by the host and cost nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.errors import DataError, SimulationError, TargetError
from icsnn_deploy.evaluation.cost_record import ChipCost, EnergyParts, LayerCost, PlacementCost
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, report_inner
from icsnn_deploy.targets.connectivity import arriving
from icsnn_deploy.tools.environment import find_tool
from icsnn_deploy.tools.simulator import ToolSimulator

TARGETS = ("loihi1",)
"""Targets that SANA-FE has a model of."""

CORE_NEURONS = 1024
"""Most neurons of a core, in SANA-FE's model of Loihi."""


def model_cost(
    bundle: Bundle | str | os.PathLike[str],
    inputs: Array | None = None,
    *,
    tool: str = "sanafe",
    target: str = "loihi1",
    neurons_per_core: Sequence[int] = (512,),
    progress: Progress = report_inner,
) -> ChipCost:
    """Model the latency and the energy of an integer network, for one or several placements.

    Args:
        bundle: the network, or the path of its bundle.
        inputs: [B, *shape], or [T, B, *shape] for rate and event input; default: the bundle's
            samples.
        tool: "sanafe".
        target: "loihi1".
        neurons_per_core: each entry is a placement: a population is placed on cores of its own,
            this many neurons on each.
        progress: called with the number of images that are done.

    Raises:
        TargetError: another tool or target, or a number of neurons that no core has.
        BackendUnavailableError: the tool's environment is missing; names the command to run.
        GraphError: the network is no integer network, or too large for the tool.
        SimulationError: the tool fails, or its spikes or events are not those of the network.
    """
    if tool != "sanafe" or target not in TARGETS:
        raise TargetError(
            f"tool {tool!r}, target {target!r}: sanafe models {', '.join(TARGETS)} here"
        )
    for size in neurons_per_core:
        if not 1 <= size <= CORE_NEURONS:
            raise TargetError(f"{size} neurons per core: 1 to {CORE_NEURONS} is possible")
    opened = as_bundle(bundle)
    network = opened.network()
    x = to_input_units(network, opened.samples() if inputs is None else inputs)
    if not neurons_per_core or x.shape[network.input.batch_axis] == 0:
        raise DataError("a number of neurons per core, and at least one image, are needed")
    expected = ReferenceSimulator(network).run(x)
    placements = []
    compared = mismatches = 0
    on_host: tuple[str, ...] = ()
    for size in neurons_per_core:
        simulator = ToolSimulator(
            network,
            find_tool(tool),
            settings={"neurons_per_core": size},
            progress=progress,
        )
        recording, result = simulator.run_with_costs(x)
        on_host = tuple(each.name for each in simulator.circuit.neurons if each.on_host)
        for name, spikes in recording.spikes.items():
            compared += spikes.size
            mismatches += int((spikes != expected.spikes[name]).sum())
        placements.append(_placement(size, result.report, _count_events(simulator, expected, x)))
    if mismatches:
        raise SimulationError(
            f"SANA-FE: {mismatches:,} of {compared:,} spikes are not those of the network"
        )
    return ChipCost(
        tool=tool,
        target=target,
        graph_hash=opened.graph_hash,
        images=x.shape[network.input.batch_axis],
        time_steps=network.steps,
        on_host=(*on_host, network.output.name),
        spike_mismatches=mismatches,
        spikes_compared=compared,
        placements=tuple(placements),
    )


def _count_events(simulator: ToolSimulator, expected: Recording, x: Array) -> dict[str, int]:
    """Synaptic events into each population that the chip runs, from the network and its spikes."""
    graph = simulator.graph
    sent = {name: s.sum(axis=(0, 1), dtype=np.int64) for name, s in expected.spikes.items()}
    timed = graph.input.is_timed
    sent[graph.input.name] = (
        x.sum(axis=(0, 1), dtype=np.int64) if timed else np.zeros(graph.input.shape)
    )
    found = arriving(graph, sent)
    run = [each.name for each in simulator.circuit.neurons if not each.on_host]
    return {name: int(found[name].sum()) for name in run}


def _placement(size: int, report: Mapping[str, Any], counted: dict[str, int]) -> PlacementCost:
    """The means over the images of one run; raises SimulationError if the events differ."""
    images, cores = report["images"], report["cores"]

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    repeated = sum(each["repeated_events"] for each in images)
    total = sum(each["synaptic_events"] for each in images)
    if total - repeated != sum(counted.values()):
        raise SimulationError(
            f"SANA-FE counts {total - repeated:,} synaptic events, the network has "
            f"{sum(counted.values()):,}"
        )
    joules = {part: mean([each["joules"][part] for each in images]) for part in images[0]["joules"]}
    total_joules = joules.pop("total")
    energy = EnergyParts(**joules)
    each_event = energy.synapse * len(images) / max(total, 1)
    layers = [
        LayerCost(
            layer=name,
            synaptic_events=events / len(images),
            synapse_joules=each_event * events / len(images),
            cores=cores[name],
        )
        for name, events in counted.items()
    ]
    return PlacementCost(
        neurons_per_core=size,
        cores=sum(cores.values()),
        seconds=mean([each["seconds"] for each in images]),
        joules=total_joules,
        energy=energy,
        synaptic_events=(total - repeated) / len(images),
        counted_events=sum(counted.values()) / len(images),
        repeated_events=repeated / len(images),
        packets=mean([each["packets"] for each in images]),
        layers=tuple(layers),
    )
