"""Headers and arrays of graph files that were made to break the reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.graph.file import graph_bytes, read_graph
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, Conv, Input, Output, Relu
from tests.support.graph_files import header_of, node_of, refused, small, tensors_of, written
from tests.support.graphs import (
    residual_network,
    two_headed_network,
    with_parts,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        '{"nodes":' * 100_000,
        '{"version": 1}',
        '{"version": 2}',
        json.dumps({"version": ["x" * 10_000]}),
        '{"version": 1e999}',
        '{"version": 1, "nodes": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: repr(text[:14]),
)
def test_headers_that_are_none(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path / "g", text, {}))


def test_a_future_version(tmp_path: Path) -> None:
    header = {**header_of(small()), "version": 2}
    path = written(tmp_path / "g", header, tensors_of(small()))
    assert "version 2; this program reads 1" in refused(path)


@pytest.mark.parametrize("depth", [*range(200, 1000, 100), *range(900, 1000, 7)])
@pytest.mark.parametrize("field", ["shape", "encoding", "name", "inputs", "dtype"])
def test_values_nested_up_to_the_recursion_limit(tmp_path: Path, field: str, depth: int) -> None:
    """What the JSON reader still takes, the message about it may not."""
    header = header_of(small())
    node_of(header, "input")[field] = "@"
    text = json.dumps(header).replace('"@"', "[" * depth + "]" * depth)
    refused(written(tmp_path / "g", text, tensors_of(small())))


Header = dict[str, Any]

HOSTILE: dict[str, Callable[[Header], object]] = {
    "no nodes": lambda h: h.pop("nodes"),
    "no time_steps": lambda h: h.pop("time_steps"),
    "no readout_start": lambda h: h.pop("readout_start"),
    "no provenance": lambda h: h.pop("provenance"),
    "a million steps": lambda h: h.update(time_steps=10**6),
    "NaN": lambda h: h.update(provenance={"a": float("nan")}),
    "infinity": lambda h: h.update(provenance={"a": float("inf")}),
    "an empty graph": lambda h: h.update(nodes=[]),
    "nodes as an object": lambda h: h.update(nodes={"a": 1}),
    "nodes as text": lambda h: h.update(nodes="abc"),
    "nodes as a number": lambda h: h.update(nodes=3),
    "a node as text": lambda h: h["nodes"].append("abc"),
    "a node as a list": lambda h: h["nodes"].append([["kind", "output"]]),
    "a node as null": lambda h: h["nodes"].append(None),
    "an empty node": lambda h: h["nodes"].append({}),
    "time_steps 0": lambda h: h.update(time_steps=0),
    "time_steps as text": lambda h: h.update(time_steps="3"),
    "time_steps as a fraction": lambda h: h.update(time_steps=2.5),
    "time_steps true": lambda h: h.update(time_steps=True),
    "time_steps null": lambda h: h.update(time_steps=None),
    "readout_start at the end": lambda h: h.update(readout_start=3),
    "readout_start negative": lambda h: h.update(readout_start=-1),
    "readout_start as a fraction": lambda h: h.update(readout_start=0.5),
    "readout_start true": lambda h: h.update(readout_start=True),
    "provenance as a list": lambda h: h.update(provenance=[1]),
    "provenance null": lambda h: h.update(provenance=None),
    "an unknown kind": lambda h: node_of(h, "fc").update(kind="lstm"),
    "a kind that is a list": lambda h: node_of(h, "fc").update(kind=["linear"]),
    "no kind": lambda h: node_of(h, "fc").pop("kind"),
    "another kind": lambda h: node_of(h, "fc").update(kind="conv"),
    "a kind without arrays": lambda h: node_of(h, "fc").update(kind="flatten"),
    "no name": lambda h: node_of(h, "fc").pop("name"),
    "a name that is a number": lambda h: node_of(h, "fc").update(name=3),
    "a name that is a list": lambda h: node_of(h, "fc").update(name=["fc"]),
    "a name with a slash": lambda h: node_of(h, "fc").update(name="fc/weight"),
    "an empty name": lambda h: node_of(h, "output").update(name=""),
    "a name given twice": lambda h: node_of(h, "output").update(name="input"),
    "no inputs": lambda h: node_of(h, "fc").pop("inputs"),
    "inputs as text": lambda h: node_of(h, "fc").update(inputs="input"),
    "inputs as a number": lambda h: node_of(h, "fc").update(inputs=1),
    "inputs of numbers": lambda h: node_of(h, "fc").update(inputs=[1]),
    "inputs of lists": lambda h: node_of(h, "fc").update(inputs=[["input"]]),
    "two inputs": lambda h: node_of(h, "fc").update(inputs=["input", "input"]),
    "a source that is not there": lambda h: node_of(h, "fc").update(inputs=["nowhere"]),
    "a node that feeds itself": lambda h: node_of(h, "fc").update(inputs=["fc"]),
    "a cycle": lambda h: node_of(h, "fc").update(inputs=["if"]),
    "a missing field": lambda h: node_of(h, "input").pop("dtype"),
    "an extra field": lambda h: node_of(h, "fc").update(stride=[1]),
    "an array in the JSON": lambda h: node_of(h, "fc").update(weight=[[1, 0], [0, 1]]),
    "a second input": lambda h: h["nodes"].append({**node_of(h, "input"), "name": "input2"}),
    "no output": lambda h: h["nodes"].remove(node_of(h, "output")),
    "an input without a shape": lambda h: node_of(h, "input").update(shape=[]),
    "an input of no size": lambda h: node_of(h, "input").update(shape=[0]),
    "an input of a negative size": lambda h: node_of(h, "input").update(shape=[-2]),
    "a shape of fractions": lambda h: node_of(h, "input").update(shape=[2.0]),
    "a shape of text": lambda h: node_of(h, "input").update(shape="2"),
    "a shape that does not fit": lambda h: node_of(h, "input").update(shape=[3]),
    "an unknown dtype": lambda h: node_of(h, "input").update(dtype="object"),
    "an unknown encoding": lambda h: node_of(h, "input").update(encoding="morse"),
    "an encoding that is a list": lambda h: node_of(h, "input").update(encoding=["direct"]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers(tmp_path: Path, what: str) -> None:
    header = header_of(small())
    HOSTILE[what](header)
    refused(written(tmp_path / "g", header, tensors_of(small())))


def test_the_message_names_the_cycle(tmp_path: Path) -> None:
    header = header_of(small())
    node_of(header, "fc")["inputs"] = ["if"]
    message = refused(written(tmp_path / "g", header, tensors_of(small())))
    assert "a cycle runs through fc, if" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["fc/weight", "fc/bias", "if/v_threshold", "if/v_init"])
def test_arrays_with_values_that_are_no_numbers(tmp_path: Path, name: str, value: float) -> None:
    tensors = tensors_of(small())
    tensors[name] = np.full_like(tensors[name], value)
    message = refused(written(tmp_path / "g", header_of(small()), tensors))
    assert f"{name.replace('/', '.')}: not finite" in message


def test_arrays_that_do_not_belong(tmp_path: Path) -> None:
    tensors = tensors_of(small())
    one = np.ones(1, np.float32)
    for extra in ("fc/gain", "if/weight", "stranger", "input/shape", "output/name"):
        refused(written(tmp_path / "g", header_of(small()), {**tensors, extra: one}))
    message = refused(written(tmp_path / "g", header_of(small()), {**tensors, "x/y": one}))
    assert "tensors that no node names: x/y" in message
    for name in tensors:
        rest = {n: value for n, value in tensors.items() if n != name}
        refused(written(tmp_path / "g", header_of(small()), rest))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fc/weight", np.ones((2, 3), np.float32)),
        ("fc/weight", np.ones(4, np.float32)),
        ("fc/weight", np.ones((0, 2), np.float32)),
        ("fc/bias", np.ones(3, np.float32)),
        ("if/v_threshold", np.zeros(1, np.float32)),
        ("if/v_threshold", -np.ones(1, np.float32)),
        ("if/v_threshold", np.ones(3, np.float32)),
        ("if/v_threshold", np.ones((1, 1), np.float32)),
        ("if/v_init", np.ones((), np.float32)),
    ],
)
def test_arrays_of_the_wrong_shape_or_sign(tmp_path: Path, name: str, value: Array) -> None:
    tensors = {**tensors_of(small()), name: value}
    assert name.split("/")[0] in refused(written(tmp_path / "g", header_of(small()), tensors))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stride", [0, 1]),
        ("stride", [1]),
        ("stride", "11"),
        ("stride", [True, True]),
        ("padding", [[1, 1], [-1, 1]]),
        ("padding", [1, 1]),
        ("padding", [[1], [1]]),
        ("dilation", [99, 99]),
        ("dilation", None),
        ("groups", 3),
        ("groups", 0),
        ("groups", "1"),
        ("groups", 10**15),
    ],
)
def test_convolutions_that_are_none(tmp_path: Path, field: str, value: object) -> None:
    network = residual_network(time_steps=2)
    header = header_of(network)
    assert isinstance(network.node("stem.conv"), Conv)
    node_of(header, "stem.conv")[field] = value
    assert "stem.conv" in refused(written(tmp_path / "g", header, tensors_of(network)))


PARTS: dict[str, Callable[[Header], object]] = {
    "parts as a number": lambda h: node_of(h, "output").update(parts=3),
    "parts as text": lambda h: node_of(h, "output").update(parts="ab"),
    "parts as an object": lambda h: node_of(h, "output").update(parts={"a": [8]}),
    "a part as text": lambda h: node_of(h, "output").update(parts=["ab"]),
    "a part as null": lambda h: node_of(h, "output").update(parts=[None]),
    "a part of one entry": lambda h: node_of(h, "output").update(parts=[["box"]]),
    "no parts, but an index": lambda h: node_of(h, "output").pop("parts"),
    "one part less": lambda h: node_of(h, "output")["parts"].pop(),
    "a name given twice": lambda h: node_of(h, "output")["parts"][0].__setitem__(0, "scores"),
    "a name that is a number": lambda h: node_of(h, "output")["parts"][0].__setitem__(0, 3),
    "an empty name": lambda h: node_of(h, "output")["parts"][0].__setitem__(0, ""),
    "a shape of text": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, "3"),
    "a shape of fractions": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, [3.0]),
    "a shape of no size": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, [0]),
    "a huge shape": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, [10**18] * 8),
    "a shape of many axes": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, [3] * 10**5),
    "another shape": lambda h: node_of(h, "output")["parts"][0].__setitem__(1, [4]),
    "a host_op that is a number": lambda h: node_of(h, "output")["parts"][0].__setitem__(2, 3),
    "an index in the JSON": lambda h: node_of(h, "output").update(index=list(range(8))),
    "a unit of the wrong count": lambda h: h.update(provenance={"logit_unit": [0.5]}),
    "a unit of 0": lambda h: h.update(provenance={"logit_unit": [0.5, 0]}),
    "a unit beyond floats": lambda h: h.update(provenance={"logit_unit": [0.5, 10**400]}),
    "units nested": lambda h: h.update(provenance={"logit_unit": [[0.5], [0.5]]}),
    "ten thousand parts": lambda h: node_of(h, "output").update(
        parts=[[str(i), [2**20]] for i in range(10**4)]
    ),
}


@pytest.mark.parametrize("what", PARTS)
def test_parts_that_make_no_sense(tmp_path: Path, what: str) -> None:
    header = header_of(two_headed_network())
    assert read_graph(written(tmp_path / "g", header, tensors_of(two_headed_network())))
    PARTS[what](header)
    refused(written(tmp_path / "g", header, tensors_of(two_headed_network())))


@pytest.mark.parametrize(
    "index",
    [
        np.arange(8) + 1,
        np.arange(8) - 1,
        np.full(8, 2**62),
        np.full(8, -(2**63)),
        np.arange(7),
        np.arange(8).reshape(2, 4),
        np.arange(8.0),
        np.full(8, np.nan),
        np.arange(8, dtype=np.uint64),
        np.zeros(0, np.int64),
        np.array(3),
    ],
    ids=str,
)
def test_an_index_that_makes_no_sense(tmp_path: Path, index: Array) -> None:
    graph = two_headed_network()
    tensors = {**tensors_of(graph), "output/index": index}
    assert "output" in refused(written(tmp_path / "g", header_of(graph), tensors))
    graph = with_parts(residual_network())
    tensors = {**tensors_of(graph), "input/index": index}
    assert "input" in refused(written(tmp_path / "g", header_of(graph), tensors))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"upper": 6.0, "levels": 4}, True),
        ({"upper": 10**400}, False),
        ({"upper": -1}, False),
        ({"upper": "6"}, False),
        ({"levels": 4}, False),
        ({"upper": 1, "levels": 0}, False),
    ],
)
def test_bounds_of_a_relu(tmp_path: Path, change: dict[str, object], fits: bool) -> None:
    nodes = (
        Input(name="input", shape=(2,)),
        Relu(name="act", inputs=("input",)),
        Output(name="output", inputs=("act",)),
    )
    header = header_of(Graph(nodes=nodes))
    node_of(header, "act").update(change)
    path = written(tmp_path / "g", header, {})
    if fits:
        assert isinstance(read_graph(path).node("act"), Relu)
    else:
        refused(path)


def test_a_padding_that_asks_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between an input of 4 values and an output of 1, so that nothing else is large."""
    wide = 2**14
    one = np.ones(1, np.float32)
    nodes = (
        Input(name="input", shape=(1, 2, 2)),
        Conv(
            name="conv",
            inputs=("input",),
            weight=one.reshape(1, 1, 1, 1),
            bias=one,
            stride=(1, 1),
            padding=((wide, wide),) * 2,
            dilation=(1, 1),
        ),
        AvgPool(
            name="pool",
            inputs=("conv",),
            kernel=(2 * wide, 2 * wide),
            stride=(3, 3),
            padding=((0, 0),) * 2,
        ),
        Output(name="output", inputs=("pool",)),
    )
    with monkeypatch.context() as unchecked:
        unchecked.setattr("icsnn_deploy.graph.graph.check_result", lambda node, shape: None)
        (tmp_path / "g").write_bytes(graph_bytes(Graph(nodes=nodes)))
    assert "conv: a result of shape (1, 32770, 32770) is too large" in refused(tmp_path / "g")
