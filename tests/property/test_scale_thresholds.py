"""Other thresholds by powers of two: every spike and logit stays, by either way of scaling."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Linear
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.scale_thresholds import scale_thresholds
from tests.support.graphs import if_graphs, samples

networks = if_graphs(resets=("subtract", "v_reset"))
single_edges = networks.filter(
    lambda graph: all(len(set(node.inputs)) == len(node.inputs) for node in graph.nodes)
)
"""Where a sum takes a source twice, the source is no private one: it gets a factor every time."""


def powers_apart(graph: Graph, seed: int) -> dict[str, Array]:
    """A threshold for each population, each channel a power of two from what it was."""
    rng = np.random.default_rng(seed)
    return {
        node.name: node.v_threshold
        * (2.0 ** rng.integers(-3, 4, node.v_threshold.shape)).astype(np.float32)
        for node in graph.nodes_of(IF)
    }


@settings(deadline=None)
@given(networks, st.integers(0, 2**32 - 1), st.booleans())
def test_every_spike_and_logit_stays(graph: Graph, seed: int, absorb: bool) -> None:
    wanted = powers_apart(graph, seed)
    scaled = scale_thresholds(graph, wanted, absorb=absorb)
    for name, v_threshold in wanted.items():
        node = scaled.node(name)
        assert isinstance(node, IF)
        np.testing.assert_array_equal(node.v_threshold, v_threshold)
    x = samples(graph, 3)
    before, after = ReferenceSimulator(graph).run(x), ReferenceSimulator(scaled).run(x)
    np.testing.assert_array_equal(after.logits, before.logits)
    for name in wanted:
        np.testing.assert_array_equal(after.spikes[name], before.spikes[name])


@settings(deadline=None)
@given(single_edges, st.integers(0, 2**32 - 1))
def test_scaling_again_changes_no_value(graph: Graph, seed: int) -> None:
    """The first time may spread one value of a layer over its channels, not the second."""
    wanted = powers_apart(graph, seed)
    once = scale_thresholds(graph, wanted, absorb=True)
    twice = scale_thresholds(once, wanted, absorb=True)
    assert [node.name for node in twice.nodes] == [node.name for node in once.nodes]
    for node in once.nodes:
        for field, value in node.arrays().items():
            again = twice.node(node.name).arrays()[field]
            np.testing.assert_array_equal(again, np.broadcast_to(value, again.shape))
    assert scale_thresholds(twice, wanted, absorb=True).hash() == twice.hash()


@settings(deadline=None)
@given(single_edges, st.integers(0, 2**32 - 1))
def test_folding_the_factors_is_absorbing_them(graph: Graph, seed: int) -> None:
    """Powers of two round nothing, so both ways end in the same weights; their order may differ."""
    wanted = powers_apart(graph, seed)
    folded = fold_scales(graph)
    absorbed = scale_thresholds(folded, wanted, absorb=True)
    folded = fold_scales(scale_thresholds(folded, wanted, absorb=False))
    for node in absorbed.nodes_of(Conv, Linear):
        for field, value in node.arrays().items():
            np.testing.assert_array_equal(folded.node(node.name).arrays()[field], value)
