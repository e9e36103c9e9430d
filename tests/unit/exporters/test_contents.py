"""An export that was changed in one number is found by its content, and the number is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.errors import BundleError, ExportError
from icsnn_deploy.exporters import FORMATS, ExportOptions, export, export_into
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.contents import check_contents
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import IF, Conv, Relu
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import residual_network, samples, sequential_network
from tests.support.integer_graphs import on_lattice
from tests.support.speck_graphs import speck_network, spikes_for

FLOAT = residual_network(time_steps=2)
INTEGER = on_lattice(FLOAT)
CHAIN = on_lattice(sequential_network(time_steps=2))
SPIKES = speck_network("conv", seed=1)
NETWORK_OF = {
    "nir": FLOAT,
    "nir-portable": FLOAT,
    "nir-relay": FLOAT,
    "onnx": FLOAT,
    "onnx-step": FLOAT,
    "c": INTEGER,
    "systemverilog": INTEGER,
    "testvectors": INTEGER,
    "golden": INTEGER,
    "netx": CHAIN,
    "speck": SPIKES,
    "spinnaker2": SPIKES,
}


def bundle_with(
    path: Path, name: str, network: Graph | None = None, *options: ExportOptions
) -> Bundle:
    """A bundle of a network with one export."""
    network = NETWORK_OF[name] if network is None else network
    given = spikes_for(network, 2, seed=1)
    if not network.input.is_timed:
        given = to_input_units(network, samples(network, 2))
    made = create_bundle(path, network=network, ann=None, samples=given, report={})
    return export_into(made, name, options=options, lossy=True)


def fit_manifest(bundle: Bundle) -> Bundle:
    """The bundle with a manifest that fits its files."""
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    for file in manifest["files"]:
        data = (bundle.path / file).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][file] = {"sha256": digest, "size": len(data)}
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(bundle.path)


def other(graph: Graph) -> Graph:
    """The network with the next bias in one channel of one convolution."""
    node = graph.nodes_of(Conv)[0]
    bias = node.bias.copy()
    bias[1] = np.nextafter(bias[1], np.float32(9)) if bias.dtype.kind == "f" else bias[1] + 1
    return graph.replace(replace(node, bias=bias))


@pytest.mark.parametrize("name", NETWORK_OF)
def test_every_format_is_compared(tmp_path: Path, name: str) -> None:
    assert set(NETWORK_OF) == set(FORMATS)
    found = check_contents(bundle_with(tmp_path / "b", name), name)
    assert found.state == "identical"
    assert str(found) == "as icsnn-deploy writes it, byte for byte"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("onnx", OnnxOptions(layout="scan", logits_t=True)),
        ("onnx", OnnxOptions(layout="folded", spike_counts=True)),
        ("onnx", OnnxOptions(layout="unrolled", raw_spikes=True)),
        ("onnx", OnnxOptions(inline_bytes=0)),
        ("onnx-step", OnnxOptions(raw_spikes=True)),
        ("c", COptions(golden=1)),
        ("c", COptions(prefix="second")),
        ("systemverilog", VectorOptions(samples=1)),
        ("testvectors", VectorOptions(samples=1)),
        ("testvectors", VectorOptions(spikes_only=True)),
    ],
)
def test_the_file_tells_the_options_that_it_was_written_with(
    tmp_path: Path, name: str, options: ExportOptions
) -> None:
    bundle = bundle_with(tmp_path / "b", name, None, options)
    assert check_contents(bundle, name).state == "identical"


WHERE = {
    "nir": r"node/nodes/\S+/bias\[1\]: \S+, expected \S+\. Export it again",
    "nir-portable": r"node/\S+: .*, expected ",
    "nir-relay": r"node/\S+: .*, expected ",
    "onnx": r"parameter 'stem\.conv/bias': .* at \[1\], expected ",
    "onnx-step": r"parameter 'stem\.conv/bias': .* at \[1\], expected ",
    "c": r"(golden|weights|network)\.[ch], line \d+: '.*', expected '",
    "systemverilog": r"network_?\w*\.\w+|\.hex, line \d+: '.*', expected '",
    "testvectors": r"\.hex, line \d+: '.*', expected '",
    "golden": r"\S+, line \d+: '.*', expected '",
    "speck": r"\S+, line \d+: '.*', expected '",
    "spinnaker2": r"node/nodes/\S+/bias\[1\]: \S+, expected \S+\. Export it again",
    "netx": r"layer/1/bias\[1\]: -?\d+, expected -?\d+\. ",
}


@pytest.mark.parametrize("name", NETWORK_OF)
def test_the_smallest_change_of_a_bias_is_named(tmp_path: Path, name: str) -> None:
    bundle = bundle_with(tmp_path / "b", name)
    changed = bundle_with(tmp_path / "changed", name, other(NETWORK_OF[name]))
    for file in changed.files_of(name):
        (bundle.path / file).write_bytes((changed.path / file).read_bytes())
    with pytest.raises(ExportError, match=WHERE[name]) as caught:
        check_contents(fit_manifest(bundle), name)
    assert str(caught.value).startswith(
        f"{bundle.path / FORMATS[name].file}: not what icsnn-deploy"
    )
    assert "\n" not in str(caught.value)


def test_a_change_that_no_sample_reaches_fails_the_verification(tmp_path: Path) -> None:
    """The weight of a neuron that never fires, and of an export that no backend runs."""
    bundle = bundle_with(tmp_path / "b", "netx")
    with h5py.File(bundle.export("netx"), "r+") as file:
        file["layer/1/weight"][0, 0, 0, 0] += 1
    changed = fit_manifest(bundle)
    assert verify(changed, ["reference"]).exports == {}
    with pytest.raises(ExportError, match=r"layer/1/weight\[0, 0, 0, 0\]"):
        verify(changed, ["reference"], exports=["netx"])


def rewritten(path: Path) -> None:
    """The same content, which HDF5 lays out in another way."""
    with h5py.File(path) as source:
        content: dict[str, object] = {}
        source.visititems(
            lambda name, item: (
                content.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    with h5py.File(path, "w") as target:
        target.create_group("layer")
        for name in reversed(content):
            target[name] = content[name]


def test_other_bytes_of_the_same_content_are_equal(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "b", "netx")
    before = bundle.export("netx").read_bytes()
    rewritten(bundle.export("netx"))
    assert bundle.path.joinpath("network.net").read_bytes() != before
    found = check_contents(fit_manifest(bundle), "netx")
    assert (found.state, str(found)) == ("equal", "as icsnn-deploy writes it, number for number")


@pytest.mark.parametrize("name", ["nir", "onnx", "c", "netx", "testvectors"])
def test_an_export_by_another_version_is_told(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_with(tmp_path / "b", name)
    monkeypatch.setattr("icsnn_deploy.exporters.contents.__version__", "99.0")
    found = check_contents(bundle, name)
    assert found.state == "other version"
    assert "compared by its behavior alone" in str(found)
    if name in ("nir", "onnx"):
        backend = {"nir": "nir", "onnx": "onnxruntime"}[name]
        report = verify(bundle, [backend])
        assert report.verdict == "pass"
        assert report.to_json()["exports"][name]["state"] == "other version"


def test_a_file_beside_the_model_that_is_missing_or_unexpected(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path / "b", "onnx")
    export(FLOAT, tmp_path / "network.onnx", "onnx", OnnxOptions(inline_bytes=0))
    (bundle.path / "network.onnx").write_bytes((tmp_path / "network.onnx").read_bytes())
    with pytest.raises(ExportError, match=r"network\.onnx\.data, can't be read"):
        check_contents(fit_manifest(bundle), "onnx")


@pytest.mark.parametrize(
    "file", ["ann.safetensors", "samples.safetensors", "report.json", "graph.safetensors"]
)
def test_a_changed_byte_of_any_file_fails_the_verification(tmp_path: Path, file: str) -> None:
    """Whatever the backend reads."""
    nodes = [Relu(name=n.name, inputs=n.inputs) if isinstance(n, IF) else n for n in FLOAT.nodes]
    given = samples(FLOAT, 2)
    made = create_bundle(
        tmp_path / "b", network=FLOAT, ann=Graph(nodes=tuple(nodes)), samples=given, report={"a": 1}
    )
    assert verify(made, ["reference"], given).verdict == "pass"
    data = bytearray((made.path / file).read_bytes())
    data[-3] ^= 1
    (made.path / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file}: sha256"):
        verify(open_bundle(made.path), ["reference"], given)


HARMS: dict[str, Callable[[Path], object]] = {
    "no version": lambda path: _without_version(path),
    "no description": lambda path: _without(path, "icsnn_deploy"),
    "no layer": lambda path: _without(path, "layer/1/bias"),
    "no file of its kind": lambda path: path.write_bytes(b"text"),
}


def _without(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]


def _without_version(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["icsnn_deploy"]
        file["icsnn_deploy"] = np.bytes_(b'{"version": 1}')


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("no version", "does not tell which version wrote it"),
        ("no description", "no icsnn_deploy entry"),
        ("no layer", "layer/1/bias is missing"),
        ("no file of its kind", "not a readable HDF5 file"),
    ],
)
def test_files_that_are_damaged(tmp_path: Path, harm: str, message: str) -> None:
    bundle = bundle_with(tmp_path / "b", "netx")
    HARMS[harm](bundle.export("netx"))
    with pytest.raises(ExportError, match=message):
        check_contents(fit_manifest(bundle), "netx")
