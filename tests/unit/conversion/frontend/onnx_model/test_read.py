"""Reading an ONNX file: its checks, constants in other files, names, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from icsnn_deploy.backends.onnx.any_model import open_any_model
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.conversion.frontend.onnx_model.names import node_path
from icsnn_deploy.conversion.frontend.onnx_model.operators import OPERATORS
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import (
    ConversionError,
    DataError,
    ExportError,
    IcsnnError,
    UnsupportedOperatorError,
)
from icsnn_deploy.exporters import export
from tests.support.graphs import residual_network
from tests.support.onnx_models import CONV, MODELS, between, flat, model, values

PAGE = Path(__file__).parents[5] / "docs" / "guide" / "onnx_models.md"


def saved(made: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(made, path)
    return path


@pytest.mark.parametrize(
    ("name", "output", "kind", "path"),
    [
        ("/layer1/layer1.0/conv1/Conv", "y", "Conv", "layer1.0.conv1"),
        ("model/conv2d/Conv2D", "y", "Conv", "model.conv2d"),
        ("", "x:0", "Relu", "x_0"),
        ("/forward/Relu", "y", "Relu", "forward_"),
        ("  ", "é", "Relu", "Relu"),
        ("Relu", "y", "Relu", "Relu"),
    ],
)
def test_nodes_get_the_paths_of_modules(name: str, output: str, kind: str, path: str) -> None:
    assert node_path(name, output, kind, {}) == path
    assert node_path(name, output, kind, {path}) == f"{path}_2"


def test_every_operator_is_in_the_guide() -> None:
    text = PAGE.read_text()
    assert [kind for kind in OPERATORS if kind not in text] == []


def test_a_node_whose_path_begins_that_of_others_keeps_them(tmp_path: Path) -> None:
    made = between("r = Relu(c)")
    for node, name in zip(made.graph.node, ["body/conv/x", "body", "body/head"], strict=True):
        node.name = name
    graph = trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10))
    assert [node.name for node in graph.nodes[1:-1]] == ["body.conv.x", "body", "body.head"]


def test_all_operators_that_are_not_read_are_listed_at_once(tmp_path: Path) -> None:
    body = """c = Conv(x, w, b) q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z)
    m, i = TopK(d, k) n = com.microsoft.FusedConv(m) y = NoSuch(n)"""
    made = model(body, CONV, s=np.float32(0.1), z=np.int8(0), k=np.array([2], np.int64))
    with pytest.raises(UnsupportedOperatorError) as caught:
        read_onnx(saved(made, tmp_path))
    got = [one.got for one in caught.value.rejections]
    quantized = ["QuantizeLinear of activations", "DequantizeLinear of activations"]
    assert got == [*quantized, "TopK", "com.microsoft.FusedConv", "NoSuch"]


@pytest.mark.parametrize(
    ("nodes", "got"),
    [
        ("p, i = MaxPool<kernel_shape=[1,1]>(c) j = Cast<to=1>(i) r = Add(p, j)", "MaxPool"),
        ("d, m = Dropout(c) n = Cast<to=1>(m) r = Mul(d, n)", "Dropout"),
    ],
)
def test_results_beyond_the_first_are_refused_where_they_are_read(
    nodes: str, got: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        read_onnx(saved(between(nodes), tmp_path))
    assert [one.got for one in caught.value.rejections] == [f"a further result of {got}"]


def test_results_beyond_the_first_that_nothing_reads_do_no_harm(tmp_path: Path) -> None:
    made = between("d, m = Dropout(c) r, i = MaxPool<kernel_shape=[1,1]>(d)")
    assert trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10)).nodes


def test_modes_of_training_and_scales_of_positions_are_refused_by_name(tmp_path: Path) -> None:
    made = between("r = Dropout(c, share, yes)", share=np.float32(0.5), yes=np.bool_(True))
    with pytest.raises(UnsupportedOperatorError, match="Dropout in training mode"):
        read_onnx(saved(made, tmp_path))
    made = between("r = Dropout(c, share, no)", share=np.float32(0.5), no=np.bool_(False))
    assert trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10)).nodes
    body = "r = BatchNormalization<spatial=0>(c, s, s, s, s)"
    made = between(body, s=values(4, 8, 10), opset=8)
    with pytest.raises(UnsupportedOperatorError, match="BatchNormalization with spatial 0"):
        read_onnx(saved(made, tmp_path))


def test_the_last_of_equal_values_is_refused_which_samples_without_equal_ones_do_not_show(
    tmp_path: Path,
) -> None:
    made = flat(
        "m = Gemm(x, w) y = ArgMax<axis=1, keepdims=0, select_last_index=1>(m)",
        w=values(6, 4),
        outputs="int64[N] y",
    )
    with pytest.raises(ConversionError, match="ArgMax with select_last_index 1"):
        trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 6))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("r = Cast<to=8>(c)", "r: Cast to the type 8: real numbers"),
        ("r = MaxPool(c)", r"r: MaxPool with windows of shape \[\]"),
    ],
)
def test_what_an_operator_can_not_compute_names_the_file_and_the_node(
    nodes: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=rf"model\.onnx: {message}"):
        trace(read_onnx(saved(between(nodes), tmp_path)), torch.randn(2, 3, 8, 10))


def test_a_bias_per_row_is_no_bias_per_column(tmp_path: Path) -> None:
    made = model("y = Gemm(x, w, b)", inputs="float[4,6] x", w=values(6, 4), b=values(4, 1, seed=5))
    x = torch.randn(4, 6)
    found = read_onnx(saved(made, tmp_path))(x)
    expected = x @ torch.from_numpy(values(6, 4)) + torch.from_numpy(values(4, 1, seed=5))
    assert torch.allclose(found, expected, atol=1e-6)


def test_branches_that_lead_to_no_output_are_left_out(tmp_path: Path) -> None:
    made = between("t = NonZero(c) r = Relu(c)")
    assert trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10)).nodes


def test_smooth_operators_are_rejected_under_the_names_of_the_file(tmp_path: Path) -> None:
    made = between("s = Sigmoid(c) r = Mul(c, s)")
    made.graph.node[1].name = "/gate/Sigmoid"
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10))
    assert [one.node for one in caught.value.rejections] == ["gate", "r"]


def test_constants_in_another_file_are_read(tmp_path: Path) -> None:
    made = MODELS["batch norm"]()
    inside = trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 3, 8, 10))
    (tmp_path / "data").mkdir()
    onnx.save(
        made,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    assert (
        trace(read_onnx(tmp_path / "model.onnx"), torch.randn(2, 3, 8, 10)).hash() == inside.hash()
    )


def moved(location: str) -> Callable[[Path], None]:
    """Let the constants of a model lie somewhere else."""

    def change(folder: Path) -> None:
        made = onnx.load(folder / "model.onnx", load_external_data=False)
        for one in made.graph.initializer:
            for entry in one.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "model.onnx").write_bytes(made.SerializeToString())

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (moved("../w.bin"), "a file beside the model is needed"),
        (moved("/etc/passwd"), "a file beside the model is needed"),
        (moved("link.bin"), "leads out of the model's folder"),
        (moved("folder"), "not a regular file|can't be read"),
        (moved("pipe"), "not a regular file"),
        (moved("nothing.bin"), "can't be read"),
        (lambda folder: (folder / "w.bin").write_bytes(b"short"), "ends before byte"),
    ],
)
def test_constants_lie_in_regular_files_beside_the_model(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(bytes(10_000))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    os.mkfifo(folder / "pipe")
    onnx.save(
        between("r = Relu(c)"),
        folder / "model.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    change(folder)
    with pytest.raises(DataError, match=message) as caught:
        read_onnx(folder / "model.onnx")
    assert "constant 'w'" in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: between("r = Relu(c)", opset=6), "one from 7 to 25"),
        (lambda: between("r = Relu(d)"), "'d' is not made before it"),
        (lambda: between("c = Relu(c) r = Relu(c)"), "'c' is made twice"),
        (lambda: between("r = Conv(c)"), "has 1 inputs"),
        (lambda: between('r = Conv(c, "", b)'), "Conv r without the input W"),
        (lambda: between('r = Relu("")'), "Relu r without the input X"),
        (lambda: between('r = Concat<axis=1>(c, "")'), "Concat r without the input inputs"),
        (lambda: between("r = Add(c)"), "Add r without the input B"),
        (
            lambda: between("r = Clip(c, l)", l=values(4, 1, 1)),
            r"r: Clip with a lower bound of shape \[4, 1, 1\]: one number",
        ),
        (
            lambda: between("r = MaxPool<kernel_shape=[2,2], pads=[0,2,0,0]>(c)"),
            r"r: MaxPool with windows of \[2, 2\] and padding .* windows of padding alone",
        ),
        (
            lambda: between("r = MaxPool<kernel_shape=[2,2], pads=[2,2,2,2]>(c)"),
            r"r: MaxPool with windows of \[2, 2\] and padding .* windows of padding alone",
        ),
        (
            lambda: between("r = MaxPool<kernel_shape=[3,3], pads=[2,2,2,2], dilations=[2,2]>(c)"),
            "of half the window at most, is needed",
        ),
        (lambda: between("r = MaxPool<kernel_shape=[2,2], pads=[1]>(c)"), "4 numbers are needed"),
        (lambda: model("y = Relu(x)", inputs="uint8[N,3,4,4] x"), "no tensor of real numbers"),
        (
            lambda: model("y = Relu(x)", inputs=f"float[{2**40},3,4,4] x"),
            "at most 1024 samples",
        ),
        (
            lambda: between("r = AveragePool<kernel_shape=[2,2], pads=[0,0,4,1]>(c)"),
            "windows of padding alone",
        ),
        (lambda: model("y = Conv<pads=[9999999,0,0,0]>(x, w)", CONV), "at most 65536 is allowed"),
        (
            lambda: between("e = Expand(c, s) r = Relu(e)", s=np.array([2**20] * 4, np.int64)),
            "operands could not be broadcast|shape mismatch|values are allowed",
        ),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    made: Callable[[], onnx.ModelProto], message: str, tmp_path: Path
) -> None:
    with pytest.raises(IcsnnError, match=message) as caught:
        trace(read_onnx(saved(made(), tmp_path)), torch.randn(2, 3, 8, 10))
    assert "\n" not in str(caught.value)


def test_samples_of_another_shape_are_refused_with_the_shape_of_the_file(tmp_path: Path) -> None:
    read = read_onnx(saved(between("r = Relu(c)"), tmp_path))
    with pytest.raises(ConversionError, match=r"\(2, 8, 10, 3\).*'x'.*takes \[N, 3, 8, 10\]"):
        trace(read, torch.randn(2, 8, 10, 3))


def test_a_model_that_a_runtime_refuses_to_run_is_not_to_be_given_in_smaller_batches(
    tmp_path: Path,
) -> None:
    """A conversion has no batch size to choose."""
    made = between("p = Pad(c, pads) r = Relu(p)", pads=np.array([0, 0, 0, 0, 0, 0, -9, 0]))
    data = made.SerializeToString()
    name, session = open_any_model(tmp_path / "model.onnx", data)
    assert name == "ONNX Runtime"
    with pytest.raises(ExportError, match=r"onnx\.checker\.check_model") as caught:
        session.run(["y"], {"x": values(2, 3, 8, 11)})
    assert "batch_size" not in str(caught.value)


def test_an_exported_spiking_network_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(residual_network(), path, "onnx")
    with pytest.raises(ConversionError, match="a spiking network that icsnn export wrote"):
        load_model(str(path))


def test_a_file_that_a_runtime_computes_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATORS, "Relu", lambda node, x: torch.nn.functional.leaky_relu(x, 0.01))
    made = flat("m = Gemm(x, w) y = Relu(m)", w=values(6, 4))
    with pytest.raises(ConversionError, match="differs from that of ONNX Runtime"):
        trace(read_onnx(saved(made, tmp_path)), torch.randn(2, 6))


def test_an_output_without_an_axis_of_samples_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """A reduction without axes is over all of them: one number of the whole batch."""
    made = flat("m = Gemm(x, w) y = ReduceMax<keepdims=0>(m)", w=values(6, 4))
    with pytest.raises(ConversionError, match="Keep the batch axis"):
        trace(read_onnx(saved(made, tmp_path)), torch.randn(4, 6))


def test_the_reference_outputs_of_a_file_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision: on the samples, and on a random one alone."""
    batches = []

    def relu(node: Any, x: Any) -> Any:
        if x.dtype == torch.float64:
            batches.append(len(x))
        return torch.relu(x)

    monkeypatch.setitem(OPERATORS, "Relu", relu)
    made = flat("m = Gemm(x, w) y = Relu(m)", w=values(6, 4))
    trace(read_onnx(saved(made, tmp_path)), torch.randn(8, 6))
    assert batches == [8, 1]


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", bytes(1000)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not an ONNX file"):
        load_model(str(path))
    with pytest.raises(ConversionError, match="no such file"):
        load_model(str(tmp_path / "absent.onnx"))
    with pytest.raises(ConversionError, match="drop --weights"):
        load_model(str(path), path)
