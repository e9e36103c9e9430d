"""Compare two recordings of one network spike for spike.

The evidence is, in this order: every spike, spike counts per layer, logits, top-1. The first
divergence of an image is the earliest step at which any population differs, and in that step the
first such population in topological order. Everything before it agrees, so the cause is the
arithmetic of that one sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import is_classifier
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.judging.count import same_classes
from icsnn_deploy.parity.divergence import Potentials, find_divergences, images_affected
from icsnn_deploy.parity.judge import Comparison, Evidence, Tolerance, judge


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
