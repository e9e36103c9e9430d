"""All comparisons of one network, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from icsnn_deploy.errors import IcsnnError
from icsnn_deploy.exporters.contents import Contents
from icsnn_deploy.notebook import object_html
from icsnn_deploy.parity.judge import Comparison, Verdict


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All comparisons of one network, with the figures of its outputs if they were measured.

    `exports` says of each export whose content was compared with what the exporter writes how it
    was compared (exporters.contents).
    """

    comparisons: tuple[Comparison, ...]
    graph_hash: str
    ann_accuracy: float | None = None  # fraction of images; of a classifier
    snn_accuracy: float | None = None
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # judging.figures
    exports: Mapping[str, Contents] = field(default_factory=dict)  # by format
    errors: Mapping[str, IcsnnError] = field(default_factory=dict)  # of what could not be compared

    @property
    def verdict(self) -> Verdict:
        """Whether every backend ran and is equal to the reference, or within the tolerance."""
        passed = self.comparisons and all(c.verdict == "pass" for c in self.comparisons)
        passed = passed and not self.errors
        return "pass" if passed else "fail"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        values: dict[str, Any] = {"verdict": self.verdict, "graph_hash": self.graph_hash}
        for name in ("ann_accuracy", "snn_accuracy"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.outputs:
            values["outputs"] = {name: dict(figures) for name, figures in self.outputs.items()}
        if self.exports:
            values["exports"] = {name: asdict(found) for name, found in self.exports.items()}
        values["comparisons"] = [comparison.to_json() for comparison in self.comparisons]
        if self.errors:
            values["errors"] = {
                backend: {"error": type(error).__name__, "message": str(error)}
                for backend, error in self.errors.items()
            }
        return values

    def __repr__(self) -> str:
        verdicts = ", ".join(
            [
                *(f"{c.backend} {c.verdict}" for c in self.comparisons),
                *(f"{backend} did not run" for backend in self.errors),
            ]
        )
        return f"<ParityReport: {self.verdict}; {verdicts}>"

    def _repr_html_(self) -> str:
        """What notebooks show: a row per backend."""
        rows = (
            (
                c.backend,
                c.verdict,
                f"{c.spikes_compared:,}",
                f"{c.spike_mismatches:,}",
                f"{c.max_abs_logit_difference:.1e}",
                c.reason,
            )
            for c in self.comparisons
        )
        columns = ("backend", "verdict", "spikes", "differ", "logits differ by", "why")
        return object_html(repr(self), columns, rows, count=len(self.comparisons))

    def summary(self) -> str:
        """One line per backend, and the accuracies where they were measured."""
        lines = [f"{c.backend}: {c.verdict} ({c.reason})" for c in self.comparisons]
        lines += [f"{backend}: did not run ({error})" for backend, error in self.errors.items()]
        accuracies = {"ANN": self.ann_accuracy, "SNN": self.snn_accuracy}
        measured = [
            f"{name} {value:.2%}" for name, value in accuracies.items() if value is not None
        ]
        return "\n".join([*lines, *([f"accuracy: {', '.join(measured)}"] if measured else [])])
