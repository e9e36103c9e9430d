"""The modelled cost of a network on a chip, and the file that keeps it for reports.

The file is what `icsnn cost --json` prints: `format`, `version`, `source`, the fields of ChipCost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.manifest import json_bytes, read_json
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.judging.typed_json import from_typed_json

FORMAT, VERSION = "icsnn-cost", 1
SOURCE = "modelled by SANA-FE from constants of SPICE simulations; not a measurement"
"""What the figures are, beside each of them."""


@dataclass(frozen=True, kw_only=True)
class EnergyParts:
    """Joules per image, by what consumes them."""

    synapse: float
    dendrite: float
    soma: float
    network: float


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """The synapses into one population, per image."""

    layer: str
    synaptic_events: float
    synapse_joules: float
    cores: int


@dataclass(frozen=True, kw_only=True)
class PlacementCost:
    """What a chip needs per image, with one placement; means over the images."""

    neurons_per_core: int
    cores: int
    seconds: float  # from the first input spike to the last step of the last population
    joules: float
    energy: EnergyParts
    synaptic_events: float  # as SANA-FE counts them, without repeated_events
    counted_events: float  # as this package counts them: spikes times nonzero synapses
    repeated_events: float  # of the neurons that repeat spikes for the shorter path of a join
    packets: float
    layers: tuple[LayerCost, ...]


@dataclass(frozen=True, kw_only=True)
class ChipCost:
    """The modelled cost of a network on a chip."""

    tool: str
    target: str
    graph_hash: str  # of the network
    images: int
    time_steps: int
    on_host: tuple[str, ...]
    spike_mismatches: int  # between SANA-FE and the reference
    spikes_compared: int
    placements: tuple[PlacementCost, ...]  # at least one

    @property
    def source(self) -> str:
        """What the figures are."""
        return SOURCE

    def to_json(self) -> dict[str, Any]:
        """The cost as JSON values, as the file has them."""
        return {"format": FORMAT, "version": VERSION, "source": SOURCE, **asdict(self)}


def check_cost_path(path: Path) -> None:
    """Raise DataError, before a tool runs for minutes, if no cost can be written there."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise DataError(f"{path}: a file in a folder that exists is needed")


def write_cost(cost: ChipCost, path: Path) -> None:
    """Write a cost to a file; raises DataError if that fails."""
    try:
        with atomic_write(path) as draft:
            draft.write_bytes(json_bytes(cost.to_json()))
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror})") from error


def read_cost(path: Path) -> ChipCost:
    """Read the file that `icsnn cost` wrote.

    Raises:
        DataError: no such file, another version, or values that no cost has.
    """
    again = f"write it again: icsnn cost BUNDLE --out {path}"
    try:
        content = read_json(path)
    except BundleError as error:
        raise DataError(f"{error}; {again}") from error
    stated = (content.pop("format", None), content.pop("version", None))
    if stated != (FORMAT, VERSION):
        raise DataError(f"{path}: no {FORMAT} file of version {VERSION}; {again}")
    content.pop("source", None)
    try:
        cost = from_typed_json(ChipCost, content)
    except DataError as error:
        raise DataError(f"{path}: {error}; {again}") from error
    numbers = list(_numbers(asdict(cost)))
    if not cost.placements or not all(math.isfinite(n) and n >= 0 for n in numbers):
        raise DataError(f"{path}: no placement, or a negative or infinite figure; {again}")
    return cost


def costs_of(bundles: Sequence[Bundle], paths: Sequence[Path]) -> dict[str, ChipCost]:
    """Read costs of the networks in some bundles, by the hash of the network.

    Raises:
        DataError: a file is damaged, of a network that no bundle holds, or the second of a network.
    """
    found: dict[str, ChipCost] = {}
    for path in paths:
        cost = read_cost(path)
        if cost.graph_hash not in {bundle.graph_hash for bundle in bundles}:
            held = ", ".join(f"{bundle.path} {bundle.graph_hash[:12]}..." for bundle in bundles)
            raise DataError(
                f"{path}: the cost of network {cost.graph_hash[:12]}..., but it is {held}; write "
                f"it again: icsnn cost {bundles[0].path} --out {path}"
            )
        if cost.graph_hash in found:
            raise DataError(
                f"{path}: a second cost of network {cost.graph_hash[:12]}...; pass one file that "
                "has all placements (--neurons-per-core may be repeated)"
            )
        found[cost.graph_hash] = cost
    return found


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in JSON values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value
