"""Counts and memory formulas, each number by hand; matching against brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import evaluate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)
from icsnn_deploy.passes.edit import insert_after
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.allocate import allocate_cnn, allocate_identical
from icsnn_deploy.targets.cnn import CnnLayer
from icsnn_deploy.targets.connectivity import fan_in, fan_out, reached
from icsnn_deploy.targets.matching import match
from icsnn_deploy.targets.override import override
from icsnn_deploy.targets.paths import paths_into, sinks
from icsnn_deploy.targets.resources import array_bits, count_resources
from icsnn_deploy.targets.widths import granularity
from tests.support.graphs import if_graphs, residual_network


def one_layer() -> Graph:
    """1x3x3, a 3x3 kernel with one zero weight, padding 1, two features; then 18 -> 2."""
    weight = np.ones((2, 1, 3, 3), np.int8)
    weight[0, 0, 1, 1] = 0
    weight[1, 0, 0, 0] = -100
    head = np.full((2, 18), 3, np.int8)
    head[0, :9] = 0
    nodes: list[Node] = [
        Input(name="input", shape=(1, 3, 3), dtype="uint8"),
        Conv(
            name="conv",
            inputs=("input",),
            weight=weight,
            bias=np.array([1, -2], np.int32),
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
        ),
        IF(
            name="if",
            inputs=("conv",),
            v_threshold=np.array([[[40]], [[50]]], np.int32),
            v_init=np.full((1, 1, 1), 20.5, np.float32),
        ),
        Flatten(name="flatten", inputs=("if",)),
        Linear(name="head", inputs=("flatten",), weight=head, bias=np.zeros(2, np.int8)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def test_each_number_of_one_layer_by_hand() -> None:
    report = count_resources(one_layer())
    layer, readout = report.layers
    assert (layer.layer, layer.kind, layer.shape) == ("if", "population", (2, 3, 3))
    assert layer.neurons == 18
    # A 3x3 map with padding: corners see 4 taps, edges 6, the middle 9: 4*4 + 4*6 + 9 = 49 each.
    assert layer.synapses_dense == 2 * 49
    # The zero in the middle of the first kernel is seen by all 9 positions.
    assert layer.synapses == 2 * 49 - 9
    assert layer.fan_in == 9
    assert layer.fan_out == 2  # second half of the head's inputs; the first reaches one output
    assert layer.weight_bits == 8  # -100
    assert layer.potential_bits is not None
    assert layer.thresholds == 2
    assert (readout.neurons, readout.synapses_dense, readout.synapses) == (2, 36, 27)
    assert (readout.fan_in, readout.fan_out, readout.weight_bits) == (18, 0, 3)
    conv, head = report.connections
    assert (conv.weights, conv.nonzero, conv.weight_bits) == (18, 17, 8)
    assert conv.memory_bits == 18 * 8 + 2 * 2  # biases 1 and -2
    assert (head.weights, head.nonzero, head.memory_bits) == (36, 27, 36 * 3 + 2 * 1)
    assert (report.neurons, report.synapses, report.weights) == (18, 89 + 27, 54)
    assert report.connection_sparsity == pytest.approx((1 + 9) / 54)
    # thresholds 40 and 50 take 7 bits signed, v_init 20 (rounded down) 6
    assert report.memory_bits == conv.memory_bits + head.memory_bits + 2 * 7 + 6
    # int8 weights, int32 biases and thresholds, float32 v_init; the head's bias is int8
    assert report.footprint_bytes == 18 + 2 * 4 + 2 * 4 + 4 + 36 + 2


def test_fan_out_of_a_corner_an_edge_and_the_middle() -> None:
    out = fan_out(one_layer(), dense=True)["input"][0]
    np.testing.assert_array_equal(out, [[8, 12, 8], [12, 18, 12], [8, 12, 8]])


@settings(max_examples=25, deadline=None)
@given(if_graphs())
def test_both_directions_count_the_same_synapses(graph: Graph) -> None:
    for dense in (False, True):
        forward = sum(float(n.sum()) for n in fan_in(graph, dense=dense).values())
        back = fan_out(graph, dense=dense)
        sources = [graph.input, *graph.nodes_of(IF)]
        assert forward == sum(float(back[node.name].sum()) for node in sources)


@settings(max_examples=25, deadline=None)
@given(if_graphs())
def test_fan_in_is_the_network_of_ones(graph: Graph) -> None:
    def ones(node: Node) -> Node:
        values: dict[str, Any] = {
            name: (value != 0).astype(np.float32) if name in ("weight", "scale") else value * 0
            for name, value in node.arrays().items()
            if not isinstance(node, IF)
        }
        return replace(node, **values)

    binary = graph.map(ones)
    values: dict[str, Array] = {}
    found = fan_in(graph)
    for node in binary.nodes:
        if isinstance(node, (Input, IF)):
            if isinstance(node, IF):
                np.testing.assert_allclose(values[node.inputs[0]][0], found[node.name])
            values[node.name] = np.ones((1, *graph.shape(node.name)))
        else:
            value = evaluate(node, *(values[name] for name in node.inputs))
            area = math.prod(node.kernel) if isinstance(node, AvgPool) else 1
            values[node.name] = value * area


def test_widths_and_granularity() -> None:
    assert array_bits(np.array([-128, 127], np.int16)) == 8
    assert array_bits(np.array([128], np.int16)) == 9
    assert array_bits(np.array([0.25], np.float32)) == 32
    assert granularity(np.full((2, 1, 1), 3)) == "layer"
    assert granularity(np.array([[[3]], [[4]]])) == "channel"
    assert granularity(np.arange(8).reshape(2, 2, 2)) == "neuron"


def test_speck_memory_of_the_documented_example() -> None:
    """sinabs docs, speck/overview: 16 -> 32 features, 3x3, 64x64: 8 Ki and 128 Ki words."""
    layer = cnn("conv", features=(16, 32), kernel=3, size=64)
    assert layer.kernel_words == 16 * 2 ** (4 + 5) == 8 * 1024
    assert layer.neuron_words == 32 * 2 ** (6 + 6) == 128 * 1024
    assert layer.bias_words == 32
    odd = cnn("odd", features=(3, 5), kernel=5, size=20)
    assert odd.kernel_words == 3 * 2 ** (5 + 3)  # 25 taps take 32, 5 features take 8
    assert odd.neuron_words == 5 * 2 ** (5 + 5)


def cnn(name: str, features: tuple[int, int], kernel: int, size: int) -> CnnLayer:
    return CnnLayer(
        layer=name,
        features_in=features[0],
        features_out=features[1],
        kernel=kernel,
        stride=(1, 1),
        padding=(0, 0),
        input_map=(size, size),
        output_map=(size, size),
        destinations=1,
    )


def test_large_kernels_that_outnumber_the_large_cores() -> None:
    speck = find_target("speck")
    large = [cnn(f"conv{i}", (64, 64), 3, 8) for i in range(5)]  # 64 * 2^(4 + 6) = 64 Ki
    allocation = allocate_cnn(large, speck)
    assert allocation is not None
    assert allocation.proofs == (
        "kernel memory: conv0 (65,536), conv1 (65,536), conv2 (65,536) need 3 cores of "
        ">= 65,536 words, 2 such exist",
    )
    fitting = allocate_cnn(large[:2], speck)
    assert fitting is not None
    assert not fitting.proofs
    assert sorted(p.core or 0 for p in fitting.placements) == [5, 6]


def test_memories_that_only_together_leave_no_core() -> None:
    # 64 Ki kernel words are on cores 5 and 6, which have 16 Ki neuron words.
    allocation = allocate_cnn([cnn("both", (64, 64), 3, 32)], find_target("speck"))
    assert allocation is not None
    assert "all memories together: both" in allocation.proofs[0]
    assert "only 0 can hold any of them: none" in allocation.proofs[0]


def test_loihi_cores_of_a_layer_by_hand() -> None:
    graph = residual_network()
    report = count_resources(graph)
    loihi = find_target("loihi1")
    allocation = allocate_identical(graph, sinks(graph), report, loihi)
    assert allocation is not None
    stem = allocation.placements[0]
    # 4x6x6 neurons with up to 8 thresholds and 8-bit synapses fit a core of 1,024.
    assert (stem.layer, stem.cores) == ("stem.if", 1)
    assert stem.need / stem.limit == max(
        144 / 1024,
        report.layer("stem.if").synapses * 8 / 2**20,
        2 * 36 / 4096,
        2 * 144 / 4096,  # sends to block.if1 and block.if2
        4 / 8,
    )


def test_neurons_that_a_neuron_sends_to() -> None:
    graph = one_layer()
    into_if, into_output = (path for target in sinks(graph) for path in paths_into(graph, target))
    # The corner is under four windows of each feature, the middle under nine; one tap is zero.
    assert reached(graph, into_if)[0].tolist() == [[7, 11, 7], [11, 17, 11], [7, 11, 7]]
    sent = reached(graph, into_output)  # the first class has no synapses from the first feature
    assert (sent[0] == 1).all()
    assert (sent[1] == 2).all()


def chain(layers: int) -> Graph:
    """Layers of 32x32 neurons, each by a 3x3 kernel from the one before, then 1,024 -> 2."""
    nodes: list[Node] = [Input(name="input", shape=(1, 32, 32), dtype="uint8")]
    for i in range(layers):
        nodes += [
            Conv(
                name=f"conv{i}",
                inputs=(nodes[-1].name,),
                weight=np.ones((1, 1, 3, 3), np.int8),
                bias=np.zeros(1, np.int32),
                stride=(1, 1),
                padding=((1, 1), (1, 1)),
                dilation=(1, 1),
            ),
            IF(
                name=f"if{i}",
                inputs=(f"conv{i}",),
                v_threshold=np.full((1, 1, 1), 40, np.int32),
                v_init=np.full((1, 1, 1), 20.5, np.float32),
            ),
        ]
    head = np.ones((2, 1024), np.int8)
    nodes += [
        Flatten(name="flatten", inputs=(nodes[-1].name,)),
        Linear(name="head", inputs=("flatten",), weight=head, bias=np.zeros(2, np.int8)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def test_axons_go_to_the_cores_that_a_neuron_reaches_and_to_no_others() -> None:
    """A 3x3 kernel reaches nine neurons: cores do not multiply from layer to layer."""
    graph = chain(4)
    loihi = override(find_target("loihi1"), {"core_neurons": 64, "core_out_axons": 256})
    allocation = allocate_identical(graph, sinks(graph), count_resources(graph), loihi)
    assert allocation is not None
    cores = {placement.layer: placement.cores for placement in allocation.placements}
    assert cores == {"if0": 16, "if1": 16, "if2": 16, "if3": 16, "output": 1}
    each = override(find_target("loihi1"), {"core_neurons": 1, "core_out_axons": 2})
    allocation = allocate_identical(graph, sinks(graph), count_resources(graph), each)
    assert allocation is not None
    last = allocation.placements[-2]  # every neuron sends to both cores of the readout
    assert (last.layer, allocation.placements[-1].cores, last.cores) == ("if3", 2, 1024)
    # 1,024 neurons send to nine neurons, fewer at the rim, each on a core of its own.
    first = allocation.placements[0]
    assert (first.resource, first.need) == ("output axons", 30**2 * 9 + 4 * 30 * 6 + 4 * 4)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_matching_is_exact_and_its_violator_is_one(data: st.DataObject) -> None:
    cores = data.draw(st.integers(1, 6))
    layers = data.draw(st.integers(1, 6))
    some = st.lists(st.integers(0, cores - 1), unique=True)
    fits: list[list[int]] = [data.draw(some) for _ in range(layers)]
    found = match(fits)
    assert found.complete == feasible(fits, cores)
    if found.violator is None:
        assert len(set(found.cores)) == layers
        assert all(core in fits[i] for i, core in enumerate(found.cores))
    else:
        crowd, reach = found.violator
        assert {core for i in crowd for core in fits[i]} == set(reach)
        assert len(crowd) > len(reach)


def feasible(fits: Sequence[Sequence[int]], cores: int) -> bool:
    if len(fits) > cores:
        return False
    return any(
        all(core in fit for core, fit in zip(order, fits, strict=True))
        for order in permutations(range(cores), len(fits))
    )


def test_a_zero_point_has_no_synapses_of_its_own() -> None:
    graph = one_layer()
    point = ChannelAffine(
        name="zero_point",
        inputs=("input",),
        scale=np.ones((1, 1, 1), np.int8),
        shift=np.full((1, 1, 1), -30, np.int16),
    )
    with_point = insert_after(graph, "input", point)
    assert count_resources(with_point).connections == count_resources(graph).connections
    assert count_resources(with_point).layers[0].synapses == 89
