"""Operations, energy and memory, layer by layer."""

from __future__ import annotations

from icsnn_deploy.report.page.charts import Series, bars
from icsnn_deploy.report.page.document import Picture, Section, Table, pictures
from icsnn_deploy.report.page.drawing import SERIES
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.section_chip_cost import chip_cost_items
from icsnn_deploy.report.page.wording import large, percent, size
from icsnn_deploy.targets.resources import ResourceReport, count_resources

_STATE_BITS = 32  # of a potential of a float network


def operations_section(m: BundleMeasures, prefix: str) -> Section:
    """Operations and energy of a sample, mean over the samples."""
    a, energy = m.activity, m.activity.energy
    source = m.evaluation.graph.input.name
    sent = [(layer.layer, layer.acs, 0.0) for layer in a.layers]
    of_input = round(a.acs - sum(layer.acs for layer in a.layers), 3)  # of spikes of the input
    if a.macs_once or of_input:
        sent.insert(0, (source, of_input, a.macs_once))
    picojoule = [acs * energy.ac_picojoule + macs * energy.mac_picojoule for _, acs, macs in sent]
    rows = [
        (
            name,
            f"{acs:,.0f}" if acs or not macs else "",
            f"{macs:,.0f}" if macs else "",
            *_nanojoule(m, joule),
        )
        for (name, acs, macs), joule in zip(sent, picojoule, strict=True)
    ]
    names = [name for name, _, _ in sent]
    table = Table(
        caption="by the layer that sends; an analog input is counted once",
        columns=("layer", "ACs", "MACs", "energy (nJ)", "share"),
        rows=tuple(rows),
    )
    most, accumulates, _ = max(sent, key=lambda each: each[1])
    found: list[Picture | None] = [
        bars(
            f"{prefix}operations",
            names,
            [Series(label="", values=[acs + macs for _, acs, macs in sent])],
            axis="operations per sample",
            caption="Operations by the layer that sends",
            alt=f"most accumulates: {large(accumulates)} from {most}",
            table=table,
        ),
        bars(
            f"{prefix}energy",
            names,
            [Series(label="", values=[value / 1000 for value in picojoule], color=SERIES[4])],
            axis="energy per sample, nJ",
            caption="Estimated energy by the layer that sends",
            alt=f"{energy.low_nanojoule:,.1f} to {energy.high_nanojoule:,.1f} nJ in all",
            table=table,
        ),
    ]
    totals = Table(
        caption=f"Per sample; an estimate, not a measurement: {energy.source}",
        columns=("first layer of analog input", "MACs", "ACs", "energy (nJ)"),
        rows=(
            (
                "computed once",
                f"{a.macs_once:,.0f}",
                f"{a.acs:,.0f}",
                f"{energy.low_nanojoule:,.1f}",
            ),
            (
                "computed at every step",
                f"{a.macs_every_step:,.0f}",
                f"{a.acs:,.0f}",
                f"{energy.high_nanojoule:,.1f}",
            ),
        ),
    )
    return Section(
        anchor=f"{prefix}operations",
        title="Operations and energy",
        lead=(
            "AC: a spike is added over one synapse. MAC: an analog value is multiplied and added. "
            f"Activation sparsity {percent(a.activation_sparsity)}; every synapse at every step "
            f"would be {large(a.dense_operations)} operations."
        ),
        items=(totals, *chip_cost_items(m), *pictures(found)),
    )


def _nanojoule(m: BundleMeasures, picojoule: float) -> tuple[str, str]:
    low = m.activity.energy.low_nanojoule
    share = picojoule / 1000 / low if low else 0.0
    return f"{picojoule / 1000:,.2f}", percent(share)


def memory_section(m: BundleMeasures, prefix: str) -> Section:
    """Memory of weights and of the state, by layer."""
    r = resources(m)
    weights = [
        (each.node, each.kind, each.weights, each.weight_bits, each.memory_bits)
        for each in r.connections
    ]
    states = [
        (row.layer, row.neurons * (row.potential_bits or _STATE_BITS))
        for row in r.layers
        if row.kind == "population"
    ]
    table = Table(
        caption="weights and biases, each at the narrowest width that holds it",
        columns=("connection", "kind", "weights", "bits", "memory"),
        rows=tuple(
            (name, kind, f"{count:,}", str(bits), size(memory / 8))
            for name, kind, count, bits, memory in weights
        ),
        words=frozenset({0, 1}),
    )
    found: list[Picture | None] = []
    if weights:
        most = max(weights, key=lambda row: row[4])
        found.append(
            bars(
                f"{prefix}weights",
                [row[0] for row in weights],
                [Series(label="", values=[row[4] / 8192 for row in weights], color=SERIES[3])],
                axis="KiB",
                caption="Memory of weights and biases",
                alt=f"most in {most[0]}: {size(most[4] / 8)}",
                table=table,
            )
        )
    if states:
        most_state = max(states, key=lambda row: row[1])
        found.append(
            bars(
                f"{prefix}potentials",
                [name for name, _ in states],
                [Series(label="", values=[bits / 8192 for _, bits in states], color=SERIES[5])],
                axis="KiB",
                caption="Memory of the potentials",
                alt=f"most in {most_state[0]}: {size(most_state[1] / 8)}",
                table=Table(
                    caption="potentials, one per neuron",
                    columns=("population", "memory"),
                    rows=tuple((name, size(bits / 8)) for name, bits in states),
                ),
            )
        )
    return Section(
        anchor=f"{prefix}memory",
        title="Memory",
        lead=(
            f"{r.weights:,} weights; parameters {size(r.memory_bits / 8)} at the narrowest widths, "
            f"{size(r.footprint_bytes)} as the file stores them; potentials "
            f"{size(state_bytes(m))}, a register per neuron."
        ),
        items=pictures(found),
    )


def resources(m: BundleMeasures) -> ResourceReport:
    """What the network needs; the check of a target has counted it."""
    return m.targets[0].resources if m.targets else count_resources(m.evaluation.graph)


def state_bytes(m: BundleMeasures) -> float:
    """Bytes of all potentials."""
    rows = [row for row in resources(m).layers if row.kind == "population"]
    return sum(row.neurons * (row.potential_bits or _STATE_BITS) for row in rows) / 8
