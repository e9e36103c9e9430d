"""Whole networks in SystemVerilog: every golden spike equal, and not equal when a word is changed.

It needs iverilog, verilator and yosys; `make test-rtl` runs it.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import for_tests
from icsnn_deploy.exporters.systemverilog.limits import MAX_BITS, check_network
from icsnn_deploy.exporters.systemverilog.write import write
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.graph.population import Population
from icsnn_deploy.parity.golden import expected_run
from tests.property.test_lattice import integer_graphs
from tests.support.graphs import residual_network, sequential_network
from tests.support.integer_graphs import (
    linear_network,
    on_lattice,
    on_spikes,
    wild_integer_graphs,
)

pytestmark = [pytest.mark.rtl, pytest.mark.slow]


def export(graph: Graph, path: Path, count: int = 2) -> Path:
    """The folder of a network, with random samples."""
    write(graph, path, VectorOptions(samples=count), samples=None, run=expected_run)
    return path


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run make in a folder; returns its exit code and what it printed."""
    command = ["make", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    return done.returncode, done.stdout + done.stderr


def assert_equal(graph: Graph, folder: Path, simulator: str = "iverilog", count: int = 2) -> None:
    """Every spike of every population is compared, and none differs."""
    code, printed = make(export(graph, folder, count), simulator)
    assert code == 0, printed
    sizes = [np.prod(graph.shape(node.name)) for node in graph.nodes_of(Population)]
    spikes = int(sum(sizes)) * for_tests(graph).steps * count
    sums = int(np.prod(graph.shape(graph.output.name))) * count
    assert f"all layers: {spikes} spikes compared, 0 differ" in printed
    assert f"readout: {sums} sums compared, 0 differ" in printed
    assert "\nEQUAL\n" in printed
    assert "arning" not in printed


@pytest.mark.parametrize("simulator", ["iverilog", "verilator"])
def test_no_spike_of_a_residual_network_differs(tmp_path: Path, simulator: str) -> None:
    assert_equal(on_lattice(residual_network(time_steps=4)), tmp_path / "n", simulator)


@pytest.mark.parametrize("simulator", ["iverilog", "verilator"])
def test_no_spike_differs_on_spikes_as_input(tmp_path: Path, simulator: str) -> None:
    graph = on_spikes(on_lattice(sequential_network(time_steps=4)))
    assert_equal(graph, tmp_path / "n", simulator)


@pytest.mark.parametrize("simulator", ["iverilog", "verilator"])
def test_the_first_steps_of_very_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: str
) -> None:
    monkeypatch.setattr("icsnn_deploy.exporters.expected._LEAST_STEPS", 5)
    monkeypatch.setattr("icsnn_deploy.exporters.expected._MOST_RESULTS", 0)
    graph = on_lattice(residual_network(time_steps=9))
    assert_equal(replace(graph, readout_start=2), tmp_path / "n", simulator)


def test_a_network_without_populations_may_take_many_steps(tmp_path: Path) -> None:
    """It was given up: only spikes counted as values that move."""
    assert_equal(linear_network(300), tmp_path / "n")


def test_patience_of_a_large_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 31 bits it was negative, and every network was given up."""
    bench = "icsnn_deploy.exporters.systemverilog.bench.patience"
    monkeypatch.setattr(bench, lambda design: 2**33 + 5)
    assert_equal(on_lattice(residual_network(time_steps=2)), tmp_path / "n")
    assert "PATIENCE = 64'd8589934597;" in (tmp_path / "n" / "network_tb.sv").read_text()


def _fits(graph: Graph) -> bool:
    """Whether the registers are wide enough; nothing else is refused."""
    try:
        check_network(graph)
    except ExportError as error:
        if f"{MAX_BITS} are allowed" in str(error):
            return False
        raise
    return True


@settings(max_examples=60, deadline=None)
@given(wild_integer_graphs())
def test_no_spike_of_any_integer_network_differs(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        if _fits(graph):
            assert_equal(graph, Path(folder) / "n")


@settings(max_examples=30, deadline=None)
@given(integer_graphs(), st.booleans())
def test_no_spike_of_a_quantized_network_differs(graph: Graph, timed: bool) -> None:
    with TemporaryDirectory() as folder:
        assert_equal(on_spikes(graph) if timed else graph, Path(folder) / "n")


@pytest.mark.parametrize("pattern", ["*.weight.hex", "*.bias.hex", "*.threshold.hex"])
def test_changed_parameters_are_found(tmp_path: Path, pattern: str) -> None:
    folder = export(on_lattice(residual_network(time_steps=4)), tmp_path / "n")
    file = sorted(folder.glob(pattern))[0]
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{int(line, 16) ^ 64:0{len(line)}x}\n" for line in lines))
    code, printed = make(folder, "iverilog")
    assert code != 0
    assert "NOT EQUAL" in printed
    assert re.search(r"\d+ spikes compared, [1-9]\d* differ", printed), printed


@pytest.mark.parametrize(("family", "cell"), [("xilinx", "RAMB18E1"), ("ice40", "SB_RAM40_4K")])
def test_yosys_puts_memories_into_block_ram(tmp_path: Path, family: str, cell: str) -> None:
    graph = on_lattice(residual_network(time_steps=4))
    code, printed = make(export(graph, tmp_path / "n", 1), "yosys", f"FAMILY={family}")
    assert code == 0, printed
    assert re.search(rf"{cell} +[1-9]", printed), printed


def test_hard_reset_runs(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network(time_steps=4))
    hard = [
        replace(node, v_reset=np.full_like(node.v_init, 3.5)) if isinstance(node, IF) else node
        for node in graph.nodes
    ]
    assert_equal(graph.with_nodes(hard), tmp_path / "n")
