"""The figures of outputs as lines and cells of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.parity.judge import Evidence

PERCENT = ("top1", "top5", "pixel_accuracy", "miou", "ann_agreement", "error", "ann_deviation")
"""Figures that are shown as percentages."""

NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "pixel_accuracy": "pixel accuracy",
    "miou": "mIoU",
    "r2": "R^2",
    "rmse": "RMSE",
    "error": "error / spread",
    "ann_agreement": "as the ANN",
    "ann_deviation": "from the ANN / spread",
}
"""How figures are called in tables, in their order."""


def figure_text(name: str, value: float | None) -> str:
    """A figure with its digits; empty where it was not measured."""
    if value is None:
        return ""
    return f"{value:.2%}" if name in PERCENT else f"{value:.4g}"


def figure_line(name: str, figures: Mapping[str, Any], *, alone: bool) -> str:
    """The figures of one output, of the ANN and of the network, as one line.

    Args:
        name: of the output.
        figures: judging.figures.output_figures, without those that were not measured.
        alone: it is the only output, so that its name says nothing.
    """
    if alone and figures["task"] in ("classification", "binary"):
        return f"accuracy: {_both(figures, 'top1')}"
    labelled = ("top1", "pixel_accuracy", "miou", "r2", "error")
    texts = [f"{NAMES[key]} {_both(figures, key)}" for key in labelled if key in figures]
    if "ann_agreement" in figures:
        share = figure_text("ann_agreement", figures["ann_agreement"])
        texts.append(f"{share} classified as the ANN does")
    if "ann_deviation" in figures:
        share = figure_text("ann_deviation", figures["ann_deviation"])
        texts.append(f"differs from the ANN by {share} of its spread")
    return f"{name} ({figures['task']}): {'; '.join(texts)}"


def _both(figures: Mapping[str, Any], key: str) -> str:
    ann = figures.get(f"ann_{key}")
    shown = "" if ann is None else f"ANN {figure_text(key, ann)}, "
    return f"{shown}SNN {figure_text(key, figures[key])}"


def same_class_columns(comparisons: Sequence[Evidence]) -> tuple[str, ...]:
    """Heads of the columns that say how often two backends find the same class, one per output."""
    if any(c.top1_agreement is not None for c in comparisons):
        return ("top-1",)
    names = comparisons[0].same_classes if comparisons else {}
    return tuple("same class" if len(names) == 1 else f"{name}: same class" for name in names)


def same_class_cells(comparison: Evidence, *, digits: int) -> tuple[str, ...]:
    """The cells of these columns."""
    return tuple(f"{a / b:.{digits}%}" for a, b in comparison.same_classes.values())
