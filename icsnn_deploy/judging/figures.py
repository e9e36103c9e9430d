"""The figures of an output: quotients of its counts, under the names that JSON uses.

    classification, binary   top1, top5, ann_top1, ann_top5: shares of the labelled samples (or
                             decisions); ann_agreement: share with the class of the ANN
    segmentation             pixel_accuracy, miou, ann_pixel_accuracy, ann_miou, ann_agreement
    regression               r2, rmse, error (rmse / spread of the labels) and the same of the ANN,
                             ann_r2, ann_rmse, ann_error; ann_deviation
    detection                ann_deviation

    miou           mean over classes that occur of  overlap / (truth + predicted - overlap)
    ann_deviation  root mean squared difference from the ANN / spread of the ANN's values

Names that end in _over_time hold the figure after each step of the readout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from icsnn_deploy.graph.spread import Moments
from icsnn_deploy.judging.counts import Match, OutputCounts


def output_figures(counts: OutputCounts, readout_start: int = 0) -> dict[str, Any]:
    """The figures of one output as JSON values; None if not measured.

    Args:
        counts: of the output.
        readout_start: steps before the readout begins; they have no figure over time.
    """
    ann = counts.ann or Match()
    own: dict[str, Any]
    steps: dict[str, Callable[[Match], float | None]]
    if counts.task in ("classification", "binary"):
        own = {
            "top1": right(counts, counts.snn),
            "top5": _share(counts.snn.top5, counts.labelled),
            "ann_top1": right(counts, ann),
            "ann_top5": _share(ann.top5, counts.labelled),
            "ann_agreement": agreeing(counts, counts.snn),
        }
        steps = {"top1": lambda m: right(counts, m), "ann_agreement": lambda m: agreeing(counts, m)}
    elif counts.task == "segmentation":
        own = {
            "pixel_accuracy": right(counts, counts.snn),
            "miou": mean_iou(counts, counts.snn),
            "ann_pixel_accuracy": right(counts, ann),
            "ann_miou": mean_iou(counts, ann),
            "ann_agreement": agreeing(counts, counts.snn),
        }
        steps = {
            "pixel_accuracy": lambda m: right(counts, m),
            "ann_agreement": lambda m: agreeing(counts, m),
        }
    else:
        own = {} if counts.task == "detection" else _against_labels(counts, ann)
        own["ann_deviation"] = deviation(counts, counts.snn)
        steps = {"ann_deviation": lambda m: deviation(counts, m)}
        if counts.task == "regression":
            steps = {"error": lambda m: _relative(m.label_error, counts.labels), **steps}
    over_time = {
        f"{name}_over_time": figure_over_time(counts, figure, readout_start)
        for name, figure in steps.items()
    }
    return {"task": counts.task, **own, **over_time}


def right(counts: OutputCounts, match: Match) -> float | None:
    """Share of the labelled decisions that are right."""
    return _share(match.top1, counts.labelled)


def agreeing(counts: OutputCounts, match: Match) -> float | None:
    """Share of the decisions with the class of the ANN."""
    return _share(match.agreeing, counts.decisions)


def mean_iou(counts: OutputCounts, match: Match) -> float | None:
    """Mean intersection over union of the classes that occur in labels or result."""
    if counts.truth is None or match.overlap is None or match.predicted is None:
        return None
    unions = [
        (overlap, truth + predicted - overlap)
        for overlap, truth, predicted in zip(
            match.overlap, counts.truth, match.predicted, strict=True
        )
    ]
    shares = [overlap / union for overlap, union in unions if union]
    return sum(shares) / len(shares) if shares else None


def deviation(counts: OutputCounts, match: Match) -> float | None:
    """Root mean squared difference from the ANN, in units of the spread of the ANN's values."""
    return _relative(match.ann_error, counts.ann_values)


def figure_over_time(
    counts: OutputCounts, figure: Callable[[Match], float | None], readout_start: int
) -> dict[int, float]:
    """A figure after each step t of the readout, by t."""
    found = {t: figure(m) for t, m in enumerate(counts.over_time or (), start=1)}
    return {t: value for t, value in found.items() if value is not None and t > readout_start}


def _against_labels(counts: OutputCounts, ann: Match) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for prefix, match in (("", counts.snn), ("ann_", ann)):
        error = _relative(match.label_error, counts.labels)
        result[f"{prefix}r2"] = None if error is None else 1 - error**2
        result[f"{prefix}rmse"] = (
            None
            if match.label_error is None or not counts.labelled
            else math.sqrt(match.label_error / counts.labelled)
        )
        result[f"{prefix}error"] = error
    return result


def _relative(squares: float | None, values: Moments | None) -> float | None:
    """Root mean square in units of the spread of the values; None where nothing varies."""
    if squares is None or values is None or values.spread is None:
        return None
    return math.sqrt(squares / values.values) / values.spread


def _share(count: int | None, of: int | None) -> float | None:
    return count / of if count is not None and of else None
