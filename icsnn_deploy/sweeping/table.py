"""The table of a sweep for a terminal."""

from __future__ import annotations

from rich.table import Table

from icsnn_deploy.report.plain import plain_table
from icsnn_deploy.sweeping.choice import FRONT_COSTS
from icsnn_deploy.sweeping.options import FLOAT
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.rows import Row
from icsnn_deploy.sweeping.step import verdict


def target_table(result: SweepResult, target: str) -> Table:
    """One row per point of a target; its front and its recommended point are marked."""
    rows = result.of_target(target)
    table = plain_table(_title(rows, result.images, target))
    for column in ("", "recipe"):
        table.add_column(column, no_wrap=True)
    for column in HEAD:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("front", max_width=18)
    table.add_column("fits", min_width=24)
    for row in rows:
        chosen = result.is_recommended(row)
        fronts = ", ".join(cost for cost in FRONT_COSTS if result.on_front(row, cost))
        table.add_row(
            "*" if chosen else "",
            row.recipe,
            *cells(row),
            fronts,
            verdict(row),
            style="bold" if chosen else None,
        )
    return table


HEAD = ("T", "bits", "percent", "loss", "operations", "KiB", "nJ")
"""Heads of the columns of `cells`."""


def cells(row: Row) -> tuple[str, ...]:
    """The numbers of a row as text; empty where it was not measured."""
    found = row.measured
    if found is None:
        return (str(row.time_steps), str(row.bits), *("",) * (len(HEAD) - 2))
    narrowed = "" if found.narrowest == found.widest else f" ({found.narrowest}-{found.widest})"
    width = FLOAT if row.bits == FLOAT else f"{row.bits}{narrowed}"
    return (
        str(row.time_steps),
        width,
        f"{found.value:.2f}",
        f"{found.loss:.2f}",
        f"{found.operations:,.0f}",
        f"{found.memory_bits / 8192:,.1f}",
        f"{found.low_nanojoule:,.0f} to {found.high_nanojoule:,.0f}",
    )


def choice_lines(result: SweepResult) -> list[str]:
    """The recommendation for each target, one line each."""
    lines = []
    for choice in result.choices:
        row = choice.row
        if row is None or row.measured is None:
            lines.append(f"{choice.target}: no recommendation: {choice.reason}")
        else:
            width = "float" if row.bits == FLOAT else f"{row.bits} bits"
            lines.append(
                f"{choice.target}: take {row.recipe}, T = {row.time_steps}, {width}: "
                f"{row.measured.value:.2f} %, {choice.reason}; bundle {row.measured.folder}"
            )
    return lines


def _title(rows: list[Row], images: int, target: str) -> str:
    found = next((row.measured for row in rows if row.measured is not None), None)
    if found is None:
        return f"{target}: nothing could be measured"
    return (
        f"{target}: {found.figure} on {images:,} images, ANN {found.ann_value:.2f} %; operations "
        f"and energy per sample, on {found.activity_samples}; * recommended"
    )
