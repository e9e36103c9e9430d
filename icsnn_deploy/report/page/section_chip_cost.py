"""Latency and energy on a chip as a tool models them, beside the estimate from operations."""

from __future__ import annotations

from icsnn_deploy.evaluation.cost_record import ChipCost
from icsnn_deploy.report.chip_cost import cost_lines
from icsnn_deploy.report.page.document import Item, Table, Text, Tile
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.wording import energy, number, plural

_NANO = 1e9


def chip_cost_items(m: BundleMeasures) -> tuple[Item, ...]:
    """What the section on operations shows of a modelled cost; nothing where none was given."""
    cost = m.chip_cost
    if cost is None:
        return ()
    return (
        Table(
            caption=f"On {cost.target}, per sample, mean of {cost.images:,}; {cost.source}",
            columns=(
                "neurons per core",
                "cores",
                "latency",
                "energy",
                "of synapses",
                "of somas",
                "of the network on chip",
                "synaptic events",
            ),
            rows=tuple(
                (
                    f"{each.neurons_per_core:,}",
                    f"{each.cores:,}",
                    _latency(each.seconds),
                    energy(each.joules * _NANO),
                    energy(each.energy.synapse * _NANO),
                    energy(each.energy.soma * _NANO),
                    energy(each.energy.network * _NANO),
                    f"{each.synaptic_events:,.0f}",
                )
                for each in cost.placements
            ),
        ),
        _layers(cost),
        Text(lines=cost_lines(cost)),
    )


def chip_cost_tiles(m: BundleMeasures) -> tuple[Tile, ...]:
    """The figure of the summary; none where no cost was given."""
    cost = m.chip_cost
    if cost is None:
        return ()
    return (
        Tile(
            label=f"Energy per sample on {cost.target}, modelled",
            value=_span([each.joules for each in cost.placements]),
            note=f"by SANA-FE, {plural(len(cost.placements), 'placement')}; latency "
            + " to ".join(_ends([each.seconds for each in cost.placements])),
        ),
    )


def _layers(cost: ChipCost) -> Table:
    first = cost.placements[0]
    return Table(
        caption=f"Synapses into each layer, in the model, {first.neurons_per_core:,} neurons per "
        "core",
        columns=("layer", "synaptic events", "energy of synapses", "cores"),
        rows=tuple(
            (
                row.layer,
                f"{row.synaptic_events:,.0f}",
                energy(row.synapse_joules * _NANO),
                f"{row.cores:,}",
            )
            for row in first.layers
        ),
        folded=True,
    )


def _span(joules: list[float]) -> str:
    low, high = (energy(value * _NANO) for value in (min(joules), max(joules)))
    return low if low == high else f"{low} to {high}"


def _ends(seconds: list[float]) -> list[str]:
    """Shortest and longest, or the only one."""
    return list(dict.fromkeys(_latency(value) for value in (min(seconds), max(seconds))))


def _latency(seconds: float) -> str:
    return f"{number(seconds * 1e3)} ms"
