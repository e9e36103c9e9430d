"""Targets, resources, misfits and activity as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from icsnn_deploy.errors import listed
from icsnn_deploy.evaluation.activity import Activity
from icsnn_deploy.report.plain import plain_table
from icsnn_deploy.targets.allocate import Allocation
from icsnn_deploy.targets.check import CheckResult
from icsnn_deploy.targets.misfit import Misfit
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import ResourceReport


def targets_table(profiles: Iterable[TargetProfile]) -> Table:
    """One row per target; uncertain numbers are marked."""
    table = plain_table("targets; ? marks uncertain numbers, which icsnn check --set overrides")
    table.add_column("target", no_wrap=True)
    table.add_column("about")
    for column in ("weights", "potentials", "cores"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("v_threshold", no_wrap=True)
    table.add_column("input", no_wrap=True)
    for profile in profiles:
        cores = profile.cores
        if profile.kernel_words is not None:
            cores = len(profile.kernel_words)
        table.add_row(
            profile.name,
            profile.about,
            _number(profile, "weight_bits", profile.weight_bits, " bits"),
            _number(profile, "potential_bits", profile.potential_bits, " bits"),
            _number(profile, "cores", cores, ""),
            f"per {profile.threshold_granularity}",
            "analog" if profile.analog_input else "spikes",
        )
    return table


def resources_table(report: ResourceReport) -> Table:
    """One row per population, one for the readout; totals in the title."""
    table = plain_table(
        f"{report.neurons:,} neurons, {report.synapses:,} synapses "
        f"({report.synapses_dense:,} dense), {report.weights:,} weights, "
        f"connection sparsity {report.connection_sparsity:.1%}, "
        f"footprint {report.footprint_bytes:,} bytes"
    )
    table.add_column("layer")
    for column in ("shape", "neurons", "synapses", "fan-in", "fan-out", "weights", "potential"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.layers:
        bits = "float" if row.potential_bits is None else f"{row.potential_bits} bits"
        table.add_row(
            row.layer,
            "x".join(map(str, row.shape)),
            f"{row.neurons:,}",
            f"{row.synapses:,}",
            f"{row.fan_in:,}",
            f"{row.fan_out:,}" if row.fan_out else "",
            f"{row.weight_bits} bits",
            bits,
        )
    return table


def misfits_table(result: CheckResult) -> Table:
    """One row per misfit, with its remedy; those with the same remedy are one row."""
    table = plain_table(result.summary())
    table.add_column("node", overflow="fold")
    table.add_column("what", overflow="fold")
    for column in ("got", "allowed"):
        table.add_column(column, overflow="fold")
    table.add_column("over")
    table.add_column("remedy", overflow="fold", ratio=1)
    groups: dict[tuple[str, str, str], list[Misfit]] = {}
    for misfit in result.misfits:
        groups.setdefault((misfit.what, misfit.allowed, misfit.remedy), []).append(misfit)
    for (what, allowed, remedy), misfits in groups.items():
        node, got, over = (
            listed([getattr(misfit, field) for misfit in misfits], most)
            for field, most in (("node", 6), ("got", 2), ("over", 2))
        )
        table.add_row(node, what, got, allowed, over, remedy)
    return table


def allocation_table(allocation: Allocation) -> Table:
    """One row per layer on the chip, with its fullest resource."""
    table = plain_table(f"{allocation.cores_used} of {allocation.cores_available} cores")
    table.add_column("layer")
    table.add_column("cores", justify="right", no_wrap=True)
    table.add_column("tightest")
    for column in ("needs", "core has", "full"):
        table.add_column(column, justify="right", no_wrap=True)
    for p in allocation.placements:
        table.add_row(
            p.layer,
            f"{p.cores}" if p.core is None else f"number {p.core}",
            p.resource,
            f"{p.need:,}",
            f"{p.limit:,}",
            f"{p.share:.0%}",
            style="bold" if p == allocation.bottleneck else None,
        )
    return table


def activity_table(activity: Activity) -> Table:
    """One row per population; numbers are means over the samples."""
    table = plain_table(
        f"per sample, mean of {activity.samples}, T = {activity.time_steps}; "
        f"activation sparsity {activity.activation_sparsity:.1%}"
    )
    table.add_column("layer")
    for column in ("neurons", "spikes", "firing rate", "ACs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in activity.layers:
        table.add_row(
            row.layer,
            f"{row.neurons:,}",
            f"{row.spikes:,.1f}",
            f"{row.firing_rate:.1%}",
            f"{row.acs:,.0f}",
        )
    return table


def energy_table(activity: Activity) -> Table:
    """Operations and their estimated energy, with the constants in the title."""
    energy = activity.energy
    table = plain_table(f"per sample; an estimate, not a measurement: {energy.source}")
    table.add_column("analog first layer")
    for column in ("MACs", "ACs", "energy (nJ)"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = [("computed once", activity.macs_once, energy.low_nanojoule)]
    if activity.macs_every_step != activity.macs_once:
        rows.append(("at every step", activity.macs_every_step, energy.high_nanojoule))
    for label, macs, nanojoule in rows:
        table.add_row(
            label if macs else "none", f"{macs:,.0f}", f"{activity.acs:,.0f}", f"{nanojoule:,.1f}"
        )
    return table


def _number(profile: TargetProfile, field: str, value: int | None, unit: str) -> str:
    if value is None:
        return "no limit"
    return f"{value:,}{unit}{' ?' if field in profile.uncertain else ''}"
