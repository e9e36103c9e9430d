"""Golden spikes as .npy and .hex files: both hold what the reference computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples


def network() -> Graph:
    graph = residual_network()
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


def words(path: Path, bits: int) -> list[int]:
    """The signed words of a .hex file."""
    found = [int(line, 16) for line in path.read_text().split()]
    return [value - (1 << bits) if value >= 1 << (bits - 1) else value for value in found]


def test_both_forms_hold_the_spikes_and_sums_of_the_reference(tmp_path: Path) -> None:
    graph = network()
    inputs = to_input_units(graph, samples(graph, 3))
    bundle = create_bundle(tmp_path / "b", network=graph, ann=None, samples=inputs, report={})
    folder = export_into(bundle, "golden").export("golden")
    expected = ReferenceSimulator(graph).run(inputs)
    sums = np.load(folder / "logit_sums.npy")
    np.testing.assert_allclose(sums / (graph.steps - graph.readout_start), expected.logits)
    assert words(folder / "logit_sums.hex", 64) == sums.reshape(-1).tolist()
    np.testing.assert_array_equal(np.load(folder / "input.npy"), inputs)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(np.load(folder / f"spikes.{name}.npy"), spikes)
        rows = [int(line, 16) for line in (folder / f"spikes.{name}.hex").read_text().split()]
        flat = spikes.reshape(*spikes.shape[:2], -1)
        packed = np.array(rows, np.uint8).reshape(*spikes.shape[:2], -1)
        np.testing.assert_array_equal(np.unpackbits(packed, axis=-1, count=flat.shape[2]), flat)


def test_the_page_names_every_file_and_the_units(tmp_path: Path) -> None:
    graph = network()
    export(graph, tmp_path / "g", "golden")
    page = (tmp_path / "g" / "README.md").read_text()
    stems = {file.stem for file in (tmp_path / "g").iterdir()} - {"README"}
    assert all(f"`{stem}`" in page for stem in stems)
    assert f"1 stands for {graph.input.unit:g}" in page
    assert graph.hash() in page


def test_a_float_network_has_no_golden_spikes(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="icsnn quantize"):
        export(residual_network(), tmp_path / "g", "golden")
    assert not (tmp_path / "g").exists()
