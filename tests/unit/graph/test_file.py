"""Graphs as files: the same bytes for the same graph, and nothing but a whole file is read."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from icsnn_deploy.errors import BundleError
from icsnn_deploy.graph.arrangement import unpack_input
from icsnn_deploy.graph.file import FORMAT, graph_bytes, read_graph
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output, Relu
from tests.support.graph_files import header_of, refused, small, tensors_of, written
from tests.support.graphs import (
    if_graphs,
    residual_network,
    samples,
    two_headed_network,
    with_parts,
)

NETWORK = residual_network(time_steps=2)
DATA = graph_bytes(NETWORK)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# Round trips


@QUICK
@given(graph=if_graphs(("subtract", "v_reset")))
def test_round_trip_of_random_graphs(tmp_path: Path, graph: Graph) -> None:
    data = graph_bytes(graph)
    assert graph_bytes(graph) == data
    (tmp_path / "g").write_bytes(data)
    read = read_graph(tmp_path / "g")
    assert read.hash() == graph.hash()
    assert [node.name for node in read.nodes] == [node.name for node in graph.nodes]
    assert (read.time_steps, read.readout_start) == (graph.time_steps, graph.readout_start)
    assert graph_bytes(read) == data


def test_provenance_and_kinds_come_back(tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(graph_bytes(small()))
    read = read_graph(tmp_path / "g")
    assert read.provenance == {"from": "a test"}
    assert [type(node) for node in read.nodes] == [Input, Linear, IF, Output]
    assert read.readout_start == 1


def test_an_ann_with_integer_arrays(tmp_path: Path) -> None:
    for kind in ("int8", "int16", "int32", "int64", "float32"):
        weight = np.arange(4).reshape(2, 2).astype(kind)
        nodes = (
            Input(name="input", shape=(2,), dtype="uint8"),
            Linear(name="fc", inputs=("input",), weight=weight, bias=np.zeros(2, kind)),
            Relu(name="act", inputs=("fc",), upper=6.0, levels=4),
            Output(name="output", inputs=("act",)),
        )
        graph = Graph(nodes=nodes)
        (tmp_path / "g").write_bytes(graph_bytes(graph))
        read = read_graph(tmp_path / "g")
        assert read.hash() == graph.hash()
        assert read.time_steps is None
        found = read.node("fc")
        assert isinstance(found, Linear)
        assert found.weight.dtype == kind


def test_names_in_any_script(tmp_path: Path) -> None:
    graph = small()
    graph = Graph(
        nodes=tuple(
            replace(
                node,
                name=f"схема 回路 {node.name}",
                inputs=tuple(f"схема 回路 {n}" for n in node.inputs),
            )
            for node in graph.nodes
        ),
        time_steps=3,
    )
    (tmp_path / "g").write_bytes(graph_bytes(graph))
    assert read_graph(tmp_path / "g").hash() == graph.hash()


def test_the_order_in_which_nodes_were_given_does_not_matter(tmp_path: Path) -> None:
    header = header_of(small())
    header["nodes"].reverse()
    path = written(tmp_path / "g", header, tensors_of(small()))
    assert read_graph(path).hash() == small().hash()


@QUICK
@given(graph=if_graphs(), seed=st.integers(0, 9))
def test_parts_and_index_come_back(tmp_path: Path, graph: Graph, seed: int) -> None:
    named = with_parts(graph, seed)
    (tmp_path / "g").write_bytes(graph_bytes(named))
    read = read_graph(tmp_path / "g")
    assert read.hash() == named.hash() != graph.hash()
    assert (read.input.parts, read.output.parts) == (named.input.parts, named.output.parts)
    assert graph_bytes(read) == (tmp_path / "g").read_bytes()
    x = samples(graph, 2)
    for name, value in unpack_input(named.input, x).items():
        np.testing.assert_array_equal(unpack_input(read.input, x)[name], value)


def test_units_of_several_outputs_come_back(tmp_path: Path) -> None:
    graph = replace(two_headed_network(), output_unit=(0.5, 0.25))
    (tmp_path / "g").write_bytes(graph_bytes(graph))
    read = read_graph(tmp_path / "g")
    assert read.output_unit == (0.5, 0.25)
    assert graph_bytes(read) == graph_bytes(graph)


# Damage


def test_truncated(tmp_path: Path) -> None:
    path = tmp_path / "g"
    for length in [*range(60), *range(60, len(DATA), len(DATA) // 60), len(DATA) - 1]:
        path.write_bytes(DATA[:length])
        refused(path)


def test_appended(tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(DATA + b"\0")
    refused(tmp_path / "g")


@pytest.mark.slow
@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes(tmp_path: Path, data: st.DataObject) -> None:
    """A graph or a BundleError: never another exception. The bundle's sha256 catches the rest."""
    original = graph_bytes(small())
    broken = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3), label="flips")):
        place = data.draw(st.integers(0, len(broken) - 1), label="place")
        broken[place] = data.draw(st.integers(0, 255), label="byte")
    (tmp_path / "g").write_bytes(broken)
    try:
        graph = read_graph(tmp_path / "g")
    except BundleError:
        return
    (tmp_path / "g").write_bytes(graph_bytes(graph))
    assert read_graph(tmp_path / "g").hash() == graph.hash()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02}", b"\xff" * 64, b"\0" * 64])
def test_other_kinds_of_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "g").write_bytes(data)
    assert "safetensors" in refused(tmp_path / "g")


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "none")
    refused(tmp_path)


def test_a_header_that_declares_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    refused(tmp_path / "g")


def test_a_tensor_beyond_the_file(tmp_path: Path) -> None:
    inner = {"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    text = json.dumps(inner).encode()
    (tmp_path / "g").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    refused(tmp_path / "g")


def test_safetensors_of_someone_else(tmp_path: Path) -> None:
    (tmp_path / "g").write_bytes(save({"x": np.zeros(3, np.float32)}))
    assert "not a graph" in refused(tmp_path / "g")
    (tmp_path / "g").write_bytes(save({"x": np.zeros(3, np.float32)}, metadata={"format": "pt"}))
    assert "not a graph" in refused(tmp_path / "g")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "F16", "U8", "BOOL", "U64", "F64"])
def test_tensors_of_other_types(tmp_path: Path, kind: str) -> None:
    """Half of them NumPy does not even know; F64 becomes float32, as everywhere."""
    size = {"BF16": 2, "F16": 2, "U64": 8, "F64": 8}.get(kind, 1)
    text = json.dumps(header_of(small()))
    data, inner = b"", {}
    for name, value in tensors_of(small()).items():
        end = len(data) + (size if name == "if/v_init" else 4) * value.size
        inner[name] = {
            "dtype": kind if name == "if/v_init" else "F32",
            "shape": list(value.shape),
            "data_offsets": [len(data), end],
        }
        data += value.tobytes() if name != "if/v_init" else bytes(end - len(data))
    head = json.dumps({"__metadata__": {FORMAT: text}, **inner}).encode()
    (tmp_path / "g").write_bytes(struct.pack("<Q", len(head)) + head + data)
    if kind == "F64":
        assert len(read_graph(tmp_path / "g").nodes) == 4
    else:
        refused(tmp_path / "g")
