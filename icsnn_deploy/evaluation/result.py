"""The result of an evaluation; every figure is a quotient of two counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from icsnn_deploy.evaluation.counts import Counts
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.judging.counts import Match, OutputCounts
from icsnn_deploy.judging.figures import agreeing, output_figures, right
from icsnn_deploy.parity.judge import Verdict


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The figures of a network on a data set; shares are of the samples. None: not measured.

    Attributes:
        backend: as it was asked for.
        ran: the backends that gave results in this process; none if all shards were finished.
    """

    graph: Graph
    graph_hash: str
    backend: str
    confidence: float | None
    counts: Counts
    ran: tuple[str, ...] = ()

    def __repr__(self) -> str:
        named = (("top-1", self.top1), ("ANN", self.ann_top1))
        figures = "".join(f", {name} {value:.2%}" for name, value in named if value is not None)
        return (
            f"<Evaluation: {self.backend} on {self.counts.samples:,} samples{figures}; network "
            f"{self.graph_hash[:12]}>"
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict on all compared backends; "pass" if none was compared."""
        failed = any(comparison.verdict != "pass" for comparison in self.counts.parity)
        return "fail" if failed else "pass"

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The figures of each output by name (judging.figures)."""
        return {
            name: output_figures(counts, self.graph.readout_start)
            for name, counts in self.counts.outputs.items()
        }

    @property
    def top1(self) -> float | None:
        """Accuracy of a classifier, as the figures that follow; None for any other network."""
        return self._classifier.get("top1")

    @property
    def top5(self) -> float | None:
        return self._classifier.get("top5")

    @property
    def ann_top1(self) -> float | None:
        return self._classifier.get("ann_top1")

    @property
    def ann_top5(self) -> float | None:
        return self._classifier.get("ann_top5")

    @property
    def agreement(self) -> float | None:
        """Share of samples whose first class is the ANN's."""
        return self._classifier.get("ann_agreement")

    @property
    def top1_t(self) -> dict[int, float]:
        """Accuracy if the run is stopped after t steps, by t."""
        found: dict[int, float] = self._classifier.get("top1_over_time", {})
        return found

    @property
    def agreement_t(self) -> dict[int, float]:
        """Agreement with the ANN if the run is stopped after t steps, by t."""
        found: dict[int, float] = self._classifier.get("ann_agreement_over_time", {})
        return found

    @property
    def spikes(self) -> float | None:
        """Spikes per sample."""
        counted = self.counts.spikes
        return None if counted is None else sum(counted.values()) / self.counts.samples

    @property
    def firing_rate(self) -> float | None:
        """Spikes per neuron and step."""
        if self.spikes is None:
            return None
        neurons = sum(self._neurons(node.name) for node in self.graph.nodes_of(Population))
        return self.spikes / (neurons * self.graph.steps)

    @property
    def layers(self) -> dict[str, dict[str, float]]:
        """Spikes per sample and firing rate of each population."""
        found = {}
        for name, counted in (self.counts.spikes or {}).items():
            spikes = counted / self.counts.samples
            rate = spikes / (self._neurons(name) * self.graph.steps)
            found[name] = {"spikes": spikes, "firing_rate": rate}
        return found

    @property
    def mean_steps(self) -> float | None:
        """Mean T with early exit."""
        stopped = self.counts.exit_steps
        if stopped is None:
            return None
        return sum(t * count for t, count in enumerate(stopped, start=1)) / self.counts.samples

    @property
    def exit_top1(self) -> float | None:
        return self._early(right)

    @property
    def exit_agreement(self) -> float | None:
        """Share of samples whose first class with early exit is the ANN's."""
        return self._early(agreeing)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; they do not depend on the number of processes."""
        return {
            "graph_hash": self.graph_hash,
            "backend": self.backend,
            "samples": self.counts.samples,
            "time_steps": self.graph.steps,
            "outputs": self.outputs,
            "top1": self.top1,
            "top5": self.top5,
            "ann_top1": self.ann_top1,
            "ann_top5": self.ann_top5,
            "ann_agreement": self.agreement,
            "top1_over_time": self.top1_t,
            "ann_agreement_over_time": self.agreement_t,
            "spikes": self.spikes,
            "firing_rate": self.firing_rate,
            "layers": self.layers,
            "early_exit": self._early_exit(),
            "parity": self._parity(),
        }

    def _early_exit(self) -> dict[str, Any] | None:
        if self.counts.exit_steps is None:
            return None
        return {
            "confidence": self.confidence,
            "mean_steps": self.mean_steps,
            "top1": self.exit_top1,
            "ann_agreement": self.exit_agreement,
            "stopped_after": dict(enumerate(self.counts.exit_steps, start=1)),
        }

    def _parity(self) -> dict[str, Any] | None:
        if not self.counts.parity:
            return None
        return {
            "with": self.backend,
            "verdict": self.verdict,
            "comparisons": [comparison.to_json() for comparison in self.counts.parity],
        }

    @property
    def _classifier(self) -> dict[str, Any]:
        """The figures of the only output, if it is a class; otherwise nothing."""
        return next(iter(self.outputs.values())) if is_classifier(self.graph) else {}

    def _early(self, figure: Callable[[OutputCounts, Match], float | None]) -> float | None:
        """A figure with early exit, which networks of one output have."""
        for counts in self.counts.outputs.values():
            if counts.early is not None:
                return figure(counts, counts.early)
        return None

    def _neurons(self, name: str) -> int:
        return math.prod(self.graph.shape(name))
