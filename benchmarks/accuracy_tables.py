"""The cells of one network as tables: Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accuracy_cells import Key, Result
from accuracy_published import PUBLISHED
from accuracy_recipes import PUBLISHED_RECIPES, READINGS, describe, recipe_of

Cell = tuple[Key, Result]
Cells = Mapping[tuple[str, int], Cell]
"""By row and T."""

COLUMNS = (
    *("recipe", "T", "loss", "accuracy", "ann_accuracy", "agreement", "images"),
    *("calibration_samples", "convert_s", "run_s", "converted_at", "method"),
)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What stands above a table: how to make it again."""

    command: str
    files: Mapping[str, str]  # name: sha256
    machine: str
    software: str
    network: str  # as papers call it


def choose(found: list[Cell], names: list[str]) -> dict[tuple[str, int], Cell]:
    """Which cell stands in each place: the one on most images, then with most calibration samples.

    Args:
        found: cells of one network and one data set.
        names: rows to look for, beside those that were measured.
    """
    rows = dict.fromkeys(
        [*PUBLISHED_RECIPES, *READINGS, *names, *(result.name for _, result in found)]
    )
    chosen: dict[tuple[str, int], Cell] = {}
    for key, result in found:
        for name in rows:
            if not name or describe(recipe_of(name, key.time_steps)) != key.recipe:
                continue
            place = (name, key.time_steps)
            if place not in chosen or _weight((key, result)) > _weight(chosen[place]):
                chosen[place] = (key, result)
    return chosen


def _weight(cell: Cell) -> tuple[int, int]:
    return cell[0].limit, cell[0].calibration_samples


def markdown(cells: Cells, about: Circumstances) -> str:
    """All tables with what they were made of."""
    samples = Counter(_weight(cell) for cell in cells.values())
    usual = samples.most_common(1)[0][0]
    marks = {
        weight: f"<sup>{chr(97 + i)}</sup>" for i, weight in enumerate(sorted({*samples} - {usual}))
    }
    readings = [name for name in READINGS if any(row == name for row, _ in cells)]
    own = [name for name in dict.fromkeys(row for row, _ in cells) if name not in READINGS]
    order = {name: place for place, name in enumerate(PUBLISHED_RECIPES)}
    own.sort(key=lambda name: order.get(name, -1))  # what is not in a paper comes first
    parts = [
        _header(about, cells, usual, marks),
        "Loss: accuracy of the ANN minus accuracy of the network on the same images, points.\n",
        _table(cells, own, lambda result: f"{result.loss:.1f}", marks, seconds=True),
        "The readings of IC-SNN's algorithms, all with the 0.99 quantile: loss, points.\n",
        _table(cells, readings, lambda result: f"{result.loss:.1f}", marks, seconds=False),
        "Accuracy, percent.\n",
        _table(
            cells, [*own, *readings], lambda result: f"{result.accuracy:.1f}", marks, seconds=False
        ),
        "Published losses on CIFAR-10, and what differs from the measurement above.\n",
        _published(cells, about.network),
    ]
    return "\n".join(parts)


def _header(
    about: Circumstances,
    cells: Cells,
    usual: tuple[int, int],
    marks: Mapping[tuple[int, int], str],
) -> str:
    ann = {key.limit: result.ann_accuracy for key, result in cells.values()}
    lines = [f"    {about.command}", ""]
    lines += [f"- `{name}` sha256 `{digest}`" for name, digest in about.files.items()]
    lines += [f"- {about.machine}; {about.software}"]
    lines += [f"- {usual[0]:,} images (ANN {ann[usual[0]]:.2f} %), {usual[1]:,} calibration images"]
    lines += [
        f"- {mark}: {limit:,} images (ANN {ann[limit]:.2f} %), {samples:,} calibration images"
        for (limit, samples), mark in marks.items()
    ]
    return "\n".join([*lines, ""])


def _table(
    cells: Cells,
    names: list[str],
    show: Callable[[Result], str],
    marks: Mapping[tuple[int, int], str],
    *,
    seconds: bool,
) -> str:
    """One row a recipe, one column a number of steps."""
    steps = sorted({t for _, t in cells})
    head = ["recipe", *(f"T={t}" for t in steps), *(["conversion, s"] if seconds else [])]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    for name in names:
        row = [f"`{name}`"]
        for t in steps:
            cell = cells.get((name, t))
            row.append("" if cell is None else show(cell[1]) + marks.get(_weight(cell), ""))
        if seconds:
            spent = [cells[name, t][1].convert_s for t in steps if (name, t) in cells]
            row.append(" to ".join(dict.fromkeys(f"{s:.0f}" for s in (min(spent), max(spent)))))
        lines.append(_line(row))
    return "\n".join([*lines, ""])


def _published(cells: Cells, network: str) -> str:
    steps = sorted({t for _, t in cells})
    lines = [
        _line(["method", "network", "ANN", *(f"T={t}" for t in steps), "differs"]),
        "|---|---|---:|" + "---:|" * len(steps) + "---|",
    ]
    for row in PUBLISHED:
        if row.network == network:
            losses = [f"{row.losses[t]:.2f}" if t in row.losses else "" for t in steps]
            lines.append(_line([row.method, row.network, f"{row.ann}", *losses, row.differs]))
    return "\n".join([*lines, ""])


def _line(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |".replace("|  |", "| |").replace("|  |", "| |")


def as_csv(cells: Cells) -> str:
    """One line a cell, with everything that is known of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (name, t), (key, result) in sorted(cells.items()):
        writer.writerow(
            [
                name,
                t,
                f"{result.loss:.2f}",
                f"{result.accuracy:.2f}",
                f"{result.ann_accuracy:.2f}",
                f"{100 * result.agree / result.images:.2f}",
                result.images,
                key.calibration_samples,
                result.convert_s,
                result.run_s,
                result.converted_at,
                result.method,
            ]
        )
    return text.getvalue()


def put_into(text: str, name: str, tables: str) -> str:
    """A document with the tables between its comments `<!-- begin NAME -->`, `<!-- end NAME -->`.

    Raises:
        ValueError: the document does not have the two comments once each, in this order.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"needs the lines {begin} and {end}, once each, in this order")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{tables.rstrip()}\n{end}{after}"
