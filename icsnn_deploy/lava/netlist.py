"""The processes and wires of one Lava run: the complete request to the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from icsnn_deploy.graph.neuron import Array

Tag = Literal["floating_pt", "fixed_pt"]
Transforms = tuple[tuple[str, tuple[int, ...]], ...]  # calls of a port's reshape and transpose


@dataclass(frozen=True, kw_only=True, eq=False)
class Process:
    """One Lava process."""

    kind: str  # a name in the table of icsnn_lava.network
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)  # JSON values
    arrays: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A connection from the output port of one process to the input port of another."""

    source: str
    target: str
    transforms: Transforms = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Netlist:
    """One Lava network, and the number of steps that it runs.

    tag: selects Lava's process models, "floating_pt" or "fixed_pt".
    copies: images that run at the same time.
    spikes, potentials: file name for each population that is recorded.
    """

    tag: Tag
    steps: int
    copies: int
    processes: Sequence[Process]
    wires: Sequence[Wire]
    readout: str  # file of the output's current
    spikes: Mapping[str, str]
    potentials: Mapping[str, str]
