"""Parameters in a second file beside the model: written together, believed only as written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.onnx.openvino import OpenVinoSimulator
from icsnn_deploy.backends.onnx.reference import OnnxReferenceSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import BundleError, ExportError
from icsnn_deploy.exporters import export_into
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.external_data import ALIGNMENT, SMALLEST
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, build, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv, Flatten, Input, Linear, Node, Output
from icsnn_deploy.parity.verify import verify
from tests.support.building import node_of
from tests.support.graphs import conv, dyadic, residual_ann, samples, spiking, spiking_network
from tests.support.onnx_files import refused, stamped


def wide_network(seed: int = 0) -> Graph:
    """Two layers whose weights are worth a file of their own."""
    rng = np.random.default_rng(seed)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 4, 4)),
        conv("conv1", "input", rng, (2, 16)),
        spiking("if1", "conv1", rng, (16, 4, 4)),
        conv("conv2", "if1", rng, (16, 8)),
        spiking("if2", "conv2", rng, (8, 4, 4)),
        Flatten(name="flatten", inputs=("if2",)),
        Linear(name="head", inputs=("flatten",), weight=dyadic(rng, 5, 128), bias=dyadic(rng, 5)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=3)


GRAPH = wide_network()
OUTSIDE = OnnxOptions(inline_bytes=0)
NAMES = ["net.onnx", "net.onnx.data"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An exported network of two files."""
    write(GRAPH, tmp_path / NAMES[0], OUTSIDE)
    return tmp_path / NAMES[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_runs(tmp_path: Path, layout: Layout) -> None:
    path = tmp_path / NAMES[0]
    write(GRAPH, path, replace(OUTSIDE, layout=layout))
    assert sorted(os.listdir(tmp_path)) == NAMES
    inputs = samples(GRAPH, 3)
    wanted = ReferenceSimulator(GRAPH).run(inputs)
    for simulator in (OnnxRuntimeSimulator(path), OnnxReferenceSimulator(path)):
        got = simulator.run(inputs)
        for name, spikes in wanted.spikes.items():
            np.testing.assert_array_equal(got.spikes[name], spikes)
        np.testing.assert_allclose(got.logits, wanted.logits, rtol=1e-6, atol=1e-6)


def test_onnx_itself_reads_it(path: Path) -> None:
    onnx.checker.check_model(path, full_check=True)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    layers: list[Conv | Linear] = [*GRAPH.nodes_of(Conv), *GRAPH.nodes_of(Linear)]
    for node in layers:
        np.testing.assert_array_equal(held[f"{node.name}/weight"], node.weight)


def test_what_goes_out(path: Path) -> None:
    """The large parameters, each on a page of its own, and nothing twice."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    outside = {t.name for t in tensors if t.external_data}
    assert outside == {"conv1/weight", "conv2/weight", "head/weight"}
    assert all(4 * np.prod(t.dims) < SMALLEST for t in tensors if t.name not in outside)
    data = path.with_name(NAMES[1]).read_bytes()
    start = data.index(node_of(GRAPH, "conv2", Conv).weight.tobytes())
    assert start % ALIGNMENT == 0
    assert len(data) == 4 * ALIGNMENT  # pages of 1152, 4608 and 2560 bytes


def test_the_limit(tmp_path: Path) -> None:
    size = sum(4 * array.size for node in GRAPH.nodes for array in node.arrays().values())
    write(GRAPH, tmp_path / NAMES[0], OnnxOptions(inline_bytes=size))
    assert os.listdir(tmp_path) == NAMES[:1]
    with pytest.raises(ExportError, match="need a second file"):
        build(GRAPH, OnnxOptions(inline_bytes=size - 1))
    write(GRAPH, tmp_path / NAMES[0], OnnxOptions(inline_bytes=size - 1))
    assert sorted(os.listdir(tmp_path)) == NAMES


def test_same_graph_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(GRAPH, tmp_path / folder / NAMES[0], OUTSIDE)
    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_openvino_refuses_it(path: Path) -> None:
    with pytest.raises(ExportError, match="use onnxruntime"):
        OpenVinoSimulator(path)


@pytest.mark.parametrize("fails", [1, 2])
def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """The data goes first: a model that stayed behind says that they are not its own."""
    path = tmp_path / NAMES[0]
    write(wide_network(seed=7), path, OUTSIDE)
    calls = []

    def full(source: Path, target: Path) -> None:
        calls.append(target.name)
        if len(calls) == fails:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ExportError, match="No space left"):
        write(GRAPH, path, OUTSIDE)
    assert calls == list(reversed(NAMES))[:fails]
    assert sorted(os.listdir(tmp_path)) == NAMES
    if fails == 1:
        assert read(path).metadata.graph_hash == wide_network(seed=7).hash()
    else:
        assert "does not match its sha256" in refused(path)


# What is done to the data file


def flip(data: Path) -> None:
    content = bytearray(data.read_bytes())
    content[-1] ^= 1  # only padding, but not what was written
    data.write_bytes(content)


def shorten(data: Path) -> None:
    os.truncate(data, data.stat().st_size - 1)


def lengthen(data: Path) -> None:
    os.truncate(data, 2**40)  # a file with a hole, that no one could read


def link(data: Path) -> None:
    data.rename(data.with_name("elsewhere"))
    data.symlink_to(data.with_name("elsewhere"))


def pipe(data: Path) -> None:
    data.unlink()
    os.mkfifo(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (flip, "does not match its sha256"),
        (shorten, "bytes, not"),
        (lengthen, "bytes, not"),
        (link, "not a regular file"),
        (pipe, "not a regular file"),
        (Path.unlink, "can't be read: No such file"),
    ],
)
def test_a_data_file_that_is_not_as_written(
    path: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(path.with_name(NAMES[1]))
    assert message in refused(path)


def test_a_renamed_model(path: Path) -> None:
    path.rename(path.with_name("other.onnx"))
    assert "of other.onnx.data" in refused(path.with_name("other.onnx"))


# What a model says of where its parameters lie


def entry(key: str, value: str, number: int = 0) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = [t for t in model.graph.initializer if t.external_data][number]
        next(e for e in tensor.external_data if e.key == key).value = value

    return change


def more(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.external_data)
    tensor.external_data.add(key="checksum", value="0")


def both(model: onnx.ModelProto) -> None:
    tensor = next(t for t in model.graph.initializer if t.external_data)
    tensor.raw_data = b"0" * 4


def hidden(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.external_data).data_location = 0


def another_type(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.external_data).data_type = 2


def negative(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.external_data).dims[:2] = [-4, -4]


def not_declared(model: onnx.ModelProto) -> None:
    kept = [e for e in model.metadata_props if not e.key.startswith("data_")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def declared(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        next(e for e in model.metadata_props if e.key == key).value = value

    return change


ELSEWHERE = "lies in another place than bytes 0 to"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry("location", "/etc/passwd"), ELSEWHERE),
        (entry("location", "../net.onnx.data"), ELSEWHERE),
        (entry("location", "./net.onnx.data"), ELSEWHERE),
        (entry("location", "net.onnx"), ELSEWHERE),
        (entry("location", ""), ELSEWHERE),
        (entry("offset", "-4096"), ELSEWHERE),
        (entry("offset", "4096"), ELSEWHERE),
        (entry("offset", "9" * 30), ELSEWHERE),
        (entry("offset", "0", 1), "lies in another place than bytes 4096 to"),
        (entry("length", "4"), ELSEWHERE),
        (entry("length", "9" * 30), ELSEWHERE),
        (entry("length", "x"), ELSEWHERE),
        (more, ELSEWHERE),
        (both, ELSEWHERE),
        (hidden, "declares the shape|lies in another"),
        (another_type, "checker"),
        (negative, "lies in another place|checker"),
        (not_declared, "external data is refused"),
        (declared("data_bytes", "4096"), "of 4096 bytes"),
        (declared("data_bytes", "0"), "data_bytes"),
        (declared("data_bytes", str(2**39)), "data_bytes"),
        (declared("data_sha256", "0" * 64), "does not match its sha256"),
        (declared("data_sha256", "0"), "not a sha256"),
    ],
)
def test_other_places_are_refused(
    path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(stamped(model))
    found = refused(path)
    assert any(part in found for part in message.split("|"))


def test_data_that_nothing_lies_in(tmp_path: Path) -> None:
    path = tmp_path / NAMES[0]
    model = build(GRAPH)
    path.with_name(NAMES[1]).write_bytes(b"data")
    model.metadata_props.add(key="data_bytes", value="4")
    model.metadata_props.add(key="data_sha256", value=hashlib.sha256(b"data").hexdigest())
    path.write_bytes(stamped(model))
    assert "fill 0 of 4 bytes" in refused(path)


# In a bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    ann = residual_ann()
    network = spiking_network(ann)
    return create_bundle(
        tmp_path / "b", network=network, ann=ann, samples=samples(network, 2), report={}
    )


def test_a_bundle_knows_both_files(bundle: Bundle) -> None:
    written = export_into(bundle, "onnx", options=OUTSIDE)
    assert open_bundle(bundle.path) == written
    assert {"network.onnx", "network.onnx.data"} <= set(written.manifest.files)
    assert written.exports == {"onnx": "network.onnx"}
    assert verify(written, ["onnxruntime", "onnx-reference"]).verdict == "pass"
    again = export_into(written, "onnx")
    assert "network.onnx.data" not in again.manifest.files
    assert not (bundle.path / "network.onnx.data").exists()
    assert verify(again, ["onnxruntime"]).verdict == "pass"


def test_a_data_file_that_the_manifest_does_not_list(bundle: Bundle) -> None:
    written = export_into(bundle, "onnx")
    (bundle.path / "network.onnx.data").write_bytes(b"")
    with pytest.raises(BundleError, match=r"network\.onnx\.data: .* the manifest does not list it"):
        verify(written, ["onnxruntime"])


def test_a_data_file_that_was_changed(bundle: Bundle) -> None:
    written = export_into(bundle, "onnx", options=OUTSIDE)
    flip(bundle.path / "network.onnx.data")
    with pytest.raises(BundleError, match=r"network\.onnx\.data: sha256"):
        verify(written, ["onnxruntime"])


@pytest.mark.parametrize("fails", range(1, 6))
def test_a_bundle_is_never_half_changed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Two files over two files, broken off at each of the renames."""
    before = export_into(bundle, "onnx", options=OUTSIDE)
    held = {f.name: f.read_bytes() for f in bundle.path.iterdir()}
    calls = 0
    rename = os.replace

    def full(source: Path, target: Path) -> None:
        nonlocal calls
        calls += target.parent.parent != bundle.path  # not those of the exporter in its draft
        if calls == fails:
            calls += 1
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises((BundleError, ExportError), match="No space left"):
        export_into(before, "onnx", options=replace(OUTSIDE, layout="scan"))
    monkeypatch.undo()
    assert {f.name: f.read_bytes() for f in bundle.path.iterdir()} == held
    assert verify(open_bundle(bundle.path), ["onnxruntime"]).verdict == "pass"
