"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.report.figures import (
    NAMES,
    figure_text,
    same_class_cells,
    same_class_columns,
)
from icsnn_deploy.report.plain import plain_table

_COMPARED = ("ann_agreement", "ann_deviation")
"""Figures of the network against the ANN; the ANN has none of its own."""

_LABELLED = tuple(key for key in NAMES if key not in _COMPARED)
"""Figures against labels."""


def evaluation_tables(result: Evaluation) -> list[Table]:
    """For each output the figures of ANN and network, and the network's after each step."""
    tables = []
    for name, figures in result.outputs.items():
        where = f"{name} ({figures['task']}): " if not is_classifier(result.graph) else ""
        rows = [_row(result, figures, "SNN", "")]
        if any(figures.get(f"ann_{key}") is not None for key in _LABELLED):
            rows.insert(0, _row(result, figures, "ANN", "ann_"))
        if result.mean_steps is not None:
            rows.append(_early_row(result))
        backends = " and ".join(result.ran) or result.backend
        samples = f"{result.counts.samples:,} samples on {backends}"
        title = f"{where}{samples}, T = {_steps(result)}"
        tables.append(_measured(title, ("", *NAMES.values(), "mean T"), rows))
        tables += _over_time(f"{where}stopped after t steps", figures)
    return tables


def _row(
    result: Evaluation, figures: Mapping[str, Any], reading: str, prefix: str
) -> tuple[str, ...]:
    """One row of the ANN or of the network."""
    cells = []
    for key in NAMES:
        compared = key in _COMPARED
        value = figures.get(key if compared else prefix + key)
        cells.append("" if compared and prefix else figure_text(key, value))
    return (reading, *cells, "" if prefix else _steps(result))


def _early_row(result: Evaluation) -> tuple[str, ...]:
    found = {"top1": result.exit_top1, "ann_agreement": result.exit_agreement}
    cells = [figure_text(key, found.get(key)) for key in NAMES]
    return (f"SNN, early exit at {result.confidence:g}", *cells, f"{result.mean_steps:.2f}")


def _over_time(title: str, figures: Mapping[str, Any]) -> list[Table]:
    """The table of the figures after each step; none where no backend gives them."""
    over_time = {key: figures.get(f"{key}_over_time", {}) for key in NAMES}
    steps = sorted({t for values in over_time.values() for t in values})
    rows = [
        (str(t), *(figure_text(key, values.get(t)) for key, values in over_time.items()))
        for t in steps
    ]
    return [_measured(title, ("t", *NAMES.values()), rows)] if rows else []


def _steps(result: Evaluation) -> str:
    return f"{result.graph.steps}"


def parity_counts_table(result: Evaluation) -> Table:
    """One row per backend: how many spikes, logits and samples differ."""
    table = plain_table(f"parity with {result.backend}: {result.verdict}")
    for column in ("backend", "verdict"):
        table.add_column(column, no_wrap=True)
    same = same_class_columns(result.counts.parity)
    for column in ("spikes", "differ", "samples differ", "logits differ", *same):
        table.add_column(column, justify="right", no_wrap=True)
    for c in result.counts.parity:
        table.add_row(
            c.backend,
            c.verdict,
            f"{c.spikes_compared:,}",
            f"{c.spike_mismatches:,}",
            f"{c.images_affected:,}",
            f"{c.logit_mismatches:,}",
            *same_class_cells(c, digits=2),
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
