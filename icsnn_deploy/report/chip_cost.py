"""The modelled cost of a network on a chip, as tables and lines for a terminal."""

from __future__ import annotations

from rich.table import Table

from icsnn_deploy.evaluation.cost_record import ChipCost, PlacementCost
from icsnn_deploy.report.plain import plain_table


def placements_table(cost: ChipCost) -> Table:
    """One row per placement."""
    table = plain_table(f"{cost.target}, per image, {cost.source} ({cost.images} images)")
    for column in (
        "neurons per core",
        "cores",
        "latency",
        "energy",
        "synapses",
        "somas",
        "network",
        "synaptic events",
        "packets",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for each in cost.placements:
        table.add_row(
            f"{each.neurons_per_core:,}",
            f"{each.cores:,}",
            f"{each.seconds * 1e3:.3g} ms",
            *(
                f"{joules * 1e6:.3g} uJ"
                for joules in (
                    each.joules,
                    each.energy.synapse,
                    each.energy.soma,
                    each.energy.network,
                )
            ),
            f"{each.synaptic_events:,.0f}",
            f"{each.packets:,.0f}",
        )
    return table


def layers_table(placement: PlacementCost) -> Table:
    """One row per population that the chip runs, with the synapses into it."""
    table = plain_table("synapses into each layer, per image")
    table.add_column("layer")
    for column in ("synaptic events", "energy of synapses", "cores"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in placement.layers:
        table.add_row(
            row.layer,
            f"{row.synaptic_events:,.0f}",
            f"{row.synapse_joules * 1e6:.3g} uJ",
            f"{row.cores:,}",
        )
    return table


def cost_lines(cost: ChipCost) -> tuple[str, ...]:
    """What the model leaves out, and how it was compared with the reference."""
    return (
        f"on the host, at no cost here: {', '.join(cost.on_host)}",
        f"{cost.spike_mismatches:,} of {cost.spikes_compared:,} spikes differ from the reference; "
        "all synaptic events are those of the network",
    )
