"""An exported ONNX file that was damaged or made to harm: one ExportError that names it, soon."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.metadata import BLANK, CONTENT_KEY, stamp_content
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, build, write
from tests.support.graphs import residual_network
from tests.support.onnx_files import refused, stamped

pytestmark = pytest.mark.no_cover  # processor time is limited, and counting lines takes some
GRAPH = residual_network(time_steps=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "net.onnx"
    write(GRAPH, path, OnnxOptions(layout=layout))
    data = path.read_bytes()
    for length in [0, 1, 2, 10, *range(50, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_flipped_bit_anywhere(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / "net.onnx"
    write(GRAPH, path, OnnxOptions(layout=layout))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    ends = [*range(64), *range(len(data) - 100, len(data))]
    for position in [*ends, *rng.integers(0, len(data), 200)]:
        broken = bytearray(data)
        broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(ExportError, match=r"net\.onnx"):
            read(path)


def test_appended_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write(GRAPH, path)
    path.write_bytes(path.read_bytes() + b"\x0a\x00")
    assert "sha256" in refused(path)


@pytest.mark.parametrize("data", [b"\x00" * 100, b"PK\x03\x04", b"<html>", b"\xff" * 1000])
def test_another_kind_of_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    refused(path)


def test_no_file(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.onnx")
    assert "not a regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


def test_a_file_of_3_gb(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)
    assert "bytes" in refused(path)


def test_onnx_of_someone_else(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = build(GRAPH)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    assert "not from icsnn-deploy" in refused(path)


Change = Callable[[onnx.ModelProto], object]


def external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def hidden_external_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def external_data_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node[0].attribute.append(helper.make_attribute("value", tensor))


def subgraph(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", body))


def function(model: onnx.ModelProto) -> None:
    opset = helper.make_opsetid("", 18)
    node = helper.make_node("Add", ["a", "a"], ["b"])
    model.functions.append(helper.make_function("", "Add", ["a"], ["b"], [node], [opset]))


def huge_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**40]


def negative_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1, -4]


def huge_result(model: onnx.ModelProto) -> None:
    """A convolution padded to 2^60 values."""
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    (pads,) = (attribute for attribute in node.attribute if attribute.name == "pads")
    pads.ints[:] = [2**29] * 4


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def text_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


CHANGES: list[tuple[Change, str]] = [
    (external_data, "external data is refused"),
    (hidden_external_data, "external data is refused"),
    (external_data_in_an_attribute, "not an integer"),
    (subgraph, "not an integer"),
    (function, "functions"),
    (huge_tensor, "declares the shape"),
    (negative_tensor, "declares the shape"),
    (huge_result, "too large|differ in dimension"),
    (sparse, "sparse"),
    (text_input, "checker"),
    (fixed_batch, "shape"),
    (cycle, "checker"),
    (lambda model: setattr(model.graph.node[0], "op_type", "Loop"), "operator 'Loop'"),
    (lambda model: setattr(model.graph.node[0], "domain", "com.evil"), "com.evil.Conv"),
    (lambda model: setattr(model.opset_import[0], "version", 99), "opsets"),
    (lambda model: model.opset_import.add(domain="com.evil", version=1), "opsets"),
    (lambda model: setattr(model, "ir_version", 0), "IR version"),
    (lambda model: model.metadata_props.add(key="layout", value="step"), "twice"),
    (lambda model: model.graph.output.pop(), "outputs"),
    (lambda model: model.graph.node.pop(0), "checker"),
]


@pytest.mark.parametrize("layout", ["unrolled", "folded", "scan"])
@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_malice_with_a_content_hash_that_fits(
    tmp_path: Path, change: Change, message: str, layout: Layout
) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH, OnnxOptions(layout=layout))
    change(model)
    path.write_bytes(stamped(model))
    found = refused(path)
    assert any(part in found for part in message.split("|"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("producer", "pytorch"),
        ("format", "2"),
        ("reset", "zero"),
        ("layout", "flat"),
        ("layout", "folded"),  # it is unrolled
        ("layout", "scan"),
        ("encoding", "latency"),
        ("graph_hash", "0"),
        ("time_steps", "0"),
        ("time_steps", "-1"),
        ("time_steps", "1"),  # the model has two
        ("time_steps", "3"),
        ("time_steps", "100001"),
        ("time_steps", "9" * 5000),
        ("time_steps", "١"),
        ("readout_start", "2"),
        ("readout_start", "1e3"),
        ("input_unit", "0"),
        ("input_unit", "nan"),
        ("input_unit", "inf"),
        ("input_unit", "0,1"),
        ("populations", "[" * 100_000),
        ("populations", "7"),
        ("populations", "{}"),
        ("populations", '[["stem.if", [4, 6, 6]], ["stem.if", [4, 6, 6]]]'),
        ("populations", '[["stem.if", [2147483647, 2147483647, 2147483647]]]'),
        ("populations", '[["stem.if", [4, 6, true]]]'),
        ("populations", '[["nowhere", [4, 6, 6]]]'),
    ],
)
def test_metadata_that_can_not_be_believed(tmp_path: Path, key: str, value: str) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH, OnnxOptions(layout="unrolled"))
    (entry,) = (entry for entry in model.metadata_props if entry.key == key)
    entry.value = value
    path.write_bytes(stamped(model))
    refused(path)
    model.metadata_props.remove(entry)
    path.write_bytes(stamped(model))
    refused(path)


@pytest.mark.parametrize("value", ["", "!", "AAAA", "AADAfw==" * 4, "AACAPw==" * 3])
def test_initial_potentials_that_do_not_fit(tmp_path: Path, value: str) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH, OnnxOptions(layout="step"))
    (entry,) = (entry for entry in model.metadata_props if entry.key == "v_init/stem.if")
    entry.value = value
    path.write_bytes(stamped(model))
    assert "v_init/stem.if" in refused(path)


def test_a_content_hash_that_stands_twice(tmp_path: Path) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH)
    path.write_bytes(model.SerializeToString() * 2)
    refused(path)


@pytest.mark.parametrize("place", ["graph.initializer", "graph.node", "graph.output"])
def test_a_name_that_is_not_utf8(tmp_path: Path, place: str) -> None:
    """With the hash that fits; onnx raises UnicodeDecodeError on such names, in many places."""
    path, model = tmp_path / "net.onnx", build(GRAPH)
    part, field = place.split(".")
    getattr(getattr(model, part), field)[0].name = "a name to change"
    (content,) = (entry for entry in model.metadata_props if entry.key == CONTENT_KEY)
    content.value = BLANK
    data = model.SerializeToString(deterministic=True)
    changed = stamp_content(data.replace(b"a name to change", b"a name \xab\xa1 change"))
    assert changed is not None
    path.write_bytes(changed)
    assert "names or metadata that are not UTF-8" in refused(path)
