"""Spikes and potentials of chosen neurons, and samples with what the network makes of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import inner_tracked
from icsnn_deploy.report.page.charts import Series, bars
from icsnn_deploy.report.page.document import (
    Gallery,
    Item,
    Picture,
    Section,
    Table,
    Text,
    Thumbnail,
    Tone,
    pictures,
)
from icsnn_deploy.report.page.drawing import BAD, OPEN, SERIES, drawn
from icsnn_deploy.report.page.measures import BundleMeasures, Example, Raster, Trace
from icsnn_deploy.report.page.wording import number, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDE_STEPS = 20  # up to which spikes are drawn as squares
_ROW = 0.062  # inches, of a neuron in a raster
_LOGITS = 2  # samples whose logits are drawn
_MOST_LOGITS = 20


def spikes_section(m: BundleMeasures, prefix: str) -> Section:
    """Rasters and potentials."""
    return Section(
        anchor=f"{prefix}spikes",
        title="Spikes and potentials",
        lead=(
            "Neurons are chosen evenly over those of a population that fire, from the most active "
            "to the least. A potential u is taken before the reset."
        ),
        items=(
            *pictures(
                [
                    _raster(each, m, prefix)
                    for each in inner_tracked(m.rasters, "pictures of spikes")
                ]
            ),
            *pictures(
                [
                    trace_picture(each, prefix, "trace")
                    for each in inner_tracked(m.traces, "pictures of potentials")
                ]
            ),
        ),
    )


def _raster(raster: Raster, m: BundleMeasures, prefix: str) -> Picture | None:
    if not raster.rows:
        return None
    steps = m.evaluation.graph.steps
    layers = list(dict.fromkeys(layer for layer, _, _ in raster.rows))
    places = {
        layer: [n for n, row in enumerate(raster.rows) if row[0] == layer] for layer in layers
    }

    style: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 4}
    if steps <= _WIDE_STEPS:
        style = {"linestyle": "", "marker": "s", "markersize": 3.2, "markeredgewidth": 0}

    def draw(axes: Axes) -> None:
        for n, layer in enumerate(layers):
            points = [(t, row) for row in places[layer] for t in raster.rows[row][2]]
            color = SERIES[n % len(SERIES)]
            axes.plot([t for t, _ in points], [y for _, y in points], color=color, **style)
        middle = [float(np.mean(places[layer])) for layer in layers]
        axes.set_yticks(middle, [short(layer, 13) for layer in layers])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(raster.rows) - 0.3, -0.7)
        axes.set_xlim(0.5, steps + 0.5)
        axes.locator_params(axis="x", integer=True)
        axes.grid(False, axis="y")
        axes.set_xlabel("time step")

    height = 0.55 + max(_ROW * len(raster.rows), 0.19 * len(layers))
    spikes = sum(len(row[2]) for row in raster.rows)
    return Picture(
        svg=drawn(f"{prefix}raster-{raster.sample}", draw, height=height),
        caption=f"Spikes of sample {raster.sample:,}"
        + (f" ({raster.title})" if raster.title else ""),
        alt=f"{spikes:,} spikes of {len(raster.rows)} neurons in {len(layers)} populations",
        table=Table(
            caption="steps of the spikes",
            columns=("population", "neuron", "steps"),
            rows=tuple(
                (layer, ", ".join(map(str, neuron)), ", ".join(map(str, times)))
                for layer, neuron, times in raster.rows
            ),
            words=frozenset({0, 1, 2}),
        ),
    )


def trace_picture(trace: Trace, prefix: str, kind: str) -> Picture:
    """The potential of one neuron over the steps, with its threshold."""
    steps = range(1, 1 + max((len(u) for u in trace.u.values()), default=1))
    markers = ("o", "x")

    def draw(axes: Axes) -> None:
        axes.axhline(trace.v_threshold, color=BAD, linestyle="--", linewidth=1, label="v_threshold")
        for n, (name, u) in enumerate(trace.u.items()):
            axes.plot(
                range(1, len(u) + 1),
                u,
                color=SERIES[n],
                marker=markers[n % 2],
                linestyle="-" if n == 0 else ":",
                markersize=5,
                label=f"u, {short(name, 14)}",
            )
        if trace.step is not None:
            axes.axvline(trace.step, color=OPEN, linewidth=1.2, label="first difference")
        axes.locator_params(axis="x", integer=True)
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel("time step")
        axes.set_ylabel("potential")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            borderaxespad=0.1,
            handlelength=1.4,
            columnspacing=0.9,
        )

    index = ", ".join(map(str, trace.neuron))
    spikes = {
        name: [t for t, value in enumerate(u, start=1) if value >= trace.v_threshold]
        for name, u in trace.u.items()
    }
    return Picture(
        svg=drawn(f"{prefix}{kind}-{trace.layer}-{trace.neuron}", draw, height=2.6),
        caption=f"{short(trace.layer, 24)}, neuron ({index}), sample {trace.sample:,}",
        alt="; ".join(
            f"{name}: spikes at steps {times or 'none'}" for name, times in spikes.items()
        ),
        table=Table(
            caption=f"potential; v_threshold {number(trace.v_threshold, 6)}",
            columns=("step", *(f"u, {name}" for name in trace.u)),
            rows=tuple(
                (str(t), *(number(u[t - 1], 7) if t <= len(u) else "" for u in trace.u.values()))
                for t in steps
            ),
        ),
    )


def examples_section(m: BundleMeasures, prefix: str) -> Section:
    """Samples: input, label and output; of each class one that is right and one that is wrong."""
    anchor, title = f"{prefix}examples", "Examples"
    if not m.examples:
        why = "Examples are chosen for a network that is one classifier."
        return Section(anchor=anchor, title=title, items=(Text(lines=(why,)),))
    labelled = [e for e in m.examples if e.label is not None]
    groups = (
        ("Classified as their label", [e for e in labelled if e.label == e.found]),
        ("Classified as another class", [e for e in labelled if e.label != e.found]),
        ("Samples, by the class that is found", [e for e in m.examples if e.label is None]),
    )
    galleries: list[Item] = [
        Gallery(
            caption=caption, thumbnails=tuple(_thumbnail(e) for e in sorted(found, key=_by_class))
        )
        for caption, found in groups
        if found
    ]
    wrong = groups[1][1]
    chosen = [*wrong[:1], *(e for e in m.examples if e not in wrong[:1])][:_LOGITS]
    return Section(
        anchor=anchor,
        title=title,
        lead="Of each class at most one sample that is right and one that is wrong.",
        items=(*galleries, *pictures([_logits(e, m, prefix) for e in chosen])),
    )


def _by_class(example: Example) -> tuple[int, int]:
    return (example.found if example.label is None else example.label, example.sample)


def _thumbnail(example: Example) -> Thumbnail:
    lines = [f"sample {example.sample:,}"]
    if example.label is not None:
        lines.append(f"label {example.label}")
    lines.append(f"found {example.found}")
    if example.ann is not None:
        lines.append(f"ANN {example.ann}")
    tone: Tone = "good" if example.label == example.found else "bad"
    return Thumbnail(
        png=png_of(example.values),
        alt=f"input of sample {example.sample}",
        lines=tuple(lines),
        tone="" if example.label is None else tone,
    )


def png_of(values: Array) -> bytes:
    """A sample as an image: 1 or 3 channels as they are, any others by their mean."""
    from matplotlib.image import imsave

    image = _as_image(np.asarray(values, np.float64))
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    content = io.BytesIO()
    imsave(
        content,
        scaled,
        cmap="gray",
        vmin=0,
        vmax=1,
        format="png",
        pil_kwargs={"optimize": True},
    )
    return content.getvalue()


def _as_image(values: Array) -> Array:
    """[H, W] or [H, W, 3] of a sample [*shape]; at most 96 pixels a side."""
    if values.ndim >= 3:
        values = values.reshape(values.shape[0], values.shape[1], -1)  # [C, H, W]
        values = np.moveaxis(values, 0, -1) if len(values) == 3 else values.mean(axis=0)
    elif values.ndim == 1:
        values = values[None]
    elif values.ndim == 0:
        values = values[None, None]
    if values.ndim == 2 and values.shape[0] == 1 and values.shape[1] > 16:
        side = int(np.ceil(np.sqrt(values.size)))
        values = np.pad(values.ravel(), (0, side * side - values.size)).reshape(side, side)
    steps = [max(1, -(-n // 96)) for n in values.shape[:2]]
    return values[:: steps[0], :: steps[1]]


def _logits(example: Example, m: BundleMeasures, prefix: str) -> Picture | None:
    count = len(example.logits)
    if not count:
        return None
    order = sorted(range(count), key=lambda n: -example.logits[n])[:_MOST_LOGITS]
    shown = sorted(order)
    series = [Series(label="network", values=[example.logits[n] for n in shown])]
    if len(example.ann_logits) == count:
        values = [example.ann_logits[n] for n in shown]
        series.append(Series(label="ANN", values=values, color=SERIES[1]))
    what = "" if example.label is None else f", label {example.label}"
    return bars(
        f"{prefix}logits-{example.sample}",
        [f"class {n}" for n in shown],
        series,
        axis="logit",
        caption=f"Output for sample {example.sample:,}{what}",
        alt=f"the largest logit is that of class {order[0]}",
        table=Table(
            caption="logits",
            columns=("class", *(each.label for each in series)),
            rows=tuple(
                (str(n), *(number(each.values[k], 4) for each in series))
                for k, n in enumerate(shown)
            ),
        ),
    )
