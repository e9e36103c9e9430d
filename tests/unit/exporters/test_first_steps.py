"""Files with tests of their own hold the first steps of a network of very many."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.exporters.contents import check_contents
from icsnn_deploy.exporters.expected import for_tests, inputs_for_tests
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from tests.support.c_programs import STRICT, build, compilers, run_golden_test
from tests.support.graphs import residual_network, samples, sequential_network
from tests.support.integer_graphs import linear_network, on_lattice, on_spikes

STEPS = 5
LONG = on_lattice(residual_network(time_steps=9))
LONG_SPIKES = on_spikes(on_lattice(sequential_network(time_steps=9)))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run five steps."""
    monkeypatch.setattr("icsnn_deploy.exporters.expected._LEAST_STEPS", STEPS)
    monkeypatch.setattr("icsnn_deploy.exporters.expected._MOST_RESULTS", 0)


def exported(graph: Graph, path: Path, form: str) -> Path:
    export(graph, path, form)
    return path


def expected_sums(graph: Graph, x: np.ndarray) -> np.ndarray:
    short = replace(graph, time_steps=STEPS)
    logits = ReferenceSimulator(short).run(x).logits
    sums: np.ndarray = np.rint(logits * (STEPS - graph.readout_start)).astype(int)
    return sums


def test_how_many_steps_tests_run() -> None:
    assert for_tests(replace(LONG, time_steps=256)).steps == 256
    assert for_tests(replace(LONG, time_steps=65_536)).steps == 32_768 // len(LONG.nodes)
    late = replace(LONG, time_steps=65_536, readout_start=20_000)
    assert for_tests(late).steps == 20_001


@pytest.mark.parametrize("graph", [LONG, LONG_SPIKES])
@pytest.mark.parametrize("cc", compilers())
def test_c(tmp_path: Path, few: None, graph: Graph, cc: str) -> None:
    folder = exported(replace(graph, readout_start=2), tmp_path / "c", "c")
    assert f"#define GOLDEN_STEPS {STEPS} " in (folder / "golden.h").read_text()
    assert "#define ICSNN_STEPS 9 " in (folder / "network.h").read_text()
    for flags in (["-O1"], ["-O1", "-DICSNN_TOGETHER=3"], ["-O1", "-DICSNN_HOST"]):
        build(folder, (*STRICT, *flags), cc)
        done = run_golden_test(folder)
        assert done.returncode == 0, done.stdout
        assert f" {STEPS} steps, " in done.stdout


def test_golden(tmp_path: Path, few: None) -> None:
    graph = replace(LONG, readout_start=2)
    inputs = to_input_units(graph, samples(graph, 3))
    bundle = create_bundle(tmp_path / "b", network=graph, ann=None, samples=inputs, report={})
    folder = export_into(bundle, "golden").export("golden")
    np.testing.assert_array_equal(np.load(folder / "logit_sums.npy"), expected_sums(graph, inputs))
    name = next(iter(ReferenceSimulator(graph).run(inputs).spikes))
    assert len(np.load(folder / f"spikes.{name}.npy")) == STEPS
    page = (folder / "README.md").read_text()
    assert "the first 5 of its 9 time steps (T below)" in page
    assert graph.hash() in page
    opened = open_bundle(tmp_path / "b")
    assert check_contents(opened, "golden").state == "identical"


@pytest.mark.parametrize("graph", [LONG, LONG_SPIKES])
def test_vectors(tmp_path: Path, few: None, graph: Graph) -> None:
    folder = exported(graph, tmp_path / "v", "testvectors")
    index = json.loads((folder / "network.json").read_text())
    assert (index["time_steps"], index["recorded_steps"]) == (9, STEPS)
    steps = [
        entry["shape"][entry["axes"].index("step")]
        for entry in index["files"].values()
        if "step" in entry["axes"]
    ]
    assert steps
    assert set(steps) == {STEPS}
    for file, entry in index["files"].items():
        assert len((folder / file).read_text().split()) == np.prod(entry["shape"])
    page = (folder / "README.md").read_text()
    assert "T = 9 time steps, 2 samples of the first 5 steps" in page
    assert "the `sum` over those steps." in page


def test_systemverilog(tmp_path: Path, few: None) -> None:
    folder = exported(LONG, tmp_path / "v", "systemverilog")
    assert "parameter int STEPS = 9\n" in (folder / "network.sv").read_text()
    assert "icsnn_network #(.STEPS(5)) dut (" in (folder / "network_tb.sv").read_text()
    page = (folder / "README.md").read_text()
    assert "2 samples of 5 steps" in page
    assert "the parameter `STEPS` of `icsnn_network` to 5." in page


def test_spikes_of_other_steps_than_the_network_runs_are_refused() -> None:
    short = replace(LONG_SPIKES, time_steps=4, readout_start=0)
    spikes = np.ones((9, 2, *short.input.shape), np.uint8)
    for steps in (3, 9):
        with pytest.raises(DataError, match=f"input of {steps} steps: the network runs 4"):
            inputs_for_tests(short, spikes[:steps], 2)
    assert inputs_for_tests(short, spikes[:4], 2).shape[:2] == (4, 2)


def test_c_without_populations(tmp_path: Path) -> None:
    folder = exported(linear_network(), tmp_path / "c", "c")
    build(folder, (*STRICT, "-O1"), "cc")
    assert run_golden_test(folder).returncode == 0
