"""How a recipe gets to its candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.conversion.calibration.work import Amounts, Work
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


class Strategy(ABC):
    """Builds candidates; the best one becomes the network. Subclass it to add a kind of recipe."""

    methods: tuple[Method, ...]
    """Methods that are tried first, or alone."""
    uses_labels: ClassVar[bool] = False
    """Whether it needs the labels of the calibration samples."""

    @abstractmethod
    def run(self, runner: CandidateRunner) -> None:
        """Build candidates; the runner scores and keeps them."""

    def objective(self, held_out: CalibrationContext) -> Callable[[Graph, Array], Objective]:
        """What makes the objective of the ANN and its logits on the held-out samples."""
        return Objective

    def work(self, amounts: Amounts) -> Work | None:
        """How much it computes, without statistics and ANN; None: unknown, nothing is announced."""
        return None

    def summary(self, amounts: Amounts) -> str:
        """What it does, in a few words."""
        count = len(self.methods)
        return "1 candidate" if count == 1 else f"{count} candidates"


@dataclass(frozen=True)
class TryMethods(Strategy):
    """Build one candidate by each method."""

    methods: tuple[Method, ...]

    def run(self, runner: CandidateRunner) -> None:
        """Build one candidate by each method."""
        runner.try_all(self.methods)

    def work(self, amounts: Amounts) -> Work:
        """Simulations of each method on all samples, and its score on the held-out ones."""
        simulations = sum(method.simulations for method in self.methods)
        scored = len(self.methods) * amounts.held_out
        return Work(network_samples=simulations * amounts.fit + scored)
