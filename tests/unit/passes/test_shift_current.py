"""A constant added to a current: into a bias where there is one, exact, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv, Input, Node, Output
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.shift_current import private_affine, shift_current
from tests.support.graphs import conv, residual_network, samples


def currents_into(network: Graph, name: str, x: Array) -> Array:
    """The analog current into a node, every population seen as the identity; [B, *shape]."""
    values = {network.input.name: x.astype(np.float64)}
    for node in network.nodes[1:]:
        (first, *rest) = (values[source] for source in node.inputs)
        if node.name == name:
            return first
        values[node.name] = first if isinstance(node, IF) else evaluate(node, first, *rest)
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "takes"),
    [("stem.if", "stem.conv"), ("block.if1", "block.conv1"), ("block.if2", "block.conv2")],
)
def test_a_shift_goes_into_the_bias_that_only_this_population_sees(name: str, takes: str) -> None:
    network = residual_network()
    shift = np.array([0.5, -1.0, 0.25, 0.0])
    shifted = shift_current(network, name, shift)
    before, after = network.node(takes), shifted.node(takes)
    assert isinstance(before, Conv)
    assert isinstance(after, Conv)
    np.testing.assert_array_equal(after.bias, before.bias + shift)
    assert shifted.replace(before).hash() == network.hash()  # nothing else changed
    x = samples(network, 2)
    np.testing.assert_array_equal(
        currents_into(shifted, name, x), currents_into(network, name, x) + shift.reshape(4, 1, 1)
    )


def test_a_shift_of_the_output_goes_into_the_last_layer() -> None:
    network = residual_network()
    shift = np.arange(-5, 5) / 4
    shifted = shift_current(network, "output", shift)
    x = samples(network, 2)
    before = ReferenceSimulator(network).run(x).logits
    np.testing.assert_array_equal(ReferenceSimulator(shifted).run(x).logits, before + shift)
    assert len(shifted.nodes) == len(network.nodes)


def population(name: str, source: str) -> IF:
    one = np.ones((1, 1, 1))
    return IF(name=name, inputs=(source,), v_threshold=one, v_init=one / 2)


def shared_source() -> Graph:
    """One convolution feeds two populations."""
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="input", shape=(2, 4, 4)),
        conv("conv", "input", rng, (2, 2)),
        population("left", "conv"),
        population("right", "conv"),
        Add(name="add", inputs=("left", "right")),
        Output(name="output", inputs=("add",)),
    )
    return Graph(nodes=nodes, time_steps=4)


def doubled_source() -> Graph:
    """One convolution enters the sum twice: its bias would count twice."""
    nodes = (
        *(node for node in shared_source().nodes if node.name in ("input", "conv")),
        Add(name="add", inputs=("conv", "conv")),
        population("left", "add"),
        Output(name="output", inputs=("left",)),
    )
    return Graph(nodes=nodes, time_steps=4)


def no_affine_source() -> Graph:
    """The samples are the current."""
    nodes = (
        Input(name="input", shape=(2, 4, 4)),
        population("left", "input"),
        Output(name="output", inputs=("left",)),
    )
    return Graph(nodes=nodes, time_steps=4)


@pytest.mark.parametrize("network_of", [shared_source, doubled_source, no_affine_source])
def test_a_shift_without_a_bias_of_its_own_becomes_a_scale(
    network_of: Callable[[], Graph],
) -> None:
    network = network_of()
    assert private_affine(network, "left") is None
    shifted = shift_current(network, "left", np.array([0.5, -0.25]))
    (scale,) = shifted.nodes_of(ChannelAffine)
    assert [node.name for node in shifted.consumers(scale.name)] == ["left"]
    x = samples(network, 2)
    moved = currents_into(network, "left", x) + np.array([[[0.5]], [[-0.25]]])
    np.testing.assert_array_equal(currents_into(shifted, "left", x), moved)
    if "right" in network:
        np.testing.assert_array_equal(
            currents_into(shifted, "right", x), currents_into(network, "right", x)
        )


def test_of_several_connections_the_nearest_takes_the_shift() -> None:
    """The first source of the sum is a sum itself; the second is nearer, though made later."""
    rng = np.random.default_rng(0)
    nodes: tuple[Node, ...] = (
        Input(name="input", shape=(2, 4, 4)),
        *(conv(name, "input", rng, (2, 2)) for name in ("far", "other", "near")),
        Add(name="inner", inputs=("far", "other")),
        Add(name="sum", inputs=("inner", "near")),
        population("left", "sum"),
        Output(name="output", inputs=("left",)),
    )
    found = private_affine(Graph(nodes=nodes, time_steps=4), "left")
    assert found is not None
    assert found.name == "near"


def test_two_shifts_in_a_row_add_up() -> None:
    network = shared_source()
    twice = shift_current(shift_current(network, "left", np.ones(2)), "left", np.array([2.0, 3.0]))
    (scale,) = fold_scales(twice).nodes_of(ChannelAffine)
    np.testing.assert_array_equal(scale.shift.ravel(), [3.0, 4.0])


@pytest.mark.parametrize("shift", [np.ones(3), np.ones(1), np.ones((2, 1, 1)), np.array(1.0)])
def test_a_shift_of_another_shape_is_refused(shift: Array) -> None:
    with pytest.raises(GraphError, match=r"shift of left: shape \(.*\), \(2,\) needed"):
        shift_current(shared_source(), "left", shift)


def test_the_given_graph_does_not_change() -> None:
    network = shared_source()
    before = network.hash()
    shift_current(network, "left", np.ones(2))
    assert network.hash() == before
