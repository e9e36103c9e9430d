"""Charts that several sections draw: bars by layer, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from icsnn_deploy.report.page.document import Picture, Table
from icsnn_deploy.report.page.drawing import LINE, RULE, SERIES, SOFT, WIDTH, drawn
from icsnn_deploy.report.page.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THOUSANDS = 2000  # from here on, ticks have a unit prefix
_MOST_BARS = 200
_MARGIN = 0.62  # inches above and below the bars


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values that are drawn alike.

    Args:
        label: in the legend; empty for the only one.
        values: one per name; None draws nothing.
        color: of drawing.SERIES, GOOD, BAD.
    """

    label: str
    values: Sequence[float | None]
    color: str = SERIES[0]


def bars(
    name: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    axis: str,
    caption: str,
    alt: str,
    table: Table,
    stacked: bool = False,
    limit: tuple[float, float] | None = None,
) -> Picture:
    """Horizontal bars, one row per label.

    Args:
        name: of the picture.
        labels: of the rows, from top to bottom; shortened. Of many, the first are drawn.
        series: beside each other in each row, or with `stacked` one after the other.
        axis: label of the values, with their unit.
        caption, alt, table: of the picture.
        stacked: each series begins where the one before it ends.
        limit: of the axis.
    """
    if len(labels) > _MOST_BARS:
        caption = f"{caption}; the first {_MOST_BARS} of {len(labels):,}"
        labels = labels[:_MOST_BARS]
        series = [replace(each, values=each.values[:_MOST_BARS]) for each in series]
    count = 1 if stacked else max(len(series), 1)
    row = LINE if count == 1 else max(LINE, 0.13 * count + 0.07)
    legend = sum(bool(each.label) for each in series) > 1

    def draw(axes: Axes) -> None:
        thick = 0.72 / count
        starts = [0.0] * len(labels)
        for n, each in enumerate(series):
            values = [value or 0.0 for value in each.values]
            shift = 0.0 if stacked else (n - (count - 1) / 2) * thick
            places = [place + shift for place in range(len(labels))]
            left = starts if stacked else None
            axes.barh(places, values, thick, left=left, color=each.color, label=each.label or None)
            starts = [start + value for start, value in zip(starts, values, strict=True)]
        _rows(axes, labels)
        axes.set_xlabel(axis)
        if limit is not None:
            axes.set_xlim(*limit)
        if max((abs(end) for end in axes.get_xlim()), default=0) >= _THOUSANDS:
            from matplotlib.ticker import EngFormatter

            axes.xaxis.set_major_formatter(EngFormatter())
        if legend:
            _legend(axes, len(series))

    height = _MARGIN + row * len(labels) + (0.25 if legend else 0)
    svg = drawn(name, draw, height=max(height, 1.2))
    return Picture(svg=svg, caption=caption, alt=alt, table=table)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve with an optional band.

    Args:
        label: in the legend; empty for the only one.
        x, y: its points.
        color: of drawing.SERIES.
        band: lower and upper limits of the values.
        dashed: a line for comparison, without markers.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = SERIES[0]
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dashed: bool = False


def curves(
    name: str,
    found: Sequence[Curve],
    *,
    axes_labels: tuple[str, str],
    caption: str,
    alt: str,
    table: Table,
    whole_x: bool = False,
    log_y: bool = False,
    height: float = 2.5,
) -> Picture:
    """Curves over a common axis.

    Args:
        name: of the picture.
        found: the curves.
        axes_labels: of x and y, with their units.
        caption, alt, table: of the picture.
        whole_x: ticks at integers only.
        log_y: logarithmic axis.
        height: inches.
    """

    def draw(axes: Axes) -> None:
        for curve in found:
            style: dict[str, Any] = {"linestyle": "--"} if curve.dashed else {"marker": "o"}
            axes.plot(
                list(curve.x), list(curve.y), color=curve.color, label=curve.label or None, **style
            )
            if curve.band is not None:
                axes.fill_between(
                    list(curve.x),
                    list(curve.band[0]),
                    list(curve.band[1]),
                    color=curve.color,
                    alpha=0.2,
                    linewidth=0,
                )
        axes.set_xlabel(axes_labels[0])
        axes.set_ylabel(axes_labels[1])
        if whole_x:
            axes.locator_params(axis="x", integer=True)
        if log_y:
            axes.set_yscale("log")
        else:  # a fixed number of ticks: the layout must not change their labels
            axes.locator_params(axis="y", nbins=5)
        if sum(bool(curve.label) for curve in found) > 1:
            _legend(axes, len(found))

    svg = drawn(name, draw, width=WIDTH, height=height)
    return Picture(svg=svg, caption=caption, alt=alt, table=table)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(True, axis="x", color=RULE)


def _legend(axes: Axes, count: int) -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=min(count, 3),
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=0.9,
        handletextpad=0.4,
    )
