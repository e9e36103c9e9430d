"""A modelled cost as SANA-FE would give it, without SANA-FE."""

from __future__ import annotations

from icsnn_deploy.evaluation.cost_record import ChipCost, EnergyParts, LayerCost, PlacementCost


def placement(neurons_per_core: int, cores: int, seconds: float, joules: float) -> PlacementCost:
    """One placement; half of the energy is that of synapses."""
    return PlacementCost(
        neurons_per_core=neurons_per_core,
        cores=cores,
        seconds=seconds,
        joules=joules,
        energy=EnergyParts(synapse=joules / 2, dendrite=0.0, soma=joules / 4, network=joules / 4),
        synaptic_events=1234.0,
        counted_events=1234.0,
        repeated_events=0.0,
        packets=56.0,
        layers=(
            LayerCost(layer="if2", synaptic_events=1234.0, synapse_joules=joules / 2, cores=cores),
        ),
    )


def some_cost(graph_hash: str) -> ChipCost:
    """The cost of a network with two placements."""
    return ChipCost(
        tool="sanafe",
        target="loihi1",
        graph_hash=graph_hash,
        images=2,
        time_steps=6,
        on_host=("if1", "output"),
        spike_mismatches=0,
        spikes_compared=4096,
        placements=(placement(512, 1, 1.25e-3, 21e-6), placement(256, 2, 0.75e-3, 22e-6)),
    )
