"""The model's inputs and outputs by name in NIR and netx files; other readers see neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.exporters.nir.parts import INPUT_INDEX, OUTPUT_INDEX
from icsnn_deploy.exporters.nir.read.file import from_nir, read_graph
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs, unpack_input
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Part
from tests.support.graphs import (
    if_graphs,
    residual_network,
    sequential_network,
    two_headed_network,
    with_parts,
)
from tests.unit.lattice.test_quantize import quantized

NAMED = with_parts(residual_network())
FORMATS = ("nir", "nir-portable", "nir-relay")


def assert_same_ends(read: Graph, graph: Graph) -> None:
    for found, expected in ((read.input, graph.input), (read.output, graph.output)):
        assert found.parts == expected.parts
        np.testing.assert_array_equal(found.index, expected.index)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(if_graphs(("subtract", "v_reset")), st.integers(0, 99))
def test_a_file_gives_back_the_same_network(tmp_path: Path, graph: Graph, seed: int) -> None:
    named = with_parts(graph, seed)
    write(named, tmp_path / "x.nir")
    assert_same_ends(read_graph(tmp_path / "x.nir"), named)
    write(graph, tmp_path / "y.nir")
    if read_graph(tmp_path / "y.nir").hash() == graph.hash():
        assert read_graph(tmp_path / "x.nir").hash() == named.hash()


@pytest.mark.parametrize("name", FORMATS)
def test_each_profile_keeps_inputs_and_outputs_by_name(tmp_path: Path, name: str) -> None:
    graph = with_parts(quantized(sequential_network(), per_layer=True).network)
    export(graph, tmp_path / "x.nir", name)
    read = from_nir(tmp_path / "x.nir")
    assert_same_ends(read, graph)
    inputs = unpack_input(graph.input, np.ones((2, *graph.input.shape), graph.input.dtype))
    expected = ReferenceSimulator(graph).run(pack_inputs(graph, inputs))
    got = ReferenceSimulator(read).run(pack_inputs(read, inputs))
    for output, value in named_outputs(read, got.logits).items():
        np.testing.assert_allclose(value, named_outputs(read, expected.logits)[output], rtol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_the_nodes_of_the_file_are_those_of_the_network_without_names(
    tmp_path: Path, name: str
) -> None:
    graph = quantized(sequential_network(), per_layer=True).network
    export(graph, tmp_path / "plain.nir", name)
    export(with_parts(graph), tmp_path / "named.nir", name)
    plain, named = nir.read(tmp_path / "plain.nir"), nir.read(tmp_path / "named.nir")
    assert plain.edges == named.edges
    for key, node in plain.nodes.items():
        for field, value in node.to_dict().items():
            np.testing.assert_equal(named.nodes[key].to_dict()[field], value)


def test_the_index_is_no_parameter_of_the_file(tmp_path: Path) -> None:
    graph = two_headed_network()
    write(graph, tmp_path / "x.nir")
    stated = json.loads(nir.read(tmp_path / "x.nir").metadata[KEY])
    assert stated["outputs"] == [["box", [3], ""], ["scores", [5], "softmax"]]
    assert not any("int64" in loss for loss in stated["losses"])
    assert "inputs" not in stated


def test_units_of_several_outputs_are_no_hindrance(tmp_path: Path) -> None:
    graph = replace(two_headed_network(), output_unit=(0.5, 0.25))
    write(graph, tmp_path / "x.nir")
    assert read_graph(tmp_path / "x.nir").hash() == graph.hash()


def test_an_output_without_index_needs_no_array(tmp_path: Path) -> None:
    graph = residual_network()
    graph = graph.replace(replace(graph.output, parts=(Part("classes", (10,), "softmax"),)))
    write(graph, tmp_path / "x.nir")
    assert set(nir.read(tmp_path / "x.nir").metadata) == {KEY}
    assert read_graph(tmp_path / "x.nir").hash() == graph.hash()


# Hostile files

Change = Callable[[dict[str, Any], dict[str, Any]], object]

HOSTILE: dict[str, Change] = {
    "outputs as text": lambda stated, _: stated.update(outputs="ab"),
    "outputs as a number": lambda stated, _: stated.update(outputs=3),
    "an output as null": lambda stated, _: stated.update(outputs=[None]),
    "one output": lambda stated, _: stated["outputs"].pop(),
    "no outputs": lambda stated, _: stated.pop("outputs"),
    "a name twice": lambda stated, _: stated["outputs"][0].__setitem__(0, "box"),
    "a huge shape": lambda stated, _: stated["outputs"][0].__setitem__(1, [10**18] * 8),
    "a shape of many axes": lambda stated, _: stated["outputs"][0].__setitem__(1, [2] * 10**4),
    "a host_op that is a list": lambda stated, _: stated["outputs"][0].__setitem__(2, []),
    "no index": lambda _, arrays: arrays.pop(OUTPUT_INDEX),
    "an index of text": lambda _, arrays: arrays.update({OUTPUT_INDEX: "0123456789"}),
    "an index that is a number": lambda _, arrays: arrays.update({OUTPUT_INDEX: 3}),
    "an index of floats": lambda _, arrays: arrays.update({OUTPUT_INDEX: np.arange(10.0)}),
    "an index of bytes": lambda _, arrays: arrays.update({OUTPUT_INDEX: np.full(10, b"0")}),
    "an index beyond the logits": lambda _, arrays: arrays.update(
        {OUTPUT_INDEX: np.arange(10) + 1}
    ),
    "an index below 0": lambda _, arrays: arrays.update({OUTPUT_INDEX: np.arange(10) - 1}),
    "a longer index": lambda _, arrays: arrays.update({OUTPUT_INDEX: np.arange(20) % 10}),
    "inputs as text": lambda stated, _: stated.update(inputs="ab"),
    "one input": lambda stated, _: stated["inputs"].pop(),
    "no input index": lambda _, arrays: arrays.pop(INPUT_INDEX),
    "another input index": lambda _, arrays: arrays.update({INPUT_INDEX: np.arange(72)}),
    "an input index beyond the parts": lambda _, arrays: arrays.update(
        {INPUT_INDEX: np.full((2, 6, 6), 2**40)}
    ),
    "an input index below -1": lambda _, arrays: arrays.update(
        {INPUT_INDEX: np.full((2, 6, 6), -2)}
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_parts_that_make_no_sense_are_refused(tmp_path: Path, what: str) -> None:
    network = to_nir(NAMED)
    stated = json.loads(network.metadata[KEY])
    HOSTILE[what](stated, network.metadata)
    network.metadata[KEY] = json.dumps(stated)
    nir.write(tmp_path / "x.nir", network)
    with pytest.raises(ExportError, match=r"x\.nir: (icsnn_)?(in|out)put"):
        read_graph(tmp_path / "x.nir")


def test_netx_names_them_beside_the_network(tmp_path: Path) -> None:
    graph = quantized(sequential_network(), per_layer=True).network
    graph = graph.replace(
        replace(graph.output, parts=(Part("size", ()), Part("box", (4,))), index=np.arange(5)[::-1])
    )
    export(graph, tmp_path / "x.net", "netx", lossy=True)
    with h5py.File(tmp_path / "x.net") as file:
        header = json.loads(file["icsnn_deploy"][()])
    assert header["outputs"] == [["size", [], ""], ["box", [4], ""]]
    assert header["output_index"] == [4, 3, 2, 1, 0]
    assert "inputs" not in header
    assert any("by name and shape stand in icsnn_deploy only" in loss for loss in header["losses"])
