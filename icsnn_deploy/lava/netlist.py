"""The processes and wires of one Lava run: what the worker is told, whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from icsnn_deploy.graph.neuron import Array

Tag = Literal["floating_pt", "fixed_pt"]
Transforms = tuple[tuple[str, tuple[int, ...]], ...]  # reshape and transpose, of Lava's ports


@dataclass(frozen=True, kw_only=True, eq=False)
class Process:
    """One Lava process."""

    kind: str  # one that icsnn_lava.network knows
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # JSON values
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """From the output port of one process to the input port of another."""

    source: str
    target: str
    transforms: Transforms = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Netlist:
    """One Lava network and how long it runs.

    tag: which of Lava's process models run, "floating_pt" or "fixed_pt".
    copies: images side by side.
    spikes, potentials: file of each population that is recorded.
    """

    tag: Tag
    steps: int
    copies: int
    processes: Sequence[Process]
    wires: Sequence[Wire]
    readout: str  # file of the output's current
    spikes: Mapping[str, str]
    potentials: Mapping[str, str]
