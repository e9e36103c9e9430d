"""Every rewrite keeps the model's inputs and outputs: names, index, units and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs, unpack_input
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, AvgPool
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.passes.compose import compose
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise
from icsnn_deploy.passes.pooling import window_mean
from icsnn_deploy.passes.scale_current import scale_current
from icsnn_deploy.passes.scale_thresholds import scale_thresholds
from icsnn_deploy.passes.shift_current import shift_current
from tests.support.graphs import if_graphs, samples, with_parts


def rescaled(graph: Graph) -> Graph:
    ones = {p.name: np.ones((1,) * p.v_threshold.ndim, np.float32) for p in graph.nodes_of(IF)}
    return scale_thresholds(graph, ones, absorb=False)


def moved(graph: Graph) -> Graph:
    """The last current doubled and shifted, and both undone."""
    name = graph.output.name
    one = np.ones(graph.shape(name)[0], np.float32)
    for factor, shift in ((2 * one, one), (one / 2, -one / 2)):
        graph = shift_current(scale_current(graph, name, factor), name, shift)
    return graph


PASSES: dict[str, Callable[[Graph], Graph]] = {
    "fold_scales": fold_scales,
    "compose": compose,
    "merge_pointwise": merge_pointwise,
    "scale_thresholds": rescaled,
    "scale and shift": moved,
    "window_mean": lambda graph: graph.replace(
        *(window_mean(pool, graph.shape(pool.name)[0]) for pool in graph.nodes_of(AvgPool))
    ),
}


def results(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    recording = ReferenceSimulator(graph).run(pack_inputs(graph, inputs).astype(np.float32))
    return named_outputs(graph, recording.logits)


@settings(max_examples=60, deadline=None)
@given(if_graphs(), st.integers(0, 99), st.sampled_from(list(PASSES)))
def test_a_pass_keeps_inputs_and_outputs_by_name(graph: Graph, seed: int, which: str) -> None:
    named = with_parts(graph, seed)
    changed = PASSES[which](named)
    for before, after in ((named.input, changed.input), (named.output, changed.output)):
        assert after.parts == before.parts
        np.testing.assert_array_equal(after.index, before.index)
    inputs = unpack_input(named.input, samples(graph, 3))
    expected, got = results(named, inputs), results(changed, inputs)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(if_graphs(), st.integers(0, 99), st.booleans())
def test_a_prepared_network_takes_the_inputs_in_its_own_unit(
    graph: Graph, seed: int, per_layer: bool
) -> None:
    named = with_parts(graph, seed)
    prepared = prepare(named, samples(graph, 4), per_layer=per_layer, input_bits=8)
    np.testing.assert_array_equal(prepared.input.index, named.input.index)
    assert (prepared.input.parts, prepared.output.parts) == (named.input.parts, named.output.parts)
    bare = replace(named.input, index=None, parts=())
    plain = prepare(
        named.replace(bare, replace(named.output, index=None, parts=())),
        samples(graph, 4),
        per_layer=per_layer,
        input_bits=8,
    )
    assert plain.input.unit == prepared.input.unit
    assert [node.name for node in plain.nodes] == [node.name for node in prepared.nodes]
