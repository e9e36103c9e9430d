"""Networks that fit, and one that fits nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)
from icsnn_deploy.report.resources import (
    allocation_table,
    misfits_table,
    resources_table,
    targets_table,
)
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.check import CheckResult, check
from icsnn_deploy.targets.override import override
from icsnn_deploy.targets.resources import count_resources
from tests.support.graphs import residual_network, two_headed_network
from tests.support.speck_graphs import twice


def integers(rng: np.random.Generator, *shape: int, most: int = 3) -> Array:
    return rng.integers(-most, most + 1, shape).astype(np.int8)


def conv(
    name: str,
    source: str,
    weight: Array,
    *,
    stride: int = 1,
    padding: int = 1,
    groups: int = 1,
    bias: int = 0,
) -> Conv:
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.full(len(weight), bias, np.int32),
        stride=(stride, stride),
        padding=((padding, padding),) * 2,
        dilation=(1, 1),
        groups=groups,
    )


def population(name: str, source: str, v_threshold: int = 20) -> IF:
    shape = (1, 1, 1)
    return IF(
        name=name,
        inputs=(source,),
        v_threshold=np.full(shape, v_threshold, np.int32),
        v_init=np.full(shape, 0.5, np.float32),
    )


def sum_pool(name: str, source: str, channels: int, side: int = 2) -> Conv:
    ones = np.ones((channels, 1, side, side), np.int8)
    return conv(name, source, ones, stride=side, padding=0, groups=channels)


def integer_network(shortcut: int = 20, first: int = 3) -> Graph:
    """conv, residual block, pool, conv, pool, readout: 1x8x8 -> 4 -> 8 channels -> 10."""
    rng = np.random.default_rng(0)
    nodes: list[Node] = [
        Input(name="input", shape=(1, 8, 8), dtype="uint8"),
        conv("conv1", "input", integers(rng, 4, 1, 3, 3, most=first)),
        population("if1", "conv1", 300),
        conv("conv2", "if1", integers(rng, 4, 4, 3, 3)),
        ChannelAffine(
            name="shortcut",
            inputs=("if1",),
            scale=np.full((1, 1, 1), shortcut, np.int16),
            shift=np.zeros((1, 1, 1), np.int8),
        ),
        Add(name="add", inputs=("conv2", "shortcut")),
        population("if2", "add"),
        sum_pool("pool1", "if2", 4),
        conv("conv3", "pool1", integers(rng, 8, 4, 3, 3), bias=5),
        population("if3", "conv3"),
        sum_pool("pool2", "if3", 8),
        Flatten(name="flatten", inputs=("pool2",)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=integers(rng, 10, 32),
            bias=np.zeros(10, np.int32),
        ),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def misfits(result: CheckResult) -> set[tuple[str, str]]:
    return {(misfit.node, misfit.what) for misfit in result.misfits}


@pytest.mark.parametrize("target", ["generic", "loihi2", "spinnaker2"])
def test_the_small_network_fits(target: str) -> None:
    result = check(integer_network(), find_target(target))
    assert result.ok, result.misfits


def test_speck_and_loihi1_take_it_when_the_host_runs_the_first_layer() -> None:
    graph = integer_network()
    for target in ("speck", "loihi1"):
        alone = check(graph, find_target(target))
        assert ("input", "analog input") in misfits(alone)
        assert "--host-first-layer" in alone.misfits[0].remedy
        helped = check(graph, find_target(target), host_first_layer=True)
        assert helped.ok, helped.misfits
        assert helped.host_first_layer
        assert "if1" in helped.on_host
        assert any("host runs if1" in note for note in helped.notes)


def test_the_residual_join_on_speck_is_one_core_with_the_channels_of_both_branches() -> None:
    result = check(integer_network(), find_target("speck"), host_first_layer=True)
    assert result.on_host == ("if1", "output")
    assert result.cores_used == 2  # if2 and if3; pooling costs none
    assert result.allocation is not None
    join = result.allocation.placements[0]
    # kernel 8 * 2^(4 + 2) = 512 words, neurons 4 * 2^(3 + 3) = 256, biases 4 of 1,024
    assert (join.layer, join.need) in {("if2", 512), ("if2", 256)}


def test_weights_on_loihi_are_doubled_and_wide_shortcuts_are_several_synapses() -> None:
    result = check(integer_network(shortcut=300), find_target("loihi2"), host_first_layer=True)
    assert result.ok, result.misfits
    assert any("multiples of 2" in note for note in result.notes)
    assert any("shortcut: its widest weight needs 3 parallel synapses" in n for n in result.notes)
    speck = check(integer_network(shortcut=300), find_target("speck"), host_first_layer=True)
    wide = [misfit for misfit in speck.misfits if misfit.node == "shortcut"]
    assert [(m.what, m.over) for m in wide] == [("weight width", "2 bits")]


def test_a_float_network_is_sent_to_quantize_and_still_counted() -> None:
    result = check(residual_network(), find_target("loihi2"))
    assert misfits(result) == {("network", "lattice")}
    assert "run icsnn quantize" in result.misfits[0].remedy
    assert result.cores_used == 4
    assert check(residual_network(), find_target("generic")).ok


def everything_wrong() -> Graph:
    """Wide weights, thresholds, biases and potentials, a stride of 3, a kernel of 17, ..."""
    rng = np.random.default_rng(1)
    channels = np.arange(1, 5, dtype=np.int32).reshape(4, 1, 1)
    nodes: list[Node] = [
        Input(name="input", shape=(1, 70, 70), dtype="uint8"),
        conv("conv1", "input", integers(rng, 4, 1, 3, 3).astype(np.int16) * 300, bias=1 << 21),
        IF(
            name="if1",
            inputs=("conv1",),
            v_threshold=(channels << 17) + 1,
            v_init=np.full((1, 1, 1), 0.5, np.float32),
        ),
        conv("conv2", "if1", integers(rng, 4, 4, 17, 17), stride=3, padding=8),
        population("if2", "conv2"),
        sum_pool("pool", "if2", 4, side=3),
        conv("once", "pool", integers(rng, 3, 4, 1, 1), padding=0),
        conv("again", "once", integers(rng, 2, 3, 1, 1), padding=0),
        population("if3", "again"),
        conv("wide", "if3", integers(rng, 1030, 2, 1, 1), padding=0),
        population("if4", "wide"),
        Flatten(name="flatten", inputs=("if4",)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=integers(rng, 3, 1030 * 64),
            bias=np.zeros(3, np.int32),
        ),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=8)


@pytest.mark.parametrize("sum_first", [True, False])
def test_a_bias_counts_twice_where_a_sum_names_its_connection_twice(sum_first: bool) -> None:
    """Of a convolution that reads a sum it counts once: 100 fits in 8 bits, 200 does not."""
    found = misfits(check(twice(sum_first=sum_first, bias=100), "speck"))
    assert (("p0", "bias width") in found) == (not sum_first)


def test_every_misfit_is_listed_at_once() -> None:
    result = check(everything_wrong(), find_target("speck"))
    assert not result.ok
    assert misfits(result) >= {
        ("input", "analog input"),
        ("conv1", "weight width"),
        ("if1", "bias width"),
        ("if1", "threshold width"),
        ("if1", "threshold granularity"),
        ("if1", "potential width"),
        ("if1", "output map"),
        ("if2", "kernel size"),
        ("if2", "padding"),
        ("if2", "stride"),
        ("pool", "pooling"),
        ("again", "connections in a row"),
        ("if4", "output features"),
        ("network", "cores"),
    }
    proofs = [misfit.got for misfit in result.misfits if misfit.what == "cores"]
    assert proofs == [
        "neuron memory: if4 (65,920) needs 1 core of >= 65,920 words, 0 such exist",
        "bias memory: if4 (1,030) needs 1 core of >= 1,030 words, 0 such exist",
    ]
    for misfit in result.misfits:
        assert misfit.remedy
        assert misfit.allowed in str(misfit)


def test_loihi_lists_its_own_misfits() -> None:
    found = misfits(check(everything_wrong(), find_target("loihi2")))
    assert found >= {
        ("conv1", "weight width"),
        ("if1", "threshold width"),
        ("if1", "potential width"),
        ("again", "connections in a row"),
    }
    assert ("if2", "stride") not in found


def test_by_how_much_a_potential_is_too_wide() -> None:
    graph = integer_network()
    profile = override(find_target("loihi2"), {"potential_bits": "16"})
    found = [m for m in check(graph, profile).misfits if m.node == "if3"]
    # if3: thresholds 20, currents of 4 * 9 * 3 * 4 and 4 steps; twice that, 6 bits up.
    bound = count_resources(graph).layer("if3").potential_bits
    assert bound is not None
    assert found[0].bits_over == bound + 7 - 16


def test_more_layers_than_cores_is_proved() -> None:
    graph = integer_network()
    profile = override(find_target("loihi2"), {"cores": "3"})
    result = check(graph, profile)
    assert misfits(result) == {("network", "cores")}
    assert result.misfits[0].over == "1 core"
    assert "neurons alone: 4 cores needed, 3 exist" in result.misfits[0].got


def test_a_shortcut_with_a_stride_of_its_own_does_not_share_a_core() -> None:
    rng = np.random.default_rng(2)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 8, 8), dtype="uint8", encoding="events"),
        conv("conv0", "input", integers(rng, 2, 2, 3, 3)),
        population("if0", "conv0"),
        conv("conv1", "if0", integers(rng, 2, 2, 3, 3), stride=2),
        population("if1", "conv1"),
        conv("conv2", "if1", integers(rng, 2, 2, 3, 3)),
        conv("shortcut", "if0", integers(rng, 2, 2, 1, 1), stride=2, padding=0),
        Add(name="add", inputs=("conv2", "shortcut")),
        population("if2", "add"),
        Flatten(name="flatten", inputs=("if2",)),
        Linear(
            name="head", inputs=("flatten",), weight=integers(rng, 3, 32), bias=np.zeros(3, np.int8)
        ),
        Output(name="output", inputs=("head",)),
    ]
    graph = Graph(nodes=tuple(nodes), time_steps=2)
    assert misfits(check(graph, find_target("speck"))) == {("if2", "join")}
    with pytest.raises(TargetError, match="spikes already"):
        check(graph, find_target("speck"), host_first_layer=True)
    with pytest.raises(TargetError, match="no neuron is left for the chip"):
        check(two_headed_network(), find_target("speck"), host_first_layer=True)


def test_an_ann_has_no_resources() -> None:
    graph = integer_network()
    head = replace(graph.nodes_of(Linear)[0], inputs=("flatten",), weight=np.ones((10, 64)))
    nodes = (
        Input(name="input", shape=(1, 8, 8)),
        Flatten(name="flatten", inputs=("input",)),
        head,
        graph.output,
    )
    with pytest.raises(TargetError, match="convert the ANN first"):
        check(Graph(nodes=nodes), find_target("generic"))


def test_the_verdict_is_json_and_prints() -> None:
    console = Console(width=120, file=StringIO())
    console.print(targets_table(find_target(name) for name in TARGETS))
    for graph in (integer_network(), everything_wrong()):
        for name in TARGETS:
            result = check(graph, find_target(name))
            values = json.loads(json.dumps(result.to_json()))
            assert values["ok"] is result.ok
            assert values["target"] == name
            console.print(resources_table(result.resources), misfits_table(result))
            if result.allocation is not None:
                console.print(allocation_table(result.allocation))


def test_one_dimensional_signals_are_checked_as_images_of_width_one() -> None:
    rng = np.random.default_rng(3)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 16), dtype="uint8", encoding="events"),
        Conv(
            name="conv",
            inputs=("input",),
            weight=integers(rng, 3, 2, 5),
            bias=np.zeros(3, np.int8),
            stride=(2,),
            padding=((2, 2),),
            dilation=(1,),
        ),
        replace(
            population("if", "conv"),
            v_threshold=np.full((1, 1), 9, np.int32),
            v_init=np.full((1, 1), 0.5, np.float32),
        ),
        Flatten(name="flatten", inputs=("if",)),
        Linear(
            name="head", inputs=("flatten",), weight=integers(rng, 3, 24), bias=np.zeros(3, np.int8)
        ),
        Output(name="output", inputs=("head",)),
    ]
    result = check(Graph(nodes=tuple(nodes), time_steps=3), find_target("speck"))
    assert result.ok, result.misfits
