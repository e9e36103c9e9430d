"""The cells of one network as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accuracy_published import PUBLISHED
from accuracy_recipes import PUBLISHED_RECIPES, READINGS
from accuracy_rows import Cell, Cells, usual_weight, weight


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What stands above a table: how to make it again."""

    command: str
    files: Mapping[str, str]  # name: sha256
    machine: str
    software: str
    network: str  # as papers call it


def markdown(cells: Cells, about: Circumstances) -> str:
    """All tables with what they were made of."""
    usual = usual_weight(cells)
    others = sorted({*map(weight, cells.values())} - {usual})
    marks = {kind: f"<sup>{chr(97 + i)}</sup>" for i, kind in enumerate(others)}
    readings = [name for name in READINGS if any(row == name for row, _ in cells)]
    own = [name for name in dict.fromkeys(row for row, _ in cells) if name not in READINGS]
    order = {name: place for place, name in enumerate(PUBLISHED_RECIPES)}
    own.sort(key=lambda name: order.get(name, -1))  # what is not in a paper comes first
    parts = [
        _header(about, cells, usual, marks),
        "Loss: accuracy of the ANN minus accuracy of the network on the same images, points.\n",
        _table(cells, own, lambda cell: f"{cell.loss:.1f}", marks, seconds=True),
        *_readings(cells, readings, marks),
        "Accuracy, percent.\n",
        _table(cells, [*own, *readings], lambda cell: f"{cell.accuracy:.1f}", marks, seconds=False),
        "Published losses on CIFAR-10, and what differs from the measurement above.\n",
        _published(cells, about.network),
    ]
    return "\n".join(parts)


def _readings(cells: Cells, names: list[str], marks: Mapping[tuple[int, int], str]) -> list[str]:
    """Their table with its heading; nothing where none was measured."""
    if not names:
        return []
    return [
        "The readings of IC-SNN's algorithms, all with the 0.99 quantile: loss, points.\n",
        _table(cells, names, lambda cell: f"{cell.loss:.1f}", marks, seconds=False),
    ]


def _header(
    about: Circumstances,
    cells: Cells,
    usual: tuple[int, int],
    marks: Mapping[tuple[int, int], str],
) -> str:
    ann = {cell.images: cell.ann_accuracy for cell in cells.values()}
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
    show: Callable[[Cell], str],
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
            row.append("" if cell is None else show(cell) + marks.get(weight(cell), ""))
        if seconds:
            spent = [cells[name, t].convert_s for t in steps if (name, t) in cells]
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
