"""Match layers to cores, one layer per core, or prove that it is impossible.

Bipartite matching by augmenting paths is exact. If a layer gets no core, the layers and cores that
alternating paths reach from it are a Hall violator: more layers than cores that fit any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Matching:
    """The core of each layer, or a set of layers that has too few cores."""

    cores: tuple[int | None, ...]  # by layer
    violator: tuple[tuple[int, ...], tuple[int, ...]] | None  # layers, all the cores they fit

    @property
    def complete(self) -> bool:
        """Whether every layer has a core."""
        return self.violator is None


def match(fits: Sequence[Sequence[int]]) -> Matching:
    """Match layers to cores.

    Args:
        fits: for each layer, the cores that can hold it.
    """
    layer_of: dict[int, int] = {}
    violator = None
    for layer in range(len(fits)):
        layers, cores = _augment(layer, fits, layer_of)
        if layers and violator is None:
            violator = (tuple(sorted(layers)), tuple(sorted(cores)))
    core_of = {layer: core for core, layer in layer_of.items()}
    return Matching(tuple(core_of.get(layer) for layer in range(len(fits))), violator)


def _augment(
    start: int, fits: Sequence[Sequence[int]], layer_of: dict[int, int]
) -> tuple[set[int], set[int]]:
    """Find a core for `start`, moving other layers if needed.

    Returns:
        empty sets; or, if there is no core, all layers and cores that were reached.
    """
    came_from: dict[int, int] = {}  # core -> layer from which it was reached
    waiting, layers = [start], {start}
    for layer in waiting:
        for core in fits[layer]:
            if core in came_from:
                continue
            came_from[core] = layer
            if core not in layer_of:
                _shift(core, start, came_from, layer_of)
                return set(), set()
            holder = layer_of[core]
            layers.add(holder)
            waiting.append(holder)
    return layers, set(came_from)


def _shift(core: int, start: int, came_from: dict[int, int], layer_of: dict[int, int]) -> None:
    """Reassign the layers along the alternating path that ends in a free core."""
    core_of = {layer: taken for taken, layer in layer_of.items()}
    while True:
        layer = came_from[core]
        previous = core_of.get(layer)
        layer_of[core] = layer
        if layer == start or previous is None:
            return
        core = previous
