"""Compare two recordings of one network spike for spike, and judge the result.

The evidence is, in this order: every spike, spike counts per layer, logits, top-1. The first
divergence of an image is the earliest step at which any population differs, and in that step the
first such population in topological order. Everything before it agrees, so the cause is the
arithmetic of that one sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError, IcsnnError
from icsnn_deploy.exporters.contents import Contents
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.judging.count import same_classes
from icsnn_deploy.notebook import object_html
from icsnn_deploy.parity.divergence import Divergence, Potentials, find_divergences, images_affected
from icsnn_deploy.parity.rounding_bound import rounding_bounds

Verdict = Literal["pass", "fail"]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The differences that are allowed for a float network; none if `exact`.

    margin: largest |u - v_threshold| / v_threshold at the first divergence of an image.
    logits: largest logit difference over the largest |logit|, on images without a divergence.
    rounding: largest |u - v_threshold| at the first divergence, by population: what float32 can
        round (rounding_bounds). None: of the network that it is used on.
    """

    margin: float = 1e-4
    logits: float = 1e-4
    exact: bool = False
    rounding: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("logits", self.logits)):
            if not value >= 0:  # NaN is refused, too
                raise DataError(
                    f"a tolerance of {value} for {name}: a number of at least 0 is needed"
                )

    def on(self, network: Graph, largest_input: float = math.inf) -> Tolerance:
        """This tolerance for a float network, with its bounds; for an integer one, exactness.

        Args:
            largest_input: largest |value| of a direct float input, if it is known.
        """
        exact = self.exact or network.is_integer
        rounding = self.rounding
        if rounding is None and not exact:
            rounding = rounding_bounds(network, largest_input)
        return replace(self, exact=exact, rounding=rounding)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The differences between one backend and the reference, without a verdict."""

    backend: str
    images: int
    spikes_compared: int
    spike_mismatches: int
    images_affected: int
    first_divergence: Divergence | None
    worst_relative_margin: float | None  # over the first divergences of all images
    logit_mismatches: int  # logits that differ in float32
    max_abs_logit_difference: float  # infinite if a logit is NaN
    top1_agreement: float | None  # fraction of images; None unless the network is one classifier
    spike_counts: dict[str, tuple[int, int]]  # layer: (reference, other)
    # decisions of the same class, and all, by output (judging.count.same_classes)
    same_classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    divergences: tuple[Divergence, ...] = field(default=(), repr=False)
    quiet_logit_difference: float = field(default=0.0, repr=False)  # on images that do not diverge
    largest_logit: float = field(default=0.0, repr=False)  # |logit| of the reference


@dataclass(frozen=True, kw_only=True)
class Comparison(Evidence):
    """The comparison of one backend with the reference: the evidence, and the verdict."""

    verdict: Verdict
    reason: str  # of the verdict

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values, without the divergence of every image."""
        values = asdict(self)
        for inner in ("divergences", "quiet_logit_difference", "largest_logit", "same_classes"):
            del values[inner]
        values["class_agreement"] = {name: a / b for name, (a, b) in self.same_classes.items()}
        if not math.isfinite(self.max_abs_logit_difference):  # JSON has no infinity
            values["max_abs_logit_difference"] = None
        return values


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
        reference: the reference simulator's recording, with the spikes of every population.
        other: the recording to compare; an external one may hold fewer populations.
        graph: the network, for the order and the thresholds of its populations.
        tolerance: the differences that are allowed for a float network; none for an integer one.
        first_image: number of the first image, for the report.
        reference_potentials: gives u of an image and a population; default: from the recording.
        other_potentials: the same for the other recording; called for the first divergence only.

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
    summed = graph.steps - graph.readout_start if graph.is_integer else None
    gaps = _logit_gaps(reference, other, summed)
    gap = gaps.max(axis=1)
    margins = [d.relative_margin for d in divergences]
    same = same_classes(graph, reference.logits, other.logits)
    evidence = Evidence(
        backend=other.backend,
        images=len(reference.logits),
        spikes_compared=sum(d.size for d in different.values()),
        spike_mismatches=int(sum(d.sum() for d in different.values())),
        images_affected=int(affected.sum()),
        first_divergence=divergences[0] if divergences else None,
        worst_relative_margin=max((m for m in margins if m is not None), default=None),
        logit_mismatches=int(
            np.count_nonzero((gaps > 0) & _unequal(reference.logits, other.logits))
        ),
        max_abs_logit_difference=float(gap.max()),
        top1_agreement=_first_share(same) if is_classifier(graph) else None,
        same_classes=same,
        spike_counts={
            name: (int(reference.spikes[name].sum()), int(other.spikes[name].sum()))
            for name in layers
        },
        divergences=tuple(divergences),
        quiet_logit_difference=float(gap[~affected].max(initial=0.0)),
        largest_logit=float(np.abs(reference.logits).max()),
    )
    return judge(evidence, tolerance.on(graph))


def merge(parts: Sequence[Evidence], tolerance: Tolerance = Tolerance()) -> Comparison:
    """Join the evidence on successive images of one backend, and judge the whole."""
    images = sum(part.images for part in parts)
    divergences = tuple(d for part in parts for d in part.divergences)
    margins = [p.worst_relative_margin for p in parts if p.worst_relative_margin is not None]
    totals = {
        name: tuple(sum(part.spike_counts[name][side] for part in parts) for side in (0, 1))
        for name in parts[0].spike_counts
    }
    same = {
        name: tuple(sum(part.same_classes[name][side] for part in parts) for side in (0, 1))
        for name in parts[0].same_classes
    }
    one_class = parts[0].top1_agreement is not None
    evidence = Evidence(
        backend=parts[0].backend,
        images=images,
        spikes_compared=sum(part.spikes_compared for part in parts),
        spike_mismatches=sum(part.spike_mismatches for part in parts),
        images_affected=sum(part.images_affected for part in parts),
        first_divergence=divergences[0] if divergences else None,
        worst_relative_margin=max(margins, default=None),
        logit_mismatches=sum(part.logit_mismatches for part in parts),
        max_abs_logit_difference=max(part.max_abs_logit_difference for part in parts),
        top1_agreement=_first_share(same) if one_class else None,
        same_classes={name: (both[0], both[1]) for name, both in same.items()},
        spike_counts={name: (both[0], both[1]) for name, both in totals.items()},
        divergences=divergences,
        quiet_logit_difference=max(part.quiet_logit_difference for part in parts),
        largest_logit=max(part.largest_logit for part in parts),
    )
    return judge(evidence, tolerance)


def _first_share(same: Mapping[str, tuple[int, ...]]) -> float:
    """The share of equal classes of the only output; raises ValueError if there is none."""
    (equal, compared), *_ = same.values()
    return equal / compared


def judge(evidence: Evidence, tolerance: Tolerance) -> Comparison:
    """Judge the evidence. Limits are tested so that NaN is never within them."""
    failure = _inexactness(evidence) if tolerance.exact else _excess(evidence, tolerance)
    reason = failure or _pass_reason(evidence, tolerance)
    values = {entry.name: getattr(evidence, entry.name) for entry in fields(Evidence)}
    return Comparison(**values, verdict="fail" if failure else "pass", reason=reason)


def _inexactness(evidence: Evidence) -> str | None:
    """A sentence about what is not equal; None if everything is."""
    mismatches, gap = evidence.spike_mismatches, evidence.max_abs_logit_difference
    if not (mismatches or gap):
        return None
    return f"{mismatches} spikes differ, logits by up to {gap:.3g}; exactness is claimed"


def _excess(evidence: Evidence, tolerance: Tolerance) -> str | None:
    """A sentence about what exceeds the tolerance of a float network; None if nothing does."""
    unknown = [d for d in evidence.divergences if d.relative_margin is None]
    wide = [d for d in evidence.divergences if not (d.relative_margin or 0) <= tolerance.margin]
    bounds = tolerance.rounding or {}
    beyond = [
        d for d in evidence.divergences if not abs(d.margin or 0) <= bounds.get(d.layer, math.inf)
    ]
    quiet_gap = evidence.quiet_logit_difference / max(evidence.largest_logit, 1e-30)
    if unknown:
        return (
            f"{evidence.spike_mismatches} spikes differ and the margin is not known: {unknown[0]}"
        )
    if wide:
        return (
            f"{len(wide)} of {evidence.images_affected} diverging images do so at a margin above "
            f"{tolerance.margin:g} of v_threshold: {wide[0]}"
        )
    if beyond:
        return (
            f"{len(beyond)} of {evidence.images_affected} diverging images do so at a margin above "
            f"{bounds[beyond[0].layer]:.3g}, the most that float32 can round there: {beyond[0]}"
        )
    if not quiet_gap <= tolerance.logits:
        return f"logits differ by {quiet_gap:.3g} of the largest where all spikes agree"
    return None


def _pass_reason(evidence: Evidence, tolerance: Tolerance) -> str:
    if tolerance.exact:
        return f"{'every spike and logit' if evidence.spikes_compared else 'every logit'} equal"
    if not evidence.spikes_compared:
        return "no spikes to compare; the logits agree"
    if not evidence.spike_mismatches:
        return "every spike equal"
    return (
        f"{evidence.spike_mismatches} spikes differ on {evidence.images_affected} images, "
        f"all after a rounding tie: margin at most {evidence.worst_relative_margin:.1e} of "
        "v_threshold"
    )


def _common_layers(reference: Recording, other: Recording, graph: Graph) -> list[str]:
    populations = [node.name for node in graph.nodes_of(Population)]
    unknown = [name for name in other.spikes if name not in populations]
    if unknown:
        raise DataError(
            f"{other.backend}: records {unknown[0]!r}, which is not a population of the network; "
            f"it has {', '.join(populations)}"
        )
    if not len(reference.logits):
        raise DataError(f"{other.backend}: no images to compare")
    if reference.logits.shape != other.logits.shape:
        raise DataError(
            f"{other.backend}: logits of shape {other.logits.shape}; {reference.logits.shape} is "
            "needed, as in the reference"
        )
    layers = [name for name in populations if name in other.spikes]
    missing = [name for name in layers if name not in reference.spikes]
    if missing:
        raise DataError(
            f"{reference.backend}: the reference holds no spikes of {missing[0]!r}; record the "
            "spikes of all populations"
        )
    for name in layers:
        ours, theirs = reference.spikes[name].shape, other.spikes[name].shape
        if ours != theirs:
            raise DataError(
                f"{other.backend}: spikes of {name} have shape {theirs}; [T, B, ...] {ours} is "
                "needed"
            )
    return layers


def _recorded(recording: Recording) -> Potentials:
    def potentials(image: int, layer: str) -> Array | None:
        u = recording.potentials.get(layer)
        return None if u is None else u[:, image]

    return potentials


def _logit_gaps(reference: Recording, other: Recording, summed: int | None) -> Array:
    """The absolute difference of each logit, [B, logits]; infinite if one is NaN.

    The logits of an integer network are integers divided by the number of steps that were summed.
    A runtime may multiply by the reciprocal instead, or divide the last weights beforehand. So the
    integers are compared: a logit is rounded to one if it is less than a quarter of a step away.
    Beyond 2^22 float32 rounds the quotient itself by more; there it must be the nearest float32.
    """
    ours, theirs = reference.logits.astype(np.float64), other.logits.astype(np.float64)
    if summed is not None:
        nearest = theirs == ours.astype(np.float32)
        ours, theirs = _whole(ours * summed) / summed, _whole(theirs * summed) / summed
        theirs = np.where(nearest, ours, theirs)
    with np.errstate(invalid="ignore"):
        gap = np.abs(ours - theirs)
    gaps: Array = np.where(np.isnan(gap), np.inf, gap).reshape(len(gap), -1)
    return gaps


def _unequal(ours: Array, theirs: Array) -> Array:
    """Which logits [B, logits] differ after rounding to float32."""
    unequal: Array = ours.astype(np.float32) != theirs.astype(np.float32)
    return unequal.reshape(len(unequal), -1)


def _whole(sums: Array) -> Array:
    """Round each sum to the nearest integer if it is less than 0.25 away; else unchanged."""
    with np.errstate(invalid="ignore"):
        nearest = np.rint(sums)
        result: Array = np.where(np.abs(sums - nearest) < 0.25, nearest, sums)
    return result
