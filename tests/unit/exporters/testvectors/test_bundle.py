"""Test vectors in a bundle: every file is listed and checked; the command announces their size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BundleError
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.exporters.testvectors.write import FOLDER
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples
from tests.support.vector_files import VectorFolder


def network() -> Graph:
    graph = residual_network()
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


def bundle_of(path: Path) -> Bundle:
    graph = network()
    inputs = to_input_units(graph, samples(graph, 3))
    return create_bundle(path, network=graph, ann=None, samples=inputs, report={})


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    bundle = export_into(bundle_of(tmp_path / "b"), "testvectors")
    folder = bundle.export("testvectors")
    assert folder == tmp_path / "b" / FOLDER
    listed = {name for name in bundle.manifest.files if name.startswith(f"{FOLDER}/")}
    assert listed == {f"{FOLDER}/{file.name}" for file in folder.iterdir()}
    values = VectorFolder(folder).read("input.values.hex")
    np.testing.assert_array_equal(values, bundle.samples()[:2])


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    folder = export_into(bundle_of(tmp_path / "b"), "testvectors").export("testvectors")
    changed = folder / "stem.conv.weight.hex"
    content = changed.read_bytes()
    changed.write_bytes((b"0" if content[:1] != b"0" else b"1") + content[1:])
    with pytest.raises(BundleError, match=r"stem\.conv\.weight\.hex: sha256"):
        open_bundle(tmp_path / "b").export("testvectors")


def test_a_network_without_a_bundle_is_exported_on_random_inputs(tmp_path: Path) -> None:
    export(network(), tmp_path / "v", "testvectors", VectorOptions(samples=1))
    assert VectorFolder(tmp_path / "v").index["samples"] == 1


def test_the_command_tells_sizes_before_it_writes(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b")
    command = ["export", str(bundle.path), "--format", "testvectors", "--vector-samples", "9"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    announced, written = done.output.replace("\n", " ").split(FOLDER)[0], done.output
    files = list((bundle.path / FOLDER).glob("*.hex"))
    assert f"testvectors, samples 3, files {len(files)}, bytes: parameters " in announced
    stated = announced.split("bytes:")[1].split("testvectors:")[0]
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", stated)]
    assert sum(numbers) == sum(file.stat().st_size for file in files)
    assert "bytes)" in written


def test_the_command_passes_its_options(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b")
    command = ["export", str(bundle.path), "--format", "testvectors", "--spikes-only", "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)["exports"]["testvectors"]
    folder = Path(result["file"])
    assert result["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert not list(folder.glob("*.v.hex"))


def test_options_of_test_vectors_go_with_the_format(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b")
    done = CliRunner().invoke(app, ["export", str(bundle.path), "--format", "nir", "--spikes-only"])
    assert done.exit_code == 2
    assert "goes with --format testvectors" in done.output
