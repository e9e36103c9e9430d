"""One picture of what the recipes keep: top-1 accuracy over T, a panel for each network.

    python benchmarks/accuracy_overview.py ResNet20=accuracy-resnet20/accuracy.csv \
        VGG16=accuracy-vgg16/accuracy.csv --out docs/measurements/figures/accuracy.svg

The tables are those that benchmarks/accuracy.py writes.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib as mpl
from accuracy_figures import COLORS, STYLE
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RECIPES = ("auto", "auto:quick", "fast", "opi", "ic-snn", "robust-norm")
TIME_STEPS = (1, 2, 4, 8, 16, 32)
LABEL_HEIGHT = 5.2  # percent that a line of text takes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="+", help="NAME=FILE.csv")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    settings = {**STYLE, "svg.hashsalt": "accuracy"}  # the same bytes each time
    with mpl.rc_context(settings):
        figure = Figure(figsize=(4.9 * len(options.tables), 4.2), layout="constrained")
        panels = figure.subplots(1, len(options.tables), sharey=True, squeeze=False)[0]
        for axes, spec in zip(panels, options.tables, strict=True):
            name, _, file = spec.partition("=")
            draw(axes, name, Path(file))
        panels[0].set_ylabel("top-1 accuracy (%)")
        figure.savefig(options.out, metadata={"Date": None})


def draw(axes: Axes, title: str, table: Path) -> None:
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["recipe"] in RECIPES]
    lines: dict[str, dict[int, float]] = {name: {} for name in RECIPES}
    most = max(int(row["images"]) for row in rows)
    ann = next(float(row["ann_accuracy"]) for row in rows if int(row["images"]) == most)
    for row in rows:
        if int(row["T"]) in TIME_STEPS:
            # Of the ANN on the same images less the loss on them: some rows are of fewer images.
            lines[row["recipe"]][int(row["T"])] = ann - float(row["loss"])
    axes.axhline(ann, color="#555555", linestyle="--", linewidth=1)
    axes.text(TIME_STEPS[0], ann + 1.2, f"ANN {ann:.1f}", fontsize=8, color="#555555")
    colors = dict(zip(RECIPES, (COLORS[0], *COLORS), strict=False))  # both efforts of auto alike
    for name, line in lines.items():
        strong = name.startswith("auto")
        axes.plot(
            list(line),
            list(line.values()),
            color=colors[name],
            marker="o",
            linewidth=2.2 if strong else 1.2,
            linestyle=":" if name == "auto:quick" else "-",
        )
    for name, y in apart({name: line[max(line)] for name, line in lines.items()}).items():
        axes.annotate(
            name.replace(":", ", "),
            (TIME_STEPS[-1], y),
            xytext=(16, 0),
            textcoords="offset points",
            va="center",
            color=colors[name],
            fontsize=8.5,
        )
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks(TIME_STEPS, [str(t) for t in TIME_STEPS])
    axes.minorticks_off()
    axes.set_xlabel("time steps T")
    axes.set_ylim(0, 100)


def apart(places: dict[str, float]) -> dict[str, float]:
    """Heights of the labels: in the order of their lines, from the top down, none over another."""
    heights: dict[str, float] = {}
    above = 100 + LABEL_HEIGHT
    for name in sorted(places, key=lambda name: -places[name]):
        above = heights[name] = min(places[name], above - LABEL_HEIGHT)
    return heights


if __name__ == "__main__":
    main()
