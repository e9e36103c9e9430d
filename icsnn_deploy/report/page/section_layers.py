"""What each population does, and how far it is from the ANN's activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icsnn_deploy.progress import inner_tracked
from icsnn_deploy.report.page.charts import Series, bars
from icsnn_deploy.report.page.document import (
    Picture,
    Section,
    Table,
    Text,
    pictures,
    without_empty_columns,
)
from icsnn_deploy.report.page.drawing import BAD, OPEN, SERIES, SOFT, drawn
from icsnn_deploy.report.page.measures import BundleMeasures, LayerMeasures
from icsnn_deploy.report.page.wording import number, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SCATTERS = 24
"""Populations whose scatter is drawn; of more, the ones that match least."""


def layers_section(m: BundleMeasures, prefix: str) -> Section:
    """Activity, first spikes, headroom and errors of each population."""
    charts = (_rates, _silent, _first)
    pictures_of_all = [
        chart(m, prefix) for chart in inner_tracked(charts, "pictures of populations")
    ]
    return Section(
        anchor=f"{prefix}populations",
        title="Populations",
        lead=(
            "Silent: without a spike in a sample. Saturated: a spike at every step, so that a "
            "larger activation gives no more spikes. Both are shares of the neurons, mean over "
            "the samples."
        ),
        items=(
            *pictures([*pictures_of_all, *_headroom(m, prefix)]),
            _table(m),
        ),
    )


def _names(m: BundleMeasures) -> list[str]:
    return [layer.layer for layer in m.layers]


def _table(m: BundleMeasures) -> Table:
    bounds = {b.layer: b for b in m.certificate.bounds} if m.certificate else {}
    rows = tuple(
        (
            layer.layer,
            f"{layer.neurons:,}",
            percent(layer.firing_rate),
            percent(layer.silent),
            percent(layer.never),
            percent(layer.saturated),
            number(layer.first_spike),
            number(layer.r_squared, 4),
            f"{bounds[layer.layer].headroom_bits:.1f}" if layer.layer in bounds else "",
        )
        for layer in m.layers
    )
    return without_empty_columns(
        Table(
            caption="Each population",
            columns=(
                "population",
                "neurons",
                "firing rate",
                "silent",
                "never fires",
                "saturated",
                "first spike (step)",
                "R^2",
                "headroom (bits)",
            ),
            rows=rows,
        )
    )


def _rates(m: BundleMeasures, prefix: str) -> Picture:
    values = [100 * layer.firing_rate for layer in m.layers]
    return bars(
        f"{prefix}rates",
        _names(m),
        [Series(label="", values=values)],
        axis="spikes per neuron and step, %",
        caption="Firing rate",
        alt=f"firing rates from {min(values):.1f}% to {max(values):.1f}%",
        table=_columns(m, "firing rate", [percent(layer.firing_rate, 2) for layer in m.layers]),
    )


def _silent(m: BundleMeasures, prefix: str) -> Picture:
    most = max(m.layers, key=lambda layer: layer.silent)
    return bars(
        f"{prefix}silent",
        _names(m),
        [
            Series(label="silent", values=[100 * x.silent for x in m.layers], color=OPEN),
            Series(label="saturated", values=[100 * x.saturated for x in m.layers], color=BAD),
        ],
        axis="% of the neurons",
        caption="Silent and saturated neurons",
        alt=f"most silent neurons: {percent(most.silent)} in {most.layer}",
        table=Table(
            caption="share of the neurons",
            columns=("population", "silent", "saturated"),
            rows=tuple((x.layer, percent(x.silent), percent(x.saturated)) for x in m.layers),
        ),
        stacked=True,
        limit=(0, 100),
    )


def _first(m: BundleMeasures, prefix: str) -> Picture:
    known = [x for x in m.layers if x.first_spike is not None]
    alt = "no population fires"
    if known:
        alt = (
            f"mean first spikes from step {number(known[0].first_spike)} in {known[0].layer} to "
            f"step {number(known[-1].first_spike)} in {known[-1].layer}"
        )
    return bars(
        f"{prefix}first-spikes",
        _names(m),
        [Series(label="", values=[x.first_spike for x in m.layers], color=SERIES[5])],
        axis="mean step, of neurons that fire",
        caption="First-spike time",
        alt=alt,
        table=Table(
            caption="share of the neurons whose first spike is at step t",
            columns=("population", *(f"t = {t + 1}" for t in range(len(m.layers[0].first_spikes)))),
            rows=tuple((x.layer, *(percent(s) for s in x.first_spikes)) for x in m.layers),
        ),
        limit=(0, m.evaluation.graph.steps),
    )


def _headroom(m: BundleMeasures, prefix: str) -> list[Picture]:
    if m.certificate is None:
        return []
    bounds = m.certificate.bounds
    tightest = m.certificate.tightest
    colors = Series(
        label="", values=[max(bound.headroom_bits, 0) for bound in bounds], color=SERIES[3]
    )
    return [
        bars(
            f"{prefix}headroom",
            [bound.layer for bound in bounds],
            [colors],
            axis="bits below the limit of float32",
            caption="Headroom of the certificate",
            alt=f"least headroom: {tightest.headroom_bits:.1f} bits in {tightest.layer}",
            table=Table(
                caption="bounds, in lattice units",
                columns=("layer", "largest potential", "register (bits)", "headroom (bits)"),
                rows=tuple(
                    (b.layer, f"{b.potential:,}", str(b.bits), f"{b.headroom_bits:.1f}")
                    for b in bounds
                ),
            ),
        )
    ]


def _columns(m: BundleMeasures, title: str, values: list[str]) -> Table:
    return Table(
        caption=title,
        columns=("population", title),
        rows=tuple(zip(_names(m), values, strict=True)),
    )


def errors_section(m: BundleMeasures, prefix: str) -> Section:
    """Output of each population against the ANN's activations."""
    anchor, title = f"{prefix}errors", "Error against the ANN's activations"
    known = [x for x in m.layers if x.rms_error is not None]
    if not known:
        why = "The bundle has no ANN with the populations of its network to compare with."
        return Section(anchor=anchor, title=title, items=(Text(lines=(why,)),))
    amplitude = (
        "v_threshold"
        if known[0].amplitude == "v_threshold"
        else "the amplitude of its channel that fits best, as the thresholds are in lattice units"
    )
    worst = sorted(known, key=lambda x: x.r_squared if x.r_squared is not None else 1.0)
    worst_names = {x.layer for x in worst[:_SCATTERS]}
    shown = [x for x in known if x.layer in worst_names]
    return Section(
        anchor=anchor,
        title=title,
        lead=(
            f"A neuron's output is spikes / T times {amplitude}. R^2 is 1 where it equals the "
            "activation of the ANN, and 0 where the mean activation would match as well."
        ),
        items=(
            *pictures([_fit(known, prefix)]),
            *pictures([_scatter(x, prefix) for x in inner_tracked(shown, "pictures of errors")]),
        ),
    )


def _fit(known: list[LayerMeasures], prefix: str) -> Picture:
    worst = min(known, key=lambda x: x.r_squared if x.r_squared is not None else 1.0)
    return bars(
        f"{prefix}fit",
        [x.layer for x in known],
        [Series(label="", values=[max(x.r_squared or 0.0, 0.0) for x in known])],
        axis="R^2 (below 0 is drawn as 0)",
        caption="How well outputs match activations",
        alt=f"least R^2: {number(worst.r_squared, 4)} in {worst.layer}",
        table=Table(
            caption="output - activation, in activation units",
            columns=("population", "R^2", "mean error", "rms error"),
            rows=tuple(
                (x.layer, number(x.r_squared, 4), number(x.mean_error), number(x.rms_error))
                for x in known
            ),
        ),
        limit=(0, 1),
    )


def _scatter(layer: LayerMeasures, prefix: str) -> Picture:
    a, x = [point[0] for point in layer.points], [point[1] for point in layer.points]
    top = max([*a, *x, 1e-9]) * 1.05

    def draw(axes: Axes) -> None:
        axes.plot([0, top], [0, top], color=SOFT, linewidth=0.8)
        axes.plot(a, x, "o", color=SERIES[0], markersize=2.6, alpha=0.5, markeredgewidth=0)
        axes.set_xlim(-0.02 * top, top)
        axes.set_ylim(-0.02 * top, top)
        axes.set_xlabel("activation of the ANN")
        axes.set_ylabel("output of the network")
        axes.locator_params(nbins=4)

    shown = layer.points[:12]
    return Picture(
        svg=drawn(f"{prefix}scatter-{layer.layer}", draw, width=2.3, height=2.1),
        caption=f"{short(layer.layer, 24)}: R^2 {number(layer.r_squared, 4) or 'not defined'}",
        alt=f"{len(layer.points)} neurons of {layer.layer}; the line is where both are equal",
        table=Table(
            caption=f"the first {len(shown)} of {len(layer.points)} points",
            columns=("activation", "output"),
            rows=tuple((number(p, 4), number(q, 4)) for p, q in shown),
        ),
        narrow=True,
    )
