"""Units of the output: one for each of the model's outputs that reads channels of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.graph.arrangement import named_outputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Flatten, Linear, Output, Part
from icsnn_deploy.lattice.output_units import output_groups, output_unit
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.quantization import Quantization
from icsnn_deploy.lattice.shared_units import sharing_groups
from tests.support.graphs import conv, residual_network, samples, spiking, two_headed_network
from tests.unit.lattice.test_quantize import ann_of, quantized

SMALL = 2.0**-10


def groups_of(graph: Graph) -> dict[str, list[int]]:
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    found = output_groups(prepared, sharing_groups(prepared))
    return {name: groups.tolist() for name, groups in found.items()}


def relative_errors(graph: Graph, result: Quantization) -> dict[str, float]:
    """Error of each output of the integer network, relative to the spread of the ANN's."""
    x = samples(graph, 64, seed=5)
    expected = named_outputs(graph, run_ann(ann_of(graph), x))
    recording = ReferenceSimulator(result.network).run(to_input_units(result.network, x))
    got = named_outputs(result.network, recording.logits)
    return {
        name: float(np.abs(got[name] - value).mean() / value.std())
        for name, value in expected.items()
    }


def with_output(graph: Graph, parts: tuple[Part, ...], index: Array) -> Graph:
    return graph.replace(replace(graph.output, parts=parts, index=index))


def test_each_output_has_its_own_unit_and_keeps_its_resolution() -> None:
    graph = replace(two_headed_network(small=SMALL), time_steps=64)
    result = quantized(graph)
    unit = result.network.output_unit
    assert isinstance(unit, tuple)
    box, scores = unit
    assert box < scores / 100
    alike = replace(two_headed_network(), time_steps=64)
    assert relative_errors(graph, result)["box"] == pytest.approx(
        relative_errors(alike, quantized(alike))["box"], rel=0.2
    )


def test_a_network_of_one_threshold_per_layer_keeps_the_units_of_its_outputs() -> None:
    unit = quantized(two_headed_network(small=SMALL), per_layer=True).network.output_unit
    assert isinstance(unit, tuple)
    assert unit[0] < unit[1] / 100


def test_one_output_has_one_unit() -> None:
    assert isinstance(quantized(residual_network()).network.output_unit, float)
    assert groups_of(residual_network()) == {"head": [0] * 10}


def test_outputs_of_other_channels_are_groups_of_their_own() -> None:
    assert groups_of(two_headed_network()) == {
        "scores": [1] * 5 + [0] * 3,
        "box": [1] * 5 + [0] * 3,
    }


def test_outputs_that_share_a_channel_share_the_unit() -> None:
    parts = (Part("a", (4,)), Part("b", (2,)), Part("c", (3,)))
    graph = with_output(two_headed_network(), parts, np.array([0, 1, 2, 3, 3, 4, 5, 6, 7]))
    assert groups_of(graph)["box"] == [0] * 5 + [2] * 3
    chained = with_output(two_headed_network(), parts, np.array([0, 1, 2, 3, 3, 4, 4, 6, 7]))
    groups = groups_of(chained)["box"]
    assert groups == [0] * 5 + [-1, 0, 0]
    unit = quantized(chained).network.output_unit
    assert isinstance(unit, float)


def test_an_output_that_is_spread_over_positions_joins_whole_channels() -> None:
    """A fine map [1, 4, 4], computed as phases [4, 2, 2], beside one number of channel 4."""
    rng = np.random.default_rng(0)
    graph = Graph(
        nodes=(
            replace(two_headed_network().input),
            conv("stem.conv", "input", rng, (2, 4), stride=2),
            spiking("stem.if", "stem.conv", rng, (4, 2, 2)),
            conv("head", "stem.if", rng, (4, 6), kernel=(1, 1), padding=0),
            Output(
                name="output",
                inputs=("head",),
                index=np.append(np.arange(16).reshape(2, 2, 2, 2).transpose(2, 0, 3, 1), 16),
                parts=(Part("map", (1, 4, 4)), Part("count", ())),
            ),
        ),
        time_steps=8,
    )
    assert groups_of(graph) == {"head": [0, 0, 0, 0, 1, -1]}
    unit = quantized(graph).network.output_unit
    assert isinstance(unit, tuple)
    flat = graph.with_nodes(
        [
            *(node for node in graph.nodes if node.name != "output"),
            Flatten(name="flat", inputs=("head",)),
            replace(graph.output, inputs=("flat",)),
        ]
    )
    assert groups_of(flat) == {"head": [0, 0, 0, 0, 1, -1]}
    assert quantized(flat).network.output_unit == unit


def test_the_unit_of_an_output_is_exact_where_its_values_agree() -> None:
    graph = two_headed_network()
    units = np.where(np.arange(8) < 5, 0.1, 0.3)
    assert output_unit(graph, units) == (0.3, 0.1)
    assert output_unit(graph, np.full(8, 0.1)) == pytest.approx(0.1)


def test_several_units_are_saved_with_the_network(tmp_path: Path) -> None:
    result = quantized(two_headed_network(small=SMALL))
    result.save(tmp_path / "b")
    read = open_bundle(tmp_path / "b").network()
    assert read.output_unit == result.network.output_unit
    assert isinstance(read.node("box"), Linear)
