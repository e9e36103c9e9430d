"""Find where two recordings of one network first differ, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population

Potentials = Callable[[int, str], "Array | None"]
"""potentials(image, population): u[t], [T, *shape], or None if it was not recorded."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Where an image first differs. Potentials are before the reset, in the network's units."""

    image: int
    layer: str
    step: int  # 1..T
    neuron: tuple[int, ...]  # of the neurons that differ here, the farthest from its threshold
    neurons: int  # how many neurons of this layer differ at this step
    v_threshold: float
    u_reference: float | None
    u_other: float | None
    margin: float | None  # u_reference - v_threshold

    @property
    def relative_margin(self) -> float | None:
        """|u - v_threshold| / v_threshold in the reference."""
        return None if self.margin is None else abs(self.margin) / self.v_threshold

    def __str__(self) -> str:
        where = f"image {self.image}, {self.layer}, step {self.step}, neuron {self.neuron}"
        if self.margin is None:
            return f"{where}: potentials not recorded"
        other = "not recorded" if self.u_other is None else f"{self.u_other:.9g}"
        return (
            f"{where}: u {self.u_reference:.9g} in the reference, {other} in the other, "
            f"v_threshold {self.v_threshold:.9g}, margin {self.margin:.3g}"
        )


def images_affected(different: Mapping[str, Array], images: int) -> Array:
    """Which images differ anywhere, bool [B]; `different` holds bool [T, B, *shape] by layer."""
    affected = np.zeros(images, bool)
    for d in different.values():
        affected |= d.any(axis=(0, *range(2, d.ndim)))
    return affected


def find_divergences(
    different: Mapping[str, Array],
    graph: Graph,
    reference_potentials: Potentials,
    other_potentials: Potentials,
) -> list[Divergence]:
    """The first divergence of each image that has one.

    Args:
        different: which spikes differ, bool [T, B, *shape] by layer, in topological order.
        graph: the network, for the thresholds.
        reference_potentials: called for the first divergence of every affected image.
        other_potentials: called for the first divergence of the first affected image only.
    """
    images = next(iter(different.values())).shape[1] if different else 0
    thresholds = {node.name: node.v_threshold for node in graph.nodes_of(Population)}
    divergences = []
    for image in map(int, np.flatnonzero(images_affected(different, images))):
        layer, step = _first_site(different, image)
        neurons = np.argwhere(different[layer][step, image])  # [count, rank]
        v_threshold = np.broadcast_to(thresholds[layer], graph.shape(layer))
        u = reference_potentials(image, layer)
        divergences.append(_divergence(image, layer, step, neurons, v_threshold, u))
    if divergences:
        first = divergences[0]
        u = other_potentials(first.image, first.layer)
        if u is not None:
            divergences[0] = replace(first, u_other=float(u[first.step - 1][first.neuron]))
    return divergences


def _first_site(different: Mapping[str, Array], image: int) -> tuple[str, int]:
    """(layer, step index) at which the image first differs."""
    first = ("", -1)
    for name, d in different.items():  # topological order: a tie in time goes to the earlier layer
        steps = np.flatnonzero(d[:, image].any(axis=tuple(range(1, d.ndim - 1))))
        if len(steps) and (not first[0] or steps[0] < first[1]):
            first = (name, int(steps[0]))
    return first


def _divergence(
    image: int, layer: str, step: int, neurons: Array, v_threshold: Array, u: Array | None
) -> Divergence:
    at = tuple(int(n) for n in neurons[0])
    if u is not None:
        index = tuple(neurons.T)
        ratio = np.abs(u[step][index] - v_threshold[index]) / v_threshold[index]
        at = tuple(int(n) for n in neurons[int(ratio.argmax())])
    reached = None if u is None else float(u[step][at])
    limit = float(v_threshold[at])
    return Divergence(
        image=image,
        layer=layer,
        step=step + 1,
        neuron=at,
        neurons=len(neurons),
        v_threshold=limit,
        u_reference=reached,
        u_other=None,
        margin=None if reached is None else reached - limit,
    )
