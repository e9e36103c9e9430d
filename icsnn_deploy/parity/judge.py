"""Judge what differs between a backend and the reference: the evidence becomes a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.parity.divergence import Divergence
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
