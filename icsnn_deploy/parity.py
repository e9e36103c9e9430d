"""Two recordings of one network, compared spike for spike, and the verdict on them.

Order of the evidence: every spike, spike counts a layer, logits, top-1. The first divergence of an
image is the earliest step at which any population differs, and there the first such population in
topological order: everything before it agrees, so the cause is the arithmetic of that one sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from icsnn_deploy.divergence import Divergence, Potentials, find_divergences, images_affected
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF
from icsnn_deploy.simulate.recording import Recording

Verdict = Literal["pass", "fail"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What a float network is allowed; an exact comparison allows nothing.

    margin: largest |u - v_threshold| / v_threshold at the first divergence of an image.
    logits: largest logit difference over the largest |logit|, on images without a divergence.
    """

    margin: float = 1e-4
    logits: float = 1e-4
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One backend against the reference."""

    backend: str
    verdict: Verdict
    images: int
    spikes_compared: int
    spike_mismatches: int
    images_affected: int
    first_divergence: Divergence | None
    worst_relative_margin: float | None  # over the first divergences of all images
    max_abs_logit_difference: float
    top1_agreement: float  # fraction of images
    spike_counts: dict[str, tuple[int, int]]  # layer: (reference, other)
    reason: str  # why the verdict is what it is
    divergences: tuple[Divergence, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values, without the divergence of every image."""
        values = asdict(self)
        del values["divergences"]
        return values


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All comparisons of one network, with the accuracies where labels were given."""

    comparisons: tuple[Comparison, ...]
    graph_hash: str
    ann_accuracy: float | None = None  # fraction of images
    snn_accuracy: float | None = None

    @property
    def verdict(self) -> Verdict:
        good = self.comparisons and all(c.verdict == "pass" for c in self.comparisons)
        return "pass" if good else "fail"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        values: dict[str, Any] = {"verdict": self.verdict, "graph_hash": self.graph_hash}
        if self.ann_accuracy is not None:
            values["ann_accuracy"] = self.ann_accuracy
            values["snn_accuracy"] = self.snn_accuracy
        values["comparisons"] = [comparison.to_json() for comparison in self.comparisons]
        return values

    def summary(self) -> str:
        """One line a backend."""
        return "\n".join(f"{c.backend}: {c.verdict} ({c.reason})" for c in self.comparisons)


def compare(
    reference: Recording,
    other: Recording,
    graph: Graph,
    *,
    tolerance: Tolerance = Tolerance(),
    first_image: int = 0,
    reference_potentials: Potentials | None = None,
    other_potentials: Potentials | None = None,
) -> Comparison:
    """Compare two recordings of the same images.

    Args:
        reference: the oracle's recording, with the spikes of every population.
        other: the other side; it may hold fewer populations (an external recording).
        graph: the network, for the order and the thresholds of its populations.
        tolerance: what a float network is allowed.
        first_image: number of the first image, for the report.
        reference_potentials: u of an image and a population; default: from the recording.
        other_potentials: likewise, asked for the first divergence only.

    Raises:
        DataError: the recordings do not belong to this network or to the same images.
    """
    layers = _common_layers(reference, other, graph)
    u_of = reference_potentials or _recorded(reference)
    u_of_other = other_potentials or _recorded(other)
    different = {name: reference.spikes[name] != other.spikes[name] for name in layers}
    affected = images_affected(different, len(reference.logits))
    divergences = find_divergences(different, graph, u_of, u_of_other)
    divergences = [replace(d, image=d.image + first_image) for d in divergences]
    gap, scale = _logit_gap(reference, other), max(float(np.abs(reference.logits).max()), 1e-30)
    margins = [d.relative_margin for d in divergences]
    comparison = Comparison(
        backend=other.backend,
        verdict="fail",
        images=len(reference.logits),
        spikes_compared=sum(d.size for d in different.values()),
        spike_mismatches=int(sum(d.sum() for d in different.values())),
        images_affected=int(affected.sum()),
        first_divergence=divergences[0] if divergences else None,
        worst_relative_margin=max((m for m in margins if m is not None), default=None),
        max_abs_logit_difference=float(gap.max()),
        top1_agreement=float(np.mean(top1(reference.logits) == top1(other.logits))),
        spike_counts={
            name: (int(reference.spikes[name].sum()), int(other.spikes[name].sum()))
            for name in layers
        },
        reason="",
        divergences=tuple(divergences),
    )
    quiet_gap = float(gap[~affected].max()) / scale if not affected.all() else 0.0
    return _judge(comparison, tolerance, quiet_gap)


def merge(parts: Sequence[Comparison]) -> Comparison:
    """Comparisons of one backend on successive images, as one."""
    images = sum(part.images for part in parts)
    divergences = tuple(d for part in parts for d in part.divergences)
    failed = [part for part in parts if part.verdict == "fail"]
    margins = [p.worst_relative_margin for p in parts if p.worst_relative_margin is not None]
    mismatches = sum(part.spike_mismatches for part in parts)
    affected = sum(part.images_affected for part in parts)
    totals = {
        name: tuple(sum(part.spike_counts[name][side] for part in parts) for side in (0, 1))
        for name in parts[0].spike_counts
    }
    worst = max(margins, default=None)
    reason = failed[0].reason if failed else _pass_reason(mismatches, affected, worst)
    return Comparison(
        backend=parts[0].backend,
        verdict="fail" if failed else "pass",
        images=images,
        spikes_compared=sum(part.spikes_compared for part in parts),
        spike_mismatches=mismatches,
        images_affected=affected,
        first_divergence=divergences[0] if divergences else None,
        worst_relative_margin=worst,
        max_abs_logit_difference=max(part.max_abs_logit_difference for part in parts),
        top1_agreement=sum(part.top1_agreement * part.images for part in parts) / images,
        spike_counts={name: (both[0], both[1]) for name, both in totals.items()},
        reason=reason,
        divergences=divergences,
    )


def top1(logits: Array) -> Array:
    """Index of the largest logit of each image, [B, ...] -> [B]."""
    best: Array = logits.reshape(len(logits), -1).argmax(axis=1)
    return best


def _judge(comparison: Comparison, tolerance: Tolerance, quiet_gap: float) -> Comparison:
    """The comparison with its verdict; quiet_gap is relative, on images without a divergence."""
    mismatches, affected = comparison.spike_mismatches, comparison.images_affected
    if tolerance.exact:
        gap = comparison.max_abs_logit_difference
        if mismatches or gap:
            reason = f"{mismatches} spikes differ, logits by up to {gap:.3g}; exactness is claimed"
            return replace(comparison, reason=reason)
        return replace(comparison, verdict="pass", reason="every spike and logit equal")
    unknown = [d for d in comparison.divergences if d.relative_margin is None]
    wide = [d for d in comparison.divergences if (d.relative_margin or 0.0) > tolerance.margin]
    if unknown:
        reason = f"{mismatches} spikes differ and the margin is not known: {unknown[0]}"
    elif wide:
        reason = (
            f"{len(wide)} of {affected} diverging images do so at a margin above "
            f"{tolerance.margin:g} of v_threshold: {wide[0]}"
        )
    elif quiet_gap > tolerance.logits:
        reason = f"logits differ by {quiet_gap:.3g} of the largest where all spikes agree"
    else:
        reason = _pass_reason(mismatches, affected, comparison.worst_relative_margin)
        return replace(comparison, verdict="pass", reason=reason)
    return replace(comparison, reason=reason)


def _pass_reason(mismatches: int, affected: int, worst: float | None) -> str:
    if not mismatches:
        return "every spike equal"
    return (
        f"{mismatches} spikes differ on {affected} images, all after a rounding tie: "
        f"margin at most {worst:.1e} of v_threshold"
    )


def _common_layers(reference: Recording, other: Recording, graph: Graph) -> list[str]:
    populations = [node.name for node in graph.nodes_of(IF)]
    unknown = [name for name in other.spikes if name not in populations]
    if unknown:
        raise DataError(
            f"{other.backend}: records {unknown[0]!r}, which is no population of the network; "
            f"those are {', '.join(populations)}"
        )
    if reference.logits.shape != other.logits.shape:
        raise DataError(
            f"{other.backend}: logits {other.logits.shape}, reference {reference.logits.shape}"
        )
    layers = [name for name in populations if name in other.spikes]
    for name in layers:
        ours, theirs = reference.spikes[name].shape, other.spikes[name].shape
        if ours != theirs:
            raise DataError(
                f"{other.backend}: spikes of {name} {theirs}, [T, B, ...] {ours} needed"
            )
    return layers


def _recorded(recording: Recording) -> Potentials:
    def potentials(image: int, layer: str) -> Array | None:
        u = recording.potentials.get(layer)
        return None if u is None else u[:, image]

    return potentials


def _logit_gap(reference: Recording, other: Recording) -> Array:
    """Largest logit difference of each image, [B]."""
    gap = np.abs(reference.logits.astype(np.float64) - other.logits.astype(np.float64))
    worst: Array = gap.reshape(len(gap), -1).max(axis=1)
    return worst
