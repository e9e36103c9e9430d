"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.report.plain import plain_table


def evaluation_table(result: Evaluation) -> Table:
    """Accuracy of the ANN, of the network, and of the network with early exit: one row each."""
    steps = f"{result.graph.steps}"
    rows = [("SNN", _share(result.top1), _share(result.top5), _share(result.agreement), steps)]
    if result.ann_top1 is not None:
        rows.insert(0, ("ANN", _share(result.ann_top1), _share(result.ann_top5), "", ""))
    if result.mean_steps is not None:
        name, mean = f"SNN, early exit at {result.confidence:g}", f"{result.mean_steps:.2f}"
        rows.append((name, _share(result.exit_top1), "", _share(result.exit_agreement), mean))
    title = f"{result.counts.samples:,} samples on {result.backend}, T = {result.graph.steps}"
    return _measured(title, ("", "top-1", "top-5", "as the ANN", "mean T"), rows)


def over_time_table(result: Evaluation) -> Table:
    """Accuracy, and agreement with the ANN, at each step where the run could be stopped."""
    rows = [
        (str(t), _share(result.top1_t.get(t)), _share(result.agreement_t.get(t)))
        for t in sorted({*result.top1_t, *result.agreement_t})
    ]
    return _measured("stopped after t steps", ("t", "top-1", "as the ANN"), rows)


def parity_counts_table(result: Evaluation) -> Table:
    """One row per backend: how many spikes, logits and samples differ."""
    table = plain_table(f"parity with {result.backend}: {result.verdict}")
    for column in ("backend", "verdict"):
        table.add_column(column, no_wrap=True)
    for column in ("spikes", "differ", "samples differ", "logits differ", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    for c in result.counts.parity:
        table.add_row(
            c.backend,
            c.verdict,
            f"{c.spikes_compared:,}",
            f"{c.spike_mismatches:,}",
            f"{c.images_affected:,}",
            f"{c.logit_mismatches:,}",
            f"{c.top1_agreement:.2%}",
            style="green" if c.verdict == "pass" else "red",
        )
    return table


def activity_line(result: Evaluation) -> str:
    """Spikes and firing rate, as one line."""
    if result.spikes is None or result.firing_rate is None:
        return f"{result.backend} counts no spikes"
    return f"{result.spikes:,.0f} spikes per sample, {result.firing_rate:.4f} per neuron and step"


def _measured(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of the rows, without columns that hold no measurement."""
    table = plain_table(title)
    kept = [n for n in range(len(columns)) if any(row[n] for row in rows)]
    for n in kept:
        table.add_column(columns[n], justify="right" if columns[n] else "left")
    for row in rows:
        table.add_row(*(row[n] for n in kept))
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
