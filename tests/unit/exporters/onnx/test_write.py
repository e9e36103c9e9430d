"""What an exported ONNX file looks like, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.onnx import write as exporter
from icsnn_deploy.exporters.onnx.contract import (
    LAYOUTS,
    OPERATORS,
    TIMED_LAYOUTS,
    Layout,
    Runtime,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.layouts.choose import layout_of
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, build, write
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import AvgPool, Encoding, Input, Linear, Node, Output, Relu
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import conv, residual_network, samples, spiking

EVERYTHING = OnnxOptions(logits_t=True, spike_counts=True, raw_spikes=True)
UNROLLED = OnnxOptions(layout="unrolled")


def shapes(infos: Any) -> dict[str, list[int | str]]:
    return {
        info.name: [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in infos
    }


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def test_only_the_logits_unless_asked() -> None:
    model = build(residual_network(time_steps=4))
    assert shapes(model.graph.input) == {"x": ["N", 2, 6, 6]}
    assert shapes(model.graph.output) == {"logits": ["N", 10]}


@pytest.mark.parametrize("layout", TIMED_LAYOUTS)
def test_everything_that_can_be_asked_for(layout: Layout) -> None:
    options = replace(EVERYTHING, layout=layout)
    outputs = shapes(build(residual_network(time_steps=4), options).graph.output)
    assert outputs["logits"] == ["N", 10]
    assert outputs["logits_t"] == [4, "N", 10]
    assert outputs["spike_count/stem.if"] == ["N", 4, 6, 6]
    assert outputs["spikes/block.if2"] == [4, "N", 4, 6, 6]
    assert len(outputs) == 2 + 3 + 3


def test_step_layout() -> None:
    model = build(residual_network(), OnnxOptions(layout="step", raw_spikes=True))
    assert shapes(model.graph.input)["stem.if/v_in"] == ["N", 4, 6, 6]
    outputs = shapes(model.graph.output)
    assert outputs["y"] == ["N", 10]
    assert outputs["stem.if/v_out"] == outputs["stem.if/spikes"] == ["N", 4, 6, 6]
    assert "stem.if/spikes" not in shapes(
        build(residual_network(), OnnxOptions(layout="step")).graph.output
    )


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_spiking_input_has_a_time_axis(encoding: Encoding) -> None:
    graph = residual_network(time_steps=4)
    graph = graph.replace(replace(graph.input, encoding=encoding, dtype="uint8"))
    model = build(graph)
    assert shapes(model.graph.input) == {"x": [4, "N", 2, 6, 6]}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert shapes(build(graph, OnnxOptions(layout="step")).graph.input)["x"] == ["N", 2, 6, 6]


def test_steady_nodes_and_readout_stand_once() -> None:
    names = [node.name for node in build(residual_network(time_steps=5), UNROLLED).graph.node]
    assert names.count("stem.conv/y") == 1
    assert [name for name in names if name.startswith("head/")] == ["head/y"]
    assert sum(name.startswith("block.conv1/") for name in names) == 5
    assert "stem.if/v@4" in names
    assert "stem.if/v@5" not in names  # nothing needs the potential after the last step


def test_folded_nodes_stand_once() -> None:
    model = build(residual_network(time_steps=5), OnnxOptions(layout="folded"))
    names = [node.name for node in model.graph.node]
    assert sum(name.startswith("block.conv1/") for name in names) == 2  # and a Reshape
    assert sum(name.startswith("stem.if/u@") for name in names) == 5
    assert "stem.if/v@5" not in names
    described = shapes(model.graph.value_info)
    assert described["block.conv1/y"] == ["TN", 4, 6, 6]
    assert described["block.conv1/stacked"] == [5, "N", 4, 6, 6]
    assert described["block.if1/current@3"] == described["stem.if/s@5"] == [1, "N", 4, 6, 6]


def test_a_scan_a_population() -> None:
    """The file is the same but for numbers and the zeros that a steady current is added to."""
    short, long = (
        build(residual_network(time_steps=steps), OnnxOptions(layout="scan")) for steps in (5, 99)
    )
    scans = [node for node in short.graph.node if node.op_type == "Scan"]
    assert [node.output[1] for node in scans] == ["stem.if/s", "block.if1/s", "block.if2/s"]
    body = scans[1].attribute[0].g
    assert [node.output[0] for node in body.node] == [
        f"block.if1/{role}" for role in ("u@t", "fired@t", "s@t", "reset@t", "v_out")
    ]
    assert [tensor.name for tensor in body.initializer] == ["block.if1/v_threshold"]
    assert [n.op_type for n in short.graph.node] == [n.op_type for n in long.graph.node]
    grown = len(long.SerializeToString()) - len(short.SerializeToString())
    assert grown < 4 * (99 - 5) + 100


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_safe_operators(layout: Layout) -> None:
    options = OnnxOptions(raw_spikes=True) if layout == "step" else EVERYTHING
    model = build(residual_network(), replace(options, layout=layout))
    assert {node.op_type for node in model.graph.node} <= OPERATORS


@pytest.mark.parametrize(
    ("runtime", "time_steps", "layout"),
    [
        ("onnxruntime", 8, "unrolled"),
        ("onnxruntime", 146, "unrolled"),  # 7 nodes of this network iterate: 7 * 146 <= 1024
        ("onnxruntime", 147, "scan"),
        ("openvino", 73, "unrolled"),
        ("openvino", 74, "scan"),
    ],
)
def test_auto_unrolls_what_loads_soon(runtime: Runtime, time_steps: int, layout: Layout) -> None:
    options = OnnxOptions(runtime=runtime)
    assert layout_of(residual_network(time_steps=time_steps), options) == layout
    asked = replace(options, layout="folded")
    assert layout_of(residual_network(time_steps=time_steps), asked) == "folded"


def test_auto_is_what_is_written(tmp_path: Path) -> None:
    for steps, layout in ((8, "unrolled"), (300, "scan")):
        export(residual_network(time_steps=steps), tmp_path / "net.onnx", "onnx")
        assert read(tmp_path / "net.onnx").metadata.layout == layout


def test_one_step_is_a_format_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="onnx-step"):
        export(residual_network(), tmp_path / "net.onnx", "onnx", OnnxOptions(layout="step"))
    export(residual_network(), tmp_path / "net.onnx", "onnx-step", EVERYTHING)
    assert read(tmp_path / "net.onnx").metadata.layout == "step"


def test_metadata() -> None:
    graph = replace(residual_network(time_steps=6), readout_start=2)
    found = metadata(build(graph, OnnxOptions(layout="folded")))
    assert found["graph_hash"] == graph.hash()
    assert found["time_steps"] == "6"
    assert found["readout_start"] == "2"
    wanted = {
        "producer": "icsnn-deploy",
        "encoding": "direct",
        "reset": "subtract",
        "layout": "folded",
        "certificate": "none",
        "input_unit": "1.0",
        "logit_unit": "1.0",
    }
    assert wanted.items() <= found.items()


def test_an_integer_network_says_what_its_integers_are_worth_and_that_it_is_exact(
    tmp_path: Path,
) -> None:
    network = residual_network(time_steps=6)
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    graph = round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph
    graph = replace(graph, output_unit=0.25)
    write(graph, tmp_path / "net.onnx")
    found = read(tmp_path / "net.onnx").metadata
    assert found.input_unit == graph.input.unit != 1
    assert found.logit_unit == 0.25
    assert json.loads(found.certificate) == certify(graph).summary()
    assert json.loads(found.certificate)["float32"]
    write(replace(graph, output_unit=None), tmp_path / "net.onnx")
    assert read(tmp_path / "net.onnx").metadata.logit_unit is None


@pytest.mark.slow
def test_same_graph_same_bytes(tmp_path: Path) -> None:
    """Also in another process, with another hash seed."""
    paths = [tmp_path / "one.onnx", tmp_path / "two.onnx", tmp_path / "three.onnx"]
    for path in paths[:2]:
        write(residual_network(), path, EVERYTHING)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]);"
        "from tests.support.graphs import residual_network;"
        "from icsnn_deploy.exporters.onnx.write import OnnxOptions, write;"
        "everything = OnnxOptions(logits_t=True, spike_counts=True, raw_spikes=True);"
        "write(residual_network(), sys.argv[1], everything)"
    )
    root = str(Path(__file__).parents[4])
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, paths[2], root], check=True, env=environment)
    first, second, third = (path.read_bytes() for path in paths)
    assert first == second == third
    assert first == build(residual_network(), EVERYTHING).SerializeToString(deterministic=True)


def test_written_file_is_valid_and_reads_back(tmp_path: Path) -> None:
    graph, path = residual_network(), tmp_path / "net.onnx"
    write(graph, path)
    onnx.checker.check_model(path, full_check=True)
    file = read(path)
    assert file.metadata.graph_hash == graph.hash()
    assert file.metadata.populations == dict.fromkeys(
        ("stem.if", "block.if1", "block.if2"), (4, 6, 6)
    )
    assert (file.input_shape, file.output_shape) == ((2, 6, 6), (10,))


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ExportError, match=r"net\.onnx: can't be written: No space left"):
        write(residual_network(time_steps=1), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        write(residual_network(time_steps=1), tmp_path / "missing" / "net.onnx")


def test_an_ann_is_refused() -> None:
    nodes = (
        Input(name="input", shape=(2,)),
        Relu(name="relu", inputs=("input",)),
        Output(name="output", inputs=("relu",)),
    )
    with pytest.raises(ExportError, match="ANN"):
        build(Graph(nodes=nodes))


def test_an_integer_that_float32_can_not_hold() -> None:
    weight = np.array([[2**24 + 1]], np.int32)
    head = Linear(name="head", inputs=("input",), weight=weight, bias=np.zeros(1, np.int32))
    nodes = (Input(name="input", shape=(1,)), head, Output(name="output", inputs=("head",)))
    with pytest.raises(ExportError, match=r"head\.weight: the integer 16777217"):
        build(Graph(nodes=nodes, time_steps=1))
    widest = replace(head, weight=np.array([[-(2**61)]]))  # a power of two, so exact
    build(Graph(nodes=(nodes[0], widest, nodes[2]), time_steps=1))


def test_a_model_over_2_gb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not the parameters but the steps fill it."""
    size = len(build(residual_network(), UNROLLED).SerializeToString())
    monkeypatch.setattr(exporter, "MAX_BYTES", size - 1)
    with pytest.raises(ExportError, match="2 GB"):
        build(residual_network(), replace(UNROLLED, inline_bytes=size - 1))


def test_an_unknown_layout() -> None:
    with pytest.raises(ExportError, match="allowed auto, unrolled, folded, scan, step"):
        build(residual_network(), OnnxOptions(layout=cast(Any, "flat")))
    with pytest.raises(ExportError, match="allowed onnxruntime, openvino"):
        build(residual_network(), OnnxOptions(runtime=cast(Any, "abacus")))
    with pytest.raises(ExportError, match="inline_bytes -1"):
        build(residual_network(), OnnxOptions(inline_bytes=-1))


def test_sums_over_time_of_one_step() -> None:
    for options in (OnnxOptions(logits_t=True), OnnxOptions(spike_counts=True)):
        with pytest.raises(ExportError, match="sum over time"):
            build(residual_network(), replace(options, layout="step"))


def test_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    """onnx's checker takes none."""
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    with pytest.raises(ExportError, match="whose path is not UTF-8; rename the folder"):
        write(residual_network(), folder / "network.onnx")
    assert not any(folder.iterdir())


def test_a_name_that_no_runtime_takes() -> None:
    nodes = (Input(name="a\0b", shape=(1,)), Output(name="output", inputs=("a\0b",)))
    with pytest.raises(ExportError, match="rename"):
        build(Graph(nodes=nodes, time_steps=1))


def test_padding_wider_than_the_pooling_window() -> None:
    pool = AvgPool(name="pool", inputs=("input",), kernel=(2,), stride=(2,), padding=((2, 0),))
    nodes = (Input(name="input", shape=(1, 6)), pool, Output(name="output", inputs=("pool",)))
    with pytest.raises(ExportError, match="pool: padding"):
        build(Graph(nodes=nodes, time_steps=1))


def test_tensor_names_never_meet_output_names() -> None:
    assert tensor_name("layer1.0.if1", "v", 7) == "layer1.0.if1/v@7"
    rng = np.random.default_rng(0)
    nodes: list[Node] = [Input(name="input", shape=(1, 3, 3))]
    last = "input"
    for name in ("s@1", "spikes", "spike_count", "u@1"):
        nodes += [
            conv(f"{name}.conv", last, rng, (1, 1)),
            spiking(name, f"{name}.conv", rng, (1, 3, 3)),
        ]
        last = name
    graph = Graph(nodes=(*nodes, Output(name="output", inputs=(last,))), time_steps=2)
    for layout in TIMED_LAYOUTS:
        model = build(graph, replace(EVERYTHING, layout=layout))
        onnx.checker.check_model(model, full_check=True)


@pytest.mark.slow
def test_importing_the_exporter_loads_no_onnx() -> None:
    code = (
        "import sys, icsnn_deploy.exporters.onnx.write, icsnn_deploy.backends.onnx.onnxruntime;"
        "sys.exit('onnx' in sys.modules or 'onnxruntime' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
