"""How a recipe gets to its candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.method import Method


class Strategy(ABC):
    """Builds candidates; the best one becomes the network. Subclass it to add a kind of recipe."""

    methods: tuple[Method, ...]
    """Methods that are tried first, or alone."""

    @abstractmethod
    def run(self, runner: CandidateRunner) -> None:
        """Build candidates; the runner scores and keeps them."""


@dataclass(frozen=True)
class TryMethods(Strategy):
    """Build one candidate by each method."""

    methods: tuple[Method, ...]

    def run(self, runner: CandidateRunner) -> None:
        """Build one candidate by each method."""
        runner.try_all(self.methods)
