"""Files of the folded layouts that were made to harm: a Scan holds the IF step and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from icsnn_deploy.exporters.onnx.contract import Layout
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, build
from tests.support.graphs import residual_network
from tests.support.onnx_files import refused, stamped

pytestmark = pytest.mark.no_cover  # processor time is limited, and counting lines takes some
GRAPH = residual_network(time_steps=3)
SCAN = OnnxOptions(layout="scan")

Change = Callable[[onnx.ModelProto], object]


def scan_of(model: onnx.ModelProto) -> onnx.NodeProto:
    scan: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == "Scan")
    return scan


def body_of(model: onnx.ModelProto) -> onnx.GraphProto:
    body: onnx.GraphProto = scan_of(model).attribute[0].g
    return body


def loop_inside(model: onnx.ModelProto) -> None:
    body_of(model).node[0].op_type = "Loop"


def one_more_operator(model: onnx.ModelProto) -> None:
    body_of(model).node.append(helper.make_node("Add", ["stem.if/u@t"] * 2, ["more"]))


def nested(model: onnx.ModelProto) -> None:
    inner = onnx.NodeProto()
    inner.CopyFrom(scan_of(model))
    body_of(model).node[0].CopyFrom(inner)


def outside_reference(model: onnx.ModelProto) -> None:
    body_of(model).node[0].input[1] = "block.conv1/weight"


def other_wiring(model: onnx.ModelProto) -> None:
    body_of(model).node[1].input[:] = reversed(body_of(model).node[1].input)


def other_comparison(model: onnx.ModelProto) -> None:
    body_of(model).node[1].op_type = "Greater"


def external_threshold(model: onnx.ModelProto) -> None:
    tensor = body_of(model).initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def threshold(*values: float) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = body_of(model).initializer[0]
        array = np.array(values, np.float32).reshape(-1, 1, 1)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


def huge_threshold(model: onnx.ModelProto) -> None:
    body_of(model).initializer[0].dims[:] = [2**40]


def sparse_inside(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [2**40])
    body_of(model).sparse_initializer.append(sparse)


def unknown_field(model: onnx.ModelProto) -> None:
    """A field of protobuf that onnx does not know."""
    body = body_of(model)
    body.MergeFromString(body.SerializeToString() + b"\xfa\x3e\x01a")


def two_scan_inputs(model: onnx.ModelProto) -> None:
    scan_of(model).attribute[1].i = 2


def backwards(model: onnx.ModelProto) -> None:
    attribute = helper.make_attribute("scan_input_directions", [1])
    scan_of(model).attribute.append(attribute)


def another_population(model: onnx.ModelProto) -> None:
    scan_of(model).output[1] = "elsewhere/s"


def hard_reset(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "reset")
    entry.value = "v_reset"


def said_to_be_folded(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "layout")
    entry.value = "folded"


def other_steps(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "time_steps")
    entry.value = "4"


def other_shape(model: onnx.ModelProto) -> None:
    entry = next(entry for entry in model.metadata_props if entry.key == "populations")
    rows = json.loads(entry.value)
    rows[0][1] = [4, 6, 7]
    entry.value = json.dumps(rows)


NOT_THE_STEP = "the body of its Scan is not the IF step"
SCANS: list[tuple[Change, str]] = [
    (loop_inside, NOT_THE_STEP),
    (one_more_operator, NOT_THE_STEP),
    (nested, NOT_THE_STEP),
    (outside_reference, NOT_THE_STEP),
    (other_wiring, NOT_THE_STEP),
    (other_comparison, NOT_THE_STEP),
    (external_threshold, "lies in another file"),
    (threshold(-1), NOT_THE_STEP),
    (threshold(float("nan")), NOT_THE_STEP),
    (threshold(1, 2, 3), NOT_THE_STEP),
    (huge_threshold, "declares the shape"),
    (sparse_inside, "sparse"),
    (unknown_field, NOT_THE_STEP),
    (hard_reset, NOT_THE_STEP),
    (other_shape, NOT_THE_STEP),
    (two_scan_inputs, "which is no population"),
    (backwards, "which is no population"),
    (another_population, "which is no population"),
    (said_to_be_folded, "which is no population"),
    (other_steps, "not so in the model"),
]


@pytest.mark.parametrize(("change", "message"), SCANS)
def test_a_scan_that_is_not_ours(tmp_path: Path, change: Change, message: str) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH, SCAN)
    path.write_bytes(stamped(model))
    read(path)  # so that the refusal is about the change
    change(model)
    path.write_bytes(stamped(model))
    assert message in refused(path)


def claim(name: str, shape: list[int | str], kind: int = TensorProto.FLOAT) -> Change:
    def change(model: onnx.ModelProto) -> None:
        kept = [info for info in model.graph.value_info if info.name != name]
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)
        model.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))

    return change


CLAIMS: list[tuple[Change, str]] = [
    (claim("nowhere", ["N", 4]), "no tensor"),
    (claim("block.conv1/y", ["TN", 4, 6, 7]), "another shape"),
    (claim("block.conv1/y", ["TN", 4, 6]), "another shape"),
    (claim("block.conv1/y", ["TN", 4, 6, "N"]), "another shape"),
    (claim("block.conv1/y", [1, 4, 6, 6]), "another shape"),
    (claim("block.conv1/y", ["M", 4, 6, 6]), "another shape"),
    (claim("block.conv1/y", ["TN", 4, 6, 6], TensorProto.INT64), "another shape"),
]


@pytest.mark.parametrize("layout", ["folded", "scan"])
@pytest.mark.parametrize(("change", "message"), CLAIMS)
def test_a_shape_that_does_not_follow(
    tmp_path: Path, change: Change, message: str, layout: Layout
) -> None:
    path, model = tmp_path / "net.onnx", build(GRAPH, OnnxOptions(layout=layout))
    change(model)
    path.write_bytes(stamped(model))
    assert message in refused(path)
