"""Unit of the output, calibrated steps and max poolings: typed, not hashed, kept in provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from icsnn_deploy.errors import BundleError, GraphError
from icsnn_deploy.graph.file import FORMAT, graph_bytes, read_graph
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import logit_unit
from icsnn_deploy.graph.node import BaseNode
from icsnn_deploy.graph.nodes import NODE_TYPES, Flatten, Input
from tests.support.graphs import residual_network

RECORDS: dict[str, Any] = {
    "output_unit": 0.25,
    "calibrated_steps": (2, 4),
    "max_pools": {"pool": ("pool.relu", "pool.relay")},
    "tasks": {"output": "regression"},
}
KEYS = {
    "output_unit": "logit_unit",
    "calibrated_steps": "counted",
    "max_pools": "max_pool",
    "tasks": "output_task",
}


def recorded() -> Graph:
    return replace(residual_network(time_steps=4), **RECORDS, provenance={"recipe": "mine"})


def header_of(data: bytes) -> dict[str, Any]:
    """The JSON header of a graph file."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    found: dict[str, Any] = json.loads(metadata[FORMAT])
    return found


def with_provenance(path: Path, entries: dict[str, Any]) -> Path:
    """The file of a small network, with these entries as its provenance."""
    path.write_bytes(graph_bytes(residual_network()))
    header = {**header_of(path.read_bytes()), "provenance": entries}
    save_file(load_file(path), path, {FORMAT: json.dumps(header)})
    return path


def test_records_are_not_part_of_the_hash() -> None:
    assert recorded().hash() == residual_network(time_steps=4).hash()


def test_the_file_keeps_records_among_the_provenance() -> None:
    assert header_of(graph_bytes(recorded()))["provenance"] == {
        "recipe": "mine",
        "logit_unit": 0.25,
        "counted": [2, 4],
        "max_pool": {"pool": ["pool.relu", "pool.relay"]},
        "output_task": {"output": "regression"},
    }
    assert header_of(graph_bytes(residual_network()))["provenance"] == {}


def test_records_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "g"
    path.write_bytes(graph_bytes(recorded()))
    graph = read_graph(path)
    assert {name: getattr(graph, name) for name in RECORDS} == RECORDS
    assert graph.provenance == {"recipe": "mine"}
    assert graph_bytes(graph) == path.read_bytes()


def test_a_rewrite_keeps_records() -> None:
    graph = recorded()
    for other in (
        graph.map(lambda node: node),
        graph.replace(graph.input),
        graph.with_nodes(graph.nodes),
    ):
        assert {name: getattr(other, name) for name in RECORDS} == RECORDS


WRONG: dict[str, list[Any]] = {
    "output_unit": [0, -1.0, True, "1", [1], {"1": 1}],
    "calibrated_steps": ["text", 3, [0], [2.5], [True], {"2": 2}],
    "max_pools": ["text", 3, ["x"], {"2": "x"}, {"2": [3]}, {"2": [["x"]]}],
    "tasks": ["text", 3, ["x"], {"output": "nonsense"}, {"output": 3}, {"output": ["binary"]}],
}
BAD = [(field, value) for field, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("field", "value"), BAD, ids=str)
def test_a_record_that_makes_no_sense_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(GraphError, match=rf"{field} \({KEYS[field]} in files\)"):
        replace(residual_network(), **{field: value})
    path = with_provenance(tmp_path / "g", {KEYS[field]: value})
    with pytest.raises(BundleError, match=KEYS[field]):
        read_graph(path)


@pytest.mark.parametrize("unit", [float("inf"), float("nan"), 10**400])
def test_a_unit_beyond_floats_is_refused(unit: Any) -> None:
    with pytest.raises(GraphError, match="output_unit"):
        replace(residual_network(), output_unit=unit)


@pytest.mark.parametrize("key", KEYS.values())
@pytest.mark.parametrize("value", [None, [], {}])
def test_a_file_with_an_empty_record_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(BundleError, match=f"provenance '{key}'"):
        read_graph(with_provenance(tmp_path / "g", {key: value}))


@pytest.mark.parametrize("field", KEYS)
def test_a_record_among_the_provenance_is_refused(field: str) -> None:
    with pytest.raises(GraphError, match=f"set the graph's field {field} instead"):
        replace(residual_network(), provenance={KEYS[field]: 1})


def test_the_unit_of_a_float_network_is_one_unless_recorded() -> None:
    assert logit_unit(residual_network()) == 1.0
    assert logit_unit(recorded()) == 0.25


@pytest.mark.parametrize(
    ("encoding", "timed", "axis"), [("direct", False, 0), ("rate", True, 1), ("events", True, 1)]
)
def test_spikes_come_with_a_time_axis(encoding: Any, timed: bool, axis: int) -> None:
    node = Input(name="input", shape=(2,), encoding=encoding)
    assert (node.is_timed, node.batch_axis) == (timed, axis)


def test_a_graph_takes_the_kinds_of_the_union_alone() -> None:
    class Toy(Flatten):
        pass

    graph = residual_network()
    (flatten,) = graph.nodes_of(Flatten)
    with pytest.raises(GraphError, match="flatten: a Toy; allowed in a graph: Input, Conv"):
        graph.replace(Toy(name=flatten.name, inputs=flatten.inputs))
    assert all(issubclass(kind, BaseNode) for kind in NODE_TYPES.values())


def test_a_population_is_asked_for_by_name() -> None:
    graph = residual_network()
    name = next(node.name for node in graph.nodes if node.kind == "if")
    np.testing.assert_array_equal(
        graph.population(name).v_init, graph.node(name).arrays()["v_init"]
    )
    with pytest.raises(GraphError, match="output: a population is needed, this is a output"):
        graph.population("output")
