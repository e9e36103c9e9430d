"""Whether the network fits each hardware target: cores as a floor plan, and what is over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from icsnn_deploy.progress import inner_tracked
from icsnn_deploy.report.page.document import (
    Item,
    Picture,
    Section,
    Table,
    Text,
    Tone,
    pictures,
)
from icsnn_deploy.report.page.drawing import BAD, INK, RULE, SERIES, drawn
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.wording import percent, plural
from icsnn_deploy.targets.allocate import Allocation
from icsnn_deploy.targets.check import CheckResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 12
_CELL = 0.262  # inches
_MOST_CELLS = 264
"""Cores that are drawn, at most."""

_MOST_MISFITS = 60
_SHOWN = 12  # misfits that are not folded


def targets_section(m: BundleMeasures, prefix: str) -> Section:
    """A part for each target."""
    note = "" if m.certificate else " Widths are checked for integer networks only."
    return Section(
        anchor=f"{prefix}targets",
        title="Hardware targets",
        lead=f"What the network needs against the limits of each chip.{note}",
        sections=tuple(
            _target(each, prefix) for each in inner_tracked(m.targets, "pictures of targets")
        ),
    )


def _target(result: CheckResult, prefix: str) -> Section:
    name = result.profile.name
    tone: Tone = "good" if result.ok else "bad"
    summary = result.summary()
    items: list[Item] = [Text(lines=(f"{summary[:1].upper()}{summary[1:]}.",), tone=tone)]
    if result.misfits:
        items.append(_misfits(result))
    if result.allocation is not None and result.allocation.placements:
        items += pictures([_floor_plan(result, result.allocation, prefix)])
        items.append(_layers(result.allocation))
    if result.notes:
        items.append(Text(lines=result.notes))
    return Section(
        anchor=f"{prefix}target-{name}",
        title=f"{name}: {'fits' if result.ok else 'does not fit'}",
        lead=result.profile.about,
        items=tuple(items),
    )


def _misfits(result: CheckResult) -> Table:
    shown = result.misfits[:_MOST_MISFITS]
    more = len(result.misfits) - len(shown)
    return Table(
        caption="What does not fit" + (f"; {more:,} more are not shown" if more else ""),
        columns=("node", "what", "got", "allowed", "over", "remedy"),
        rows=tuple((x.node, x.what, x.got, x.allowed, x.over, x.remedy) for x in shown),
        words=frozenset({0, 1, 2, 3, 4, 5}),
        folded=len(shown) > _SHOWN,
    )


def _floor_plan(result: CheckResult, allocation: Allocation, prefix: str) -> Picture:
    cells = _cells(allocation)
    count = max(allocation.cores_available, len(cells))
    drawn_cells = min(count, _MOST_CELLS)
    rows = math.ceil(drawn_cells / _COLUMNS)

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for n in range(drawn_cells):
            x, y = n % _COLUMNS, n // _COLUMNS
            layer = cells[n] if n < len(cells) else None
            over = n >= allocation.cores_available
            if layer is not None:
                color = SERIES[layer % len(SERIES)]
                axes.add_patch(Rectangle((x, y), 0.9, 0.9, facecolor=color, alpha=0.3, linewidth=0))
                axes.text(x + 0.45, y + 0.47, str(layer + 1), ha="center", va="center", color=INK)
            axes.add_patch(
                Rectangle(
                    (x, y),
                    0.9,
                    0.9,
                    facecolor="none",
                    edgecolor=BAD if over else RULE,
                    linewidth=1.4 if over else 0.8,
                )
            )
        axes.set_xlim(-0.05, _COLUMNS)
        axes.set_ylim(rows, -0.05)
        axes.axis("off")

    over = max(0, len(cells) - allocation.cores_available)
    hidden = count - drawn_cells
    caption = f"Cores of {result.profile.name}: the number of the layer on each"
    if over:
        caption += "; framed in red: more than the chip has"
    if hidden:
        caption += f"; {hidden:,} more are not drawn"
    return Picture(
        svg=drawn(
            f"{prefix}cores-{result.profile.name}",
            draw,
            width=_COLUMNS * _CELL + 0.1,
            height=rows * _CELL + 0.1,
        ),
        caption=caption,
        alt=f"{plural(allocation.cores_used, 'core')} used of {allocation.cores_available:,}"
        + (f", {over:,} too many" if over else ""),
        table=Table(
            caption="number of each layer",
            columns=("layer", "number", "cores"),
            rows=tuple(
                (p.layer, str(n), f"{p.cores:,}")
                for n, p in enumerate(allocation.placements, start=1)
            ),
        ),
    )


def _layers(allocation: Allocation) -> Table:
    """The key of the floor plan, and the scarcest resource of each layer."""
    return Table(
        caption="Layers on cores, with the resource that decides how many cores each needs",
        columns=("layer", "number", "cores", "resource", "needs", "core has", "full"),
        rows=tuple(
            (
                p.layer,
                str(n),
                f"{p.cores:,}" if p.core is None else f"core {p.core}",
                p.resource,
                f"{p.need:,}",
                f"{p.limit:,}",
                percent(p.share, 0),
            )
            for n, p in enumerate(allocation.placements, start=1)
        ),
        words=frozenset({0, 3}),
    )


def _cells(allocation: Allocation) -> list[int | None]:
    """The layer on each core, by the number of the core; None for a free one between others."""
    placements = allocation.placements
    if any(p.core is not None for p in placements):
        cells: list[int | None] = [None] * allocation.cores_available
        for n, p in enumerate(placements):
            if p.core is not None:
                cells[p.core] = n
        return cells
    found: list[int | None] = []
    for n, p in enumerate(placements):
        found += [n] * min(p.cores, _MOST_CELLS + 1)
    return found
