"""The page of a sweep, and the files that it writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from icsnn_deploy.bundle.manifest import json_bytes
from icsnn_deploy.report.page.document import (
    Page,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    Tone,
    pictures,
)
from icsnn_deploy.report.page.drawing import require_matplotlib
from icsnn_deploy.report.page.markdown import render_markdown
from icsnn_deploy.report.page.render import environment, render_page
from icsnn_deploy.sweeping.choice import COSTS, FRONT_COSTS, Choice
from icsnn_deploy.sweeping.folder import write_file
from icsnn_deploy.sweeping.options import FLOAT
from icsnn_deploy.sweeping.pictures import scatter
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.rows import Row
from icsnn_deploy.sweeping.step import verdict
from icsnn_deploy.sweeping.table import HEAD, cells, choice_lines


def check_packages() -> None:
    """Check, before anything is measured, that the page can be made.

    Raises:
        BackendUnavailableError: Jinja2 or matplotlib is not installed; names the command to run.
    """
    environment()
    require_matplotlib()


def write_files(result: SweepResult, out: Path, *, page: bool = True) -> list[Path]:
    """Write table.csv and table.json, and of the page report.html and report.md.

    Their bytes depend on what was measured alone.

    Args:
        result: of the sweep.
        out: an existing folder.
        page: write the page too, which needs matplotlib and Jinja2.

    Returns:
        The files.

    Raises:
        BackendUnavailableError: a package that pages are made with is missing.
        DataError: a file can't be written.
    """
    contents = {
        "table.csv": result.to_csv().encode(errors="replace"),
        "table.json": json_bytes(result.to_json()),
    }
    if page:
        built = sweep_page(result)
        contents["report.html"] = render_page(built).encode(errors="replace")
        contents["report.md"] = render_markdown(built).encode(errors="replace")
    for name, content in contents.items():
        write_file(out / name, content)
    return [out / name for name in contents]


def sweep_page(result: SweepResult) -> Page:
    """The page: the recommendations, and for each target its plots and its table."""
    grid = result.options
    software = result.about.get("software", "")
    return Page(
        title="Sweep: accuracy and cost",
        lead=f"{len(result.rows)} points: {_listed(grid.recipes)}; T = "
        f"{_listed(grid.time_steps)}; bits {_listed(grid.bits)}; for {_listed(grid.profiles)}.",
        sections=(
            _summary(result),
            *(_target(result, choice) for choice in result.choices),
            _legend(result),
        ),
        foot=f"{software}; ANN {result.about.get('ann', '')[:12]}, calibration "
        f"{result.about.get('calibration', '')[:12]}, samples {result.about.get('data', '')[:12]}",
    )


def _summary(result: SweepResult) -> Section:
    found = next((row.measured for row in result.rows if row.measured is not None), None)
    tiles = [
        Tile(
            label=f"ANN, {found.figure}" if found else "ANN",
            value=f"{found.ann_value:.2f} %" if found else "not measured",
            note=f"{result.images:,} images",
        )
    ]
    for choice in result.choices:
        row = choice.row
        if row is None or row.measured is None:
            tiles.append(Tile(label=choice.target, value="none", note="see below", tone="bad"))
        else:
            tiles.append(
                Tile(
                    label=f"{choice.target}: take",
                    value=_place(row),
                    note=f"{row.recipe}: {row.measured.value:.2f} %, loses "
                    f"{row.measured.loss:.2f} points",
                    tone="good",
                )
            )
    return Section(
        anchor="summary",
        title="Recommendation",
        lead=f"The point with the least {COSTS[result.options.cheapest]} of those that lose at "
        f"most {result.options.max_loss:g} points against the ANN and fit the target.",
        items=(Tiles(tiles=tuple(tiles)), Text(lines=tuple(choice_lines(result)))),
    )


def _target(result: SweepResult, choice: Choice) -> Section:
    drawings = [scatter(result, choice.target, cost) for cost in FRONT_COSTS]
    return Section(
        anchor=f"target-{list(result.options.profiles).index(choice.target)}",
        title=choice.target,
        lead=f"{result.options.profiles[choice.target].about}.".replace("..", "."),
        items=(*pictures(drawings), _table(result, choice.target)),
    )


def _table(result: SweepResult, target: str) -> Table:
    rows = result.of_target(target)
    return Table(
        caption=f"Every point for {target}; the recommended one is marked",
        columns=("recipe", *HEAD, "spikes", "front", "fits"),
        rows=tuple(
            (
                f"{row.recipe} (recommended)" if result.is_recommended(row) else row.recipe,
                *cells(row),
                _spikes(row),
                ", ".join(cost for cost in FRONT_COSTS if result.on_front(row, cost)),
                verdict(row),
            )
            for row in rows
        ),
        tones=tuple(_tone(result, row) for row in rows),
        words=frozenset({0, len(HEAD) + 2, len(HEAD) + 3}),
    )


def _legend(result: SweepResult) -> Section:
    found = next((row.measured for row in result.rows if row.measured is not None), None)
    few = found.activity_samples if found else 0
    return Section(
        anchor="columns",
        title="What the columns mean",
        items=(
            Text(
                lines=(
                    "bits: signed width of the weights; (4-8) where layers were narrowed, so that "
                    "the network certifies or fits.",
                    "loss: percentage points against the ANN, on the same images.",
                    f"operations: accumulations of spikes and multiplications of an analog input, "
                    f"computed once, per sample; mean of the first {few} images.",
                    "KiB: weights, biases, thresholds and initial potentials, each array at its "
                    "narrowest width.",
                    "nJ: an estimate from operation counts per sample, with the analog input "
                    "computed once and at every step; not a measurement.",
                    "front: the costs by which no other point that fits reaches as much for less. "
                    "In the plots: the line. Hollow points do not fit; the dotted line is what "
                    "may be lost.",
                )
            ),
        ),
    )


def _tone(result: SweepResult, row: Row) -> Tone:
    if result.is_recommended(row):
        return "good"
    return "open" if row.measured is None else ""


def _spikes(row: Row) -> str:
    found = row.measured
    return "" if found is None or found.spikes is None else f"{found.spikes:,.0f}"


def _place(row: Row) -> str:
    width = FLOAT if row.bits == FLOAT else f"{row.bits} bits"
    return f"T = {row.time_steps}, {width}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
