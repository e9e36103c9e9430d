"""The figures: accuracy over T, first spikes by layer, outputs beside activations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from icsnn_deploy.conversion.calibration.recipe import RECIPES

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe-Ito
MARKERS = "osD^vPX"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}
Layers = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""Layer figures by recipe and T (accuracy_layers.layers_of)."""


def accuracy_figure(
    path: Path, accuracies: Mapping[str, Mapping[int, float]], ann: float, title: str
) -> None:
    """Accuracy over T: the recipes on the left, the readings of IC-SNN's algorithms on the right.

    Args:
        path: .png.
        accuracies: percent, by row and T.
        ann: percent.
        title: the network and the data.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        recipes = [name for name in accuracies if name in RECIPES or name.startswith("auto")]
        readings = [name for name in accuracies if name not in recipes]
        for axes, names, label in (
            (left, recipes, "Recipes"),
            (right, readings, "Readings of IC-SNN's algorithms"),
        ):
            _over_time(axes, {name: accuracies[name] for name in names}, ann)
            axes.set_title(label, loc="left", fontsize=10)
        left.set_ylabel("top-1 accuracy (%)")
        left.set_ylim(0, 100)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.savefig(path, dpi=110)


def _over_time(axes: Axes, accuracies: Mapping[str, Mapping[int, float]], ann: float) -> None:
    axes.axhline(ann, color="#555555", linestyle="--", linewidth=1, label=f"ANN, {ann:.1f} %")
    for number, (name, by_steps) in enumerate(accuracies.items()):
        steps = sorted(by_steps)
        axes.plot(
            steps,
            [by_steps[t] for t in steps],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle="-" if number < len(COLORS) else ":",
            label=name,
        )
    every = sorted({t for by_steps in accuracies.values() for t in by_steps})
    axes.set_xscale("log", base=2)
    axes.set_xticks(every, [str(t) for t in every])
    axes.set_xlabel("time steps T")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8)


def first_spikes_figure(path: Path, layers: Layers, time_steps: int, title: str) -> None:
    """Mean first-spike time of the neurons that fire, and the share that does not, by layer."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for number, (name, by_steps) in enumerate(layers.items()):
            entries = list(by_steps[time_steps].values())
            x = range(1, len(entries) + 1)
            look: dict[str, Any] = {
                "color": COLORS[number % len(COLORS)],
                "marker": MARKERS[number % len(MARKERS)],
                "label": name,
            }
            mean = [float("nan") if e["first_spike"] is None else e["first_spike"] for e in entries]
            above.plot(x, mean, **look)
            below.plot(x, [100 * e["silent"] for e in entries], **look)
        above.set_ylabel("mean first spike (step)")
        above.set_ylim(bottom=0)
        below.set_ylabel("silent neurons (%)")
        below.set_ylim(0, 100)
        below.set_xlabel("layer")
        below.set_xticks(list(x))
        above.legend(ncols=3, loc="upper left", fontsize=8)
        figure.suptitle(
            f"{title}: first spikes, T = {time_steps}, silent neurons left out of the mean",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        figure.savefig(path, dpi=110)


def outputs_figure(path: Path, layers: Layers, title: str) -> None:
    """Output against activation in the first and the third layer, and R^2 of every layer."""
    with mpl.rc_context(STYLE):
        every = sorted({t for by_steps in layers.values() for t in by_steps})
        figure = Figure(figsize=(10.5, 3.1 * len(every)), layout="constrained")
        grid = figure.subplots(len(every), 3, squeeze=False)
        for row, t in zip(grid, every, strict=True):
            for axes, place in zip(row[:2], (0, 2), strict=True):
                _scatter(axes, layers, t, place)
            _fits(row[2], layers, t)
        grid[0][0].legend(fontsize=8, markerscale=3)
        grid[0][2].legend(fontsize=8)
        for axes in grid[-1][:2]:
            axes.set_xlabel("ANN activation")
        grid[-1][2].set_xlabel("layer")
        figure.suptitle(
            f"{title}: output v_threshold * spikes / T beside the ANN's activation "
            "(recipes are drawn a little apart)",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        figure.savefig(path, dpi=110)


def _scatter(axes: Axes, layers: Layers, t: int, place: int) -> None:
    largest = 0.0
    for number, (name, by_steps) in enumerate(layers.items()):
        entries = list(by_steps[t].values())
        entry = entries[min(place, len(entries) - 1)]
        activations, outputs = entry["points"]
        largest = max(largest, *activations)
        # Outputs take T + 1 values: recipes on the same value would hide each other.
        apart = (number - (len(layers) - 1) / 2) * 0.2 * min(filter(None, outputs), default=0)
        axes.plot(
            activations,
            [output + apart for output in outputs],
            ".",
            markersize=3,
            alpha=0.6,
            color=COLORS[number % len(COLORS)],
            label=name,
        )
    axes.plot([0, largest], [0, largest], color="#555555", linewidth=0.8)
    axes.set_title(f"layer {place + 1}, T = {t}", loc="left", fontsize=10)
    axes.set_ylabel("output")


def _fits(axes: Axes, layers: Layers, t: int) -> None:
    for number, (name, by_steps) in enumerate(layers.items()):
        fits = [entry["r_squared"] for entry in by_steps[t].values()]
        axes.plot(
            range(1, len(fits) + 1),
            [float("nan") if fit is None else max(fit, -1) for fit in fits],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            label=name,
        )
    axes.set_ylim(-1.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"R², T = {t} (below -1 drawn at -1)", loc="left", fontsize=10)
