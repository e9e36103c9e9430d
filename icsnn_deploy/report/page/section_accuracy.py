"""Accuracy, over the steps and with early exit, and which classes are confused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.judging.counts import OutputCounts
from icsnn_deploy.report.figures import NAMES, figure_text
from icsnn_deploy.report.page.charts import Curve, curves
from icsnn_deploy.report.page.document import Picture, Section, Table, Text, pictures
from icsnn_deploy.report.page.drawing import INK, SERIES, SOFT, drawn
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.wording import percent, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_DRAWN = 24
"""Classes of a confusion that is drawn; of more, the most frequent confusions are listed."""

_LISTED = 20


def accuracy_section(m: BundleMeasures, prefix: str) -> Section:
    """Figures of each output over the steps, with early exit; of ANN and network."""
    found: list[Picture | None] = []
    tables = [_figures(m)]
    for name, counts in m.evaluation.counts.outputs.items():
        if counts.task in ("classification", "binary"):
            found.append(_shares(m, prefix, name, counts))
        else:
            found += _numbers(m, prefix, name)
    found.append(_early_exit(m, prefix))
    return Section(
        anchor=f"{prefix}accuracy",
        title="Accuracy over the time steps",
        lead=(
            "What the network would give if it stopped after t steps. Bands and intervals hold the "
            f"true share with 95 % confidence, from {m.evaluation.counts.samples:,} samples."
        ),
        items=(*tables, *pictures(found)),
    )


def _figures(m: BundleMeasures) -> Table:
    """The figures of network and ANN, by output."""
    rows = []
    for name, figures in m.evaluation.outputs.items():
        counts = m.evaluation.counts.outputs[name]
        for key, title in NAMES.items():
            if figures.get(key) is None:
                continue
            ann = figures.get(f"ann_{key}")
            match = {"top1": counts.snn.top1, "ann_agreement": counts.snn.agreeing}.get(key)
            of = counts.labelled if key == "top1" else counts.decisions
            interval = "" if match is None or not of else _interval(match, of)
            rows.append(
                (name, title, figure_text(key, figures[key]), interval, figure_text(key, ann))
            )
    return Table(
        caption=f"After all {m.evaluation.graph.steps} steps",
        columns=("output", "figure", "network", "95 % interval", "ANN"),
        rows=tuple(rows),
        words=frozenset({0, 1}),
    )


def _interval(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{percent(low)} to {percent(high)}"


def _shares(m: BundleMeasures, prefix: str, name: str, counts: OutputCounts) -> Picture | None:
    """Accuracy and agreement after each step, with their intervals."""
    start = m.evaluation.graph.readout_start
    steps = range(start + 1, len(counts.over_time or ()) + 1)
    kinds = (
        ("accuracy", counts.labelled, [match.top1 for match in counts.over_time or ()]),
        ("as the ANN", counts.decisions, [match.agreeing for match in counts.over_time or ()]),
    )
    found, columns = [], [[str(t) for t in steps]]
    heads = ["t"]
    for n, (label, of, values) in enumerate(kinds):
        own = [value for value in values[start:] if value is not None]
        if not of or not own or len(own) != len(steps):
            continue
        limits = [wilson(value, of) for value in own]
        found.append(
            Curve(
                label=label,
                x=list(steps),
                y=[100 * value / of for value in own],
                color=SERIES[n],
                band=([100 * low for low, _ in limits], [100 * high for _, high in limits]),
            )
        )
        heads += [label, "95 % interval"]
        columns.append([percent(value / of, 2) for value in own])
        columns.append([_interval(value, of) for value in own])
    if not found:
        return None
    ann = counts.ann.top1 if counts.ann is not None and counts.labelled else None
    if ann is not None and counts.labelled:
        share = 100 * ann / counts.labelled
        found.append(
            Curve(
                label="ANN",
                x=[steps[0], steps[-1]],
                y=[share, share],
                color=SOFT,
                dashed=True,
            )
        )
    first, last = found[0].y[0], found[0].y[-1]
    return curves(
        f"{prefix}accuracy-{name}",
        found,
        axes_labels=("stopped after t steps", "% of the samples"),
        caption=_of(m, "Accuracy after each step", name),
        alt=f"{found[0].label} rises from {first:.1f}% after step {steps[0]} to {last:.1f}% "
        f"after step {steps[-1]}"
        + (
            ""
            if ann is None or not counts.labelled
            else f"; the ANN: {percent(ann / counts.labelled)}"
        ),
        table=Table(
            caption="after each step",
            columns=tuple(heads),
            rows=tuple(zip(*columns, strict=True)),
        ),
        whole_x=True,
    )


def _numbers(m: BundleMeasures, prefix: str, name: str) -> list[Picture | None]:
    """Each figure over time of an output that is no single class."""
    found: list[Picture | None] = []
    for key, values in m.evaluation.outputs[name].items():
        if not key.endswith("_over_time") or not values:
            continue
        figure = key.removesuffix("_over_time")
        title = NAMES.get(figure, figure)
        found.append(
            curves(
                f"{prefix}{key}-{name}",
                [Curve(label="", x=list(values), y=list(values.values()))],
                axes_labels=("stopped after t steps", title),
                caption=_of(m, f"{title} after each step", name),
                alt=f"{title} from {min(values.values()):.4g} to {max(values.values()):.4g}",
                table=Table(
                    caption=title,
                    columns=("t", title),
                    rows=tuple((str(t), figure_text(figure, v)) for t, v in values.items()),
                ),
                whole_x=True,
            )
        )
    return found


def _of(m: BundleMeasures, caption: str, name: str) -> str:
    """A caption, with the name of the output where there are several."""
    return caption if len(m.evaluation.counts.outputs) == 1 else f"{caption}: {name}"


def _early_exit(m: BundleMeasures, prefix: str) -> Picture | None:
    """What stopping each sample at a confidence costs and saves."""
    of = m.evaluation.counts.samples
    labelled = all(point.right is not None for point in m.exits)
    matches = [point.right if labelled else point.agreeing for point in m.exits]
    points = [
        (point, match) for point, match in zip(m.exits, matches, strict=True) if match is not None
    ]
    if not points:
        return None
    label = "accuracy" if labelled else "as the ANN"
    limits = [wilson(match, of) for _, match in points]
    curve = Curve(
        label="",
        x=[point.mean_steps for point, _ in points],
        y=[100 * match / of for _, match in points],
        band=([100 * low for low, _ in limits], [100 * high for _, high in limits]),
        color=SERIES[2],
    )
    rows = tuple(
        (
            f"{point.confidence:g}",
            f"{point.mean_steps:.2f}",
            percent(match / of, 2),
            _interval(match, of),
        )
        for point, match in points
    )
    best, match = points[-1]
    return curves(
        f"{prefix}early-exit",
        [curve],
        axes_labels=("mean number of steps", f"{label} (%)"),
        caption="Early exit: each sample stops once it is sure enough",
        alt=f"at a confidence of {best.confidence:g}, {percent(match / of)} with "
        f"{best.mean_steps:.2f} of {m.evaluation.graph.steps} steps on average",
        table=Table(
            caption="early exit",
            columns=("confidence", "mean steps", label, "95 % interval"),
            rows=rows,
        ),
    )


def confusion_section(m: BundleMeasures, prefix: str) -> Section:
    """Which classes are taken for which others."""
    anchor, title = f"{prefix}confusion", "Confusion"
    if not m.confusion:
        why = (
            "Needs labels and a network that is one classifier."
            if not is_classifier(m.evaluation.graph) or m.evaluation.top1 is None
            else "There are too many classes to count each pair."
        )
        return Section(anchor=anchor, title=title, items=(Text(lines=(why,)),))
    items = pictures([_matrix(m.confusion, prefix)] if len(m.confusion) <= _MOST_DRAWN else [])
    return Section(
        anchor=anchor,
        title=title,
        lead="Rows are labels, columns what the network finds.",
        items=(*items, _most_confused(m.confusion), _classes(m.confusion)),
    )


def _matrix(confusion: Sequence[Sequence[int]], prefix: str) -> Picture:
    count = len(confusion)

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for label, row in enumerate(confusion):
            for found, n in enumerate(row):
                if not n:
                    continue
                color = SERIES[2] if label == found else SERIES[1]
                share = n / max(sum(row), 1)
                corner = (found - 0.5, label - 0.5)
                axes.add_patch(
                    Rectangle(corner, 1, 1, facecolor=color, alpha=0.12 + 0.33 * share, linewidth=0)
                )
                axes.text(found, label, str(n), ha="center", va="center", color=INK)
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_xticks(range(count))
        axes.set_yticks(range(count))
        axes.grid(False)
        axes.set_xlabel("found")
        axes.set_ylabel("label")
        axes.set_aspect("equal")

    side = max(2.6, 0.29 * count + 0.5)
    right = sum(confusion[n][n] for n in range(count))
    return Picture(
        svg=drawn(f"{prefix}confusion", draw, width=side, height=side),
        caption="Samples by label and by class found",
        alt=f"{right:,} of {sum(map(sum, confusion)):,} samples lie on the diagonal",
        table=Table(
            caption="samples by label (rows) and class found (columns)",
            columns=("label", *map(str, range(count))),
            rows=tuple(
                (str(label), *(f"{n:,}" for n in row)) for label, row in enumerate(confusion)
            ),
        ),
        wide=side > 3.4,
    )


def _most_confused(confusion: Sequence[Sequence[int]]) -> Table | Text:
    pairs = [
        (n, label, found, n / sum(row))
        for label, row in enumerate(confusion)
        for found, n in enumerate(row)
        if n and label != found
    ]
    if not pairs:
        return Text(
            lines=("No sample is found to be of another class than its label.",), tone="good"
        )
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return Table(
        caption="Most frequent confusions",
        columns=("label", "found as", "samples", "share of the label"),
        rows=tuple(
            (str(a), str(b), f"{n:,}", percent(share)) for n, a, b, share in pairs[:_LISTED]
        ),
    )


def _classes(confusion: Sequence[Sequence[int]]) -> Table:
    rows = []
    for label, row in enumerate(confusion):
        of, found = sum(row), sum(each[label] for each in confusion)
        if of:
            precision = percent(row[label] / found) if found else ""
            rows.append(
                (
                    str(label),
                    f"{of:,}",
                    percent(row[label] / of),
                    _interval(row[label], of),
                    precision,
                )
            )
    return Table(
        caption="Accuracy of each class",
        columns=("class", "samples", "found", "95 % interval", "right where found"),
        rows=tuple(rows),
        folded=True,
    )
