"""The scatter plots of a sweep: the figure of each point against one of its costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icsnn_deploy.report.page.document import Picture, Table
from icsnn_deploy.report.page.drawing import GOOD, INK, PAPER, SERIES, SOFT, drawn
from icsnn_deploy.sweeping.choice import COSTS
from icsnn_deploy.sweeping.options import FLOAT, Bits, Cost
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.rows import Measured, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ASIDE = 0.12  # between recipes at one T, in doublings
_MARKERS = "osD^vP*X<>hpd8"
_AXES: dict[Cost, tuple[str, float]] = {
    "steps": ("time steps T", 1.0),
    "operations": ("synaptic operations per sample, thousands", 1e-3),
    "memory": ("memory of the parameters, KiB", 1 / 8192),
}
"""Label of the axis, and what costs are multiplied by."""


def scatter(result: SweepResult, target: str, cost: Cost) -> Picture | None:
    """The points of a target against one cost, with the front and the recommended point.

    Colors are recipes, shapes are widths; points that do not fit are hollow. None if nothing could
    be measured.
    """
    rows = [(row, row.measured) for row in result.of_target(target)]
    measured = [(row, found) for row, found in rows if found is not None]
    if not measured:
        return None
    front = result.fronts[target, cost]
    chosen = next((row for row, _ in measured if result.is_recommended(row)), None)
    label, scale = _AXES[cost]

    def draw(axes: Axes) -> None:
        found = [(row.cost(cost) * scale, row.measured.value) for row in front if row.measured]
        axes.step(*zip(*found, strict=True), where="post", color=SOFT, linewidth=1.2, zorder=1)
        for row, own in measured:
            _point(axes, result, row, own, _place(result, row, cost, scale))
        if chosen is not None and chosen.measured is not None:
            axes.plot(
                [_place(result, chosen, cost, scale)],
                [chosen.measured.value],
                marker="o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=GOOD,
                markeredgewidth=2,
                linestyle="none",
                zorder=4,
            )
        allowed = measured[0][1].ann_value - result.options.max_loss
        axes.axhline(allowed, color=INK, linestyle=":", linewidth=1)
        axes.set_xlabel(label)
        axes.set_ylabel(f"{measured[0][1].figure}, %")
        if cost == "steps":
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({row.time_steps for row, _ in measured}))
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0f}")
            axes.minorticks_off()
        _legend(axes, result)

    svg = drawn(f"{target}-{cost}", draw, height=3.0 + 0.2 * _legend_lines(result))
    return Picture(
        svg=svg,
        caption=f"{measured[0][1].figure} against {COSTS[cost]}",
        alt=_alt(target, cost, len(measured), front, chosen),
        table=_front_table(front, cost, label, scale),
    )


def _place(result: SweepResult, row: Row, cost: Cost, scale: float) -> float:
    """Where a row is drawn; recipes stand side by side at each T, so that none hides another."""
    if cost != "steps":
        return row.cost(cost) * scale
    names = list(result.options.recipes)
    aside: float = _ASIDE * (names.index(row.recipe) - (len(names) - 1) / 2)
    return row.cost(cost) * scale * 2**aside


def _point(axes: Axes, result: SweepResult, row: Row, found: Measured, x: float) -> None:
    color = SERIES[list(result.options.recipes).index(row.recipe) % len(SERIES)]
    axes.plot(
        [x],
        [found.value],
        marker=_marker(result, row.bits),
        color=color,
        markersize=6,
        markerfacecolor=color if found.fits else PAPER,
        linestyle="none",
        zorder=3,
    )


def _marker(result: SweepResult, bits: Bits) -> str:
    return _MARKERS[result.options.bits.index(bits) % len(_MARKERS)]


def _legend_lines(result: SweepResult) -> int:
    return -(-(len(result.options.recipes) + len(result.options.bits)) // 3)


def _legend(axes: Axes, result: SweepResult) -> None:
    """Recipes by color, then widths by shape, above the plot."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SERIES[n % len(SERIES)], linewidth=4, label=name)
        for n, name in enumerate(result.options.recipes)
    ]
    handles += [
        Line2D(
            [],
            [],
            color=INK,
            marker=_marker(result, bits),
            linestyle="none",
            label=FLOAT if bits == FLOAT else f"{bits} bits",
        )
        for bits in result.options.bits
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3,
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=0.9,
        handletextpad=0.4,
    )


def _alt(target: str, cost: Cost, count: int, front: list[Row], chosen: Row | None) -> str:
    first, last = front[0], front[-1]
    assert first.measured is not None
    assert last.measured is not None
    text = (
        f"{count} points for {target} over {COSTS[cost]}. The front has {len(front)} "
        f"point{'s' * (len(front) > 1)}, from {first.measured.value:.2f} % "
        f"({_short(first)}) to {last.measured.value:.2f} % ({_short(last)})."
    )
    if chosen is not None and chosen.measured is not None:
        text += f" Recommended: {_short(chosen)}, {chosen.measured.value:.2f} %."
    return text


def _short(row: Row) -> str:
    width = FLOAT if row.bits == FLOAT else f"{row.bits} bits"
    return f"{row.recipe}, T = {row.time_steps}, {width}"


def _front_table(front: list[Row], cost: Cost, label: str, scale: float) -> Table:
    digits = 0 if cost == "steps" else 1
    rows = tuple(
        (
            _short(row),
            f"{row.cost(cost) * scale:,.{digits}f}",
            f"{row.measured.value:.2f}",
            f"{row.measured.loss:.2f}",
        )
        for row in front
        if row.measured is not None
    )
    return Table(
        caption=f"The front: what reaches most for its {COSTS[cost]}",
        columns=("point", label, "percent", "loss, points"),
        rows=rows,
        folded=True,
    )
