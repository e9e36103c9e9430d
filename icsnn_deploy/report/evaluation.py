"""An evaluation as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.report.plain import plain_table


def evaluation_table(result: Evaluation) -> Table:
    """The figures of the network and of the ANN beside each other."""
    table = plain_table(
        f"{result.counts.samples:,} samples on {result.backend}, T = {result.graph.steps}"
    )
    table.add_column("")
    for column in ("top-1", "top-5", "as the ANN", "mean T"):
        table.add_column(column, justify="right")
    if result.ann_top1 is not None:
        table.add_row("ANN", _share(result.ann_top1), _share(result.ann_top5), "", "")
    steps = f"{result.graph.steps}"
    table.add_row("SNN", _share(result.top1), _share(result.top5), _share(result.agreement), steps)
    if result.mean_steps is not None:
        table.add_row(
            f"SNN, early exit at {result.confidence:g}",
            _share(result.exit_top1),
            "",
            _share(result.exit_agreement),
            f"{result.mean_steps:.2f}",
        )
    return table


def over_time_table(result: Evaluation) -> Table:
    """Accuracy, and agreement with the ANN, at each step where the run might be stopped."""
    table = plain_table("stopped after t steps")
    for column in ("t", "top-1", "as the ANN"):
        table.add_column(column, justify="right")
    for t in sorted({*result.top1_t, *result.agreement_t}):
        table.add_row(str(t), _share(result.top1_t.get(t)), _share(result.agreement_t.get(t)))
    return table


def parity_counts_table(result: Evaluation) -> Table:
    """One row a backend: how many spikes, logits and samples differ."""
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
    """Spikes and firing rate, in one line."""
    if result.spikes is None or result.firing_rate is None:
        return f"{result.backend} counts no spikes"
    return f"{result.spikes:,.0f} spikes a sample, {result.firing_rate:.4f} a neuron and step"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
