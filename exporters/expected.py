"""What a network computes for a sample, for formats whose files hold tests of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedRun:
    """The reference simulator's run of an integer network.

    Args:
        logit_sums: int64 [N, *output shape], the output's current over (readout_start, T].
        spikes: of each population, uint8 [T, N, *shape].
        potentials: of each population after the reset and rounded down, int64 [T, N, *shape].
        currents: of each population and the output, int64 [T, N, *shape].
    """

    logit_sums: Array
    spikes: Mapping[str, Array]
    potentials: Mapping[str, Array]
    currents: Mapping[str, Array]


ReferenceRun = Callable[[Graph, Array], ExpectedRun]
"""Runs an integer network on inputs [N, *shape], or spikes [T, N, *shape]."""
