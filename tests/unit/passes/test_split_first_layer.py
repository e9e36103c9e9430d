"""Where a network is cut, what each part holds, and what can't be cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, AvgPool, Conv, Input, Linear, Node, Output
from icsnn_deploy.passes.split_first_layer import split_first_layer
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from tests.support.branches import branched_network, rounded
from tests.support.graphs import (
    conv,
    dyadic,
    residual_network,
    samples,
    sequential_network,
    spiking,
    two_headed_network,
    with_parts,
)


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_one_first_population_gives_its_name_to_the_input_of_the_chip() -> None:
    graph = residual_network()
    parts = split_first_layer(graph)
    assert parts.populations == ("stem.if",)
    assert names(parts.host) == ["input", "stem.conv", "stem.if", "output"]
    assert names(parts.chip) == names(graph)[2:]
    node = parts.chip.input
    assert (node.name, node.shape) == ("stem.if", (4, 6, 6))
    assert (node.dtype, node.encoding) == ("uint8", "events")
    for part in (parts.host, parts.chip):
        assert part.time_steps == graph.time_steps
        shared = [node for node in part.nodes[1:] if node.name != "output"]
        assert all(node is graph.node(node.name) for node in shared)


def test_the_chip_keeps_the_readout_and_the_host_counts_from_the_first_step() -> None:
    graph = replace(sequential_network(), output_unit=0.5, calibrated_steps=(6,))
    parts = split_first_layer(graph)
    assert graph.readout_start == 2
    assert (parts.chip.readout_start, parts.host.readout_start) == (2, 0)
    assert (parts.chip.output_unit, parts.chip.calibrated_steps) == (0.5, (6,))
    assert parts.host.output_unit == 1
    for part, graph_of_part in (("host", parts.host), ("chip", parts.chip)):
        assert graph_of_part.provenance["split"] == {
            "part": part,
            "graph_hash": graph.hash(),
            "host_populations": ["if1"],
        }


def test_pooling_before_the_first_population_belongs_to_the_host() -> None:
    parts = split_first_layer(branched_network(("conv",)))
    assert "shrink" in parts.host
    assert not parts.chip.nodes_of(AvgPool)


def test_inputs_by_name_stay_with_the_host_and_outputs_by_name_with_the_chip() -> None:
    graph = with_parts(two_headed_network())
    parts = split_first_layer(graph)
    assert parts.host.input is graph.input
    assert parts.chip.output is graph.output
    x = samples(graph, 2)
    named = {"left": x.reshape(2, -1)[:, :16], "right": x.reshape(2, -1)[:, 15:].reshape(2, 17, 1)}
    packed = pack_inputs(graph, named)
    whole = ReferenceSimulator(graph).run(packed)
    host = ReferenceSimulator(parts.host).run(pack_inputs(parts.host, named))
    chip = ReferenceSimulator(parts.chip).run(host.spikes["stem.if"])
    wanted = named_outputs(graph, whole.logits)
    for name, values in named_outputs(parts.chip, chip.logits).items():
        np.testing.assert_array_equal(values, wanted[name])


def test_several_first_populations_are_channels_of_one_input() -> None:
    graph = branched_network(("conv", "depthwise"), seed=1)
    first, second = (graph.shape(f"branch{number}.if")[0] for number in (0, 1))
    parts = split_first_layer(graph)
    node = parts.chip.input
    assert (node.name, node.shape) == ("spikes", (first + second, 6, 6))
    assert [part.name for part in node.parts] == ["branch0.if", "branch1.if"]
    spikes = {
        name: np.full((4, 2, channels, 6, 6), value, np.uint8)
        for name, channels, value in (("branch0.if", first, 0), ("branch1.if", second, 1))
    }
    packed = pack_inputs(parts.chip, spikes)
    assert not packed[:, :, :first].any()
    assert packed[:, :, first:].all()


def test_channels_are_picked_by_weights_of_the_next_layer_where_that_is_exact() -> None:
    graph = branched_network(("conv", "depthwise"), seed=1)
    picked = split_first_layer(graph).chip
    assert {"branch0.if", "branch1.if"} <= set(names(picked))
    whole = rounded(graph)
    folded = split_first_layer(whole).chip
    assert "branch0.if" not in folded  # into the dense convolution
    assert "branch1.if" in folded  # a depthwise one can't take other channels
    dense = folded.node("branch0.end")
    assert isinstance(dense, Conv)
    assert dense.inputs == ("spikes",)
    original = whole.node("branch0.end")
    assert isinstance(original, Conv)
    first = original.weight.shape[1]
    np.testing.assert_array_equal(dense.weight[:, :first], original.weight)
    assert not dense.weight[:, first:].any()


def test_vectors_are_picked_and_placed_by_linear_layers() -> None:
    rng = np.random.default_rng(0)
    nodes: list[Node] = [Input(name="input", shape=(5,))]
    for number, width in enumerate((3, 4)):
        weight, bias = dyadic(rng, width, 5), dyadic(rng, width)
        layer = Linear(name=f"fc{number}", inputs=("input",), weight=weight, bias=bias)
        end = Linear(
            name=f"end{number}",
            inputs=(f"if{number}",),
            weight=dyadic(rng, 2, width),
            bias=bias[:2],
        )
        nodes += [layer, spiking(f"if{number}", layer.name, rng, (width,)), end]
    nodes += [Add(name="join", inputs=("end0", "end1")), Output(name="output", inputs=("join",))]
    graph = Graph(nodes=tuple(nodes), time_steps=4)
    for whole in (graph, rounded(graph)):
        parts = split_first_layer(whole)
        assert parts.chip.input.shape == (7,)
        x = np.arange(10).reshape(2, 5) if whole.is_integer else samples(whole, 2)
        host = ReferenceSimulator(parts.host).run(x)
        chip = ReferenceSimulator(parts.chip).run(pack_inputs(parts.chip, host.spikes))
        np.testing.assert_array_equal(chip.logits, ReferenceSimulator(whole).run(x).logits)


def test_the_chip_part_has_no_analog_input_and_as_many_cores_as_before() -> None:
    graph = rounded(residual_network())
    speck = find_target("speck")
    before = check(graph, speck, host_first_layer=True)
    after = check(split_first_layer(graph).chip, speck)
    assert ("input", "analog input") in {(m.node, m.what) for m in check(graph, speck).misfits}
    assert {(m.node, m.what) for m in after.misfits} == {(m.node, m.what) for m in before.misfits}
    assert "analog input" not in {misfit.what for misfit in after.misfits}
    assert after.cores_used == before.cores_used


def joined_with_the_input() -> Graph:
    """The input itself is added to the current of the second population."""
    rng = np.random.default_rng(0)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 4, 4)),
        conv("conv1", "input", rng, (2, 2)),
        spiking("if1", "conv1", rng, (2, 4, 4)),
        conv("conv2", "if1", rng, (2, 2)),
        conv("shortcut", "input", rng, (2, 2)),
        Add(name="block.add", inputs=("conv2", "shortcut")),
        spiking("if2", "block.add", rng, (2, 4, 4)),
        Output(name="output", inputs=("if2",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def test_a_join_that_takes_the_analog_input_is_refused_by_name() -> None:
    with pytest.raises(GraphError) as caught:
        split_first_layer(joined_with_the_input())
    message = str(caught.value)
    assert "block.add (add): takes shortcut beside conv2 from the analog input" in message
    assert "put a ReLU on it" in message


def test_maps_of_different_sizes_are_refused_with_the_populations() -> None:
    rng = np.random.default_rng(0)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 4, 4)),
        conv("conv1", "input", rng, (2, 2)),
        spiking("if1", "conv1", rng, (2, 4, 4)),
        conv("down", "if1", rng, (2, 2), stride=2),
        conv("conv2", "input", rng, (2, 2), stride=2),
        spiking("if2", "conv2", rng, (2, 2, 2)),
        Add(name="add", inputs=("down", "if2")),
        Output(name="output", inputs=("add",)),
    ]
    with pytest.raises(GraphError, match=r"if1 \[2, 4, 4\], if2 \[2, 2, 2\].*same stride"):
        split_first_layer(Graph(nodes=tuple(nodes), time_steps=4))


def test_spikes_as_input_an_ann_and_a_network_without_populations_are_refused() -> None:
    graph = residual_network()
    spikes = graph.replace(replace(graph.input, encoding="rate"))
    with pytest.raises(GraphError, match=r"input: takes spikes already \(rate encoding\)"):
        split_first_layer(spikes)
    ends = (Input(name="input", shape=(3,)), Output(name="output", inputs=("input",)))
    with pytest.raises(GraphError, match="is an ANN"):
        split_first_layer(Graph(nodes=ends))
    with pytest.raises(GraphError, match="no population"):
        split_first_layer(Graph(nodes=ends, time_steps=2))
