"""What a network computes for a sample, for formats whose files hold tests of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units
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


_LEAST_STEPS = 256
_MOST_RESULTS = 2**15

ReferenceRun = Callable[[Graph, Array], ExpectedRun]
"""Runs an integer network on inputs [N, *shape], or spikes [T, N, *shape]."""


def steps_for_tests(graph: Graph) -> int:
    """The time steps that tests in files run: all, or the first ones of very many.

    They are at least 256 and one after readout_start, and as many more as give 32,768 results of
    nodes.
    """
    most = max(_LEAST_STEPS, _MOST_RESULTS // len(graph.nodes), graph.readout_start + 1)
    return min(graph.steps, most)


def for_tests(graph: Graph) -> Graph:
    """The network with the time steps of steps_for_tests."""
    steps = steps_for_tests(graph)
    return graph if steps == graph.steps else replace(graph, time_steps=steps)


def inputs_for_tests(graph: Graph, samples: Array | None, count: int) -> Array:
    """The first samples; without any, random inputs, the same for the same network.

    Args:
        graph: an integer network.
        samples: as the network takes them, or real values, [N, *shape]; spikes [T, N, *shape].
        count: samples at most.

    Returns:
        [N, *shape], or spikes [T, N, *shape] of the steps of steps_for_tests, in the type of the
        input.

    Raises:
        DataError: samples that do not fit the network.
    """
    node, axis = graph.input, graph.input.batch_axis
    steps = steps_for_tests(graph)
    if samples is not None and samples.shape[axis] > 0:
        given = samples[:count] if axis == 0 else samples[:, :count]
        whole = check_inputs(graph, to_input_units(graph, given))
        return whole[:steps] if node.is_timed else whole
    rng = np.random.default_rng(int(graph.hash()[:16], 16))
    if node.is_timed:
        spikes: Array = rng.random((steps, count, *node.shape)) < 0.2
        return spikes.astype(np.uint8)
    limits = np.iinfo(node.dtype)
    return rng.integers(limits.min, limits.max + 1, (count, *node.shape)).astype(node.dtype)
