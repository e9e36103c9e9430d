"""The figure of a network's outputs that a sweep compares: accuracy, or what stands for it.

    classification, binary   top-1 accuracy
    segmentation             mean intersection over union
    regression               R^2
    detection                1 - root mean squared difference from the ANN / spread of its values

Without labels: agreement with the ANN, and of a regression or detection the last of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.result import Evaluation

_LABELED = {
    "top1": "top-1 accuracy",
    "miou": "mean IoU",
    "r2": "R^2",
}
AGREEMENT = "agreement with the ANN"
DEVIATION = "1 - deviation from the ANN"


@dataclass(frozen=True)
class Figure:
    """What a network reaches, and what the ANN reaches, as shares of 1."""

    name: str
    value: float
    ann: float


def figure_of(evaluation: Evaluation) -> Figure:
    """The figure of a network, mean over its outputs.

    Raises:
        DataError: an output without any figure, as that of a network without an ANN.
    """
    found = [_of_output(name, figures) for name, figures in evaluation.outputs.items()]
    names = dict.fromkeys(figure.name for figure in found)
    return Figure(
        name=" / ".join(names) + (", mean over the outputs" if len(found) > 1 else ""),
        value=sum(figure.value for figure in found) / len(found),
        ann=sum(figure.ann for figure in found) / len(found),
    )


def agreement_of(evaluation: Evaluation) -> float | None:
    """Share of the decisions with the class of the ANN, mean over the outputs that have classes."""
    found = [figures.get("ann_agreement") for figures in evaluation.outputs.values()]
    shares = [share for share in found if share is not None]
    return sum(shares) / len(shares) if shares else None


def over_time(evaluation: Evaluation, figure: Figure) -> dict[str, list[float | None]]:
    """Figure and agreement after each step, in percent, of a network whose only output is a class.

    Returns:
        over_time and agreement_over_time after steps 1 to T, None before the readout begins; empty
        where they were not measured.
    """
    agreement = evaluation.agreement_t
    own = evaluation.top1_t if figure.name == _LABELED["top1"] else {}
    if figure.name == AGREEMENT:
        own = agreement
    steps = range(1, evaluation.graph.steps + 1)
    return {
        name: [100 * found[t] if t in found else None for t in steps] if found else []
        for name, found in (("over_time", own), ("agreement_over_time", agreement))
    }


def _of_output(name: str, figures: Mapping[str, Any]) -> Figure:
    for key, shown in _LABELED.items():
        value, ann = figures.get(key), figures.get(f"ann_{key}")
        if value is not None and ann is not None:
            return Figure(shown, value, ann)
    if figures.get("ann_agreement") is not None:
        return Figure(AGREEMENT, figures["ann_agreement"], 1.0)
    if figures.get("ann_deviation") is not None:
        return Figure(DEVIATION, 1 - figures["ann_deviation"], 1.0)
    raise DataError(f"output {name} ({figures['task']}): nothing could be measured")
