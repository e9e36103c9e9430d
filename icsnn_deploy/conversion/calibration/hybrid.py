"""The recipe "hybrid": the stages of "auto", trained with labels (HybridTrain, Rathi et al. 2020).

    thresholds -> search, or refit and search -> training with labels, one or several

The paper converts with SpikeNorm's thresholds and trains leaky neurons for 20 epochs; here training
starts from the better network of the search, and neurons do not leak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from icsnn_deploy.conversion.calibration.auto import Auto, Effort
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.label_objective import LabelObjective
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

DEFAULT_LABEL_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Hybrid(Auto):
    """As Auto, with labels in the loss of training, and in the choice among candidates.

    Args:
        label_share: share of the cross entropy with the labels in the loss; the rest is the
            divergence from the ANN.

    Raises:
        ConversionError: a share outside 0 to 1.
    """

    effort: Effort = "standard"  # with less, labels have little time to help
    label_share: float = DEFAULT_LABEL_SHARE

    uses_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_share <= 1:
            raise ConversionError(
                f"label_share {self.label_share}: above 0, at most 1, is needed; without labels "
                "choose the recipe auto"
            )

    def objective(self, held_out: CalibrationContext) -> Callable[[Graph, Array], Objective]:
        """Labels beside the ANN's outputs."""
        return partial(LabelObjective, labels=held_out.samples.labels, share=self.label_share)

    @property
    def _loss_options(self) -> tuple[object, ...]:
        return ("label share", self.label_share)
