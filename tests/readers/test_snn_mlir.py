"""snn-mlir's own check accepts exported chains (make test-snn-mlir).

It needs snn-mlir 1.0.0 in an environment of its own; ICSNN_SNN_MLIR names its command. It takes
linear chains with one threshold a layer, so what it refuses is tested too.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from icsnn_deploy.exporters import export
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples, sequential_network

pytestmark = pytest.mark.snn_mlir

LIMIT_S = 60


def checked(graph: Graph, path: Path, export_format: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `snn-mlir check` on the file that is written."""
    export(graph, path, export_format)
    command = [str(Path(os.environ["ICSNN_SNN_MLIR"]).absolute()), "check", str(path), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return found.returncode, json.loads(found.stdout)


def integer_chain() -> Graph:
    network = sequential_network()
    prepared = prepare(network, samples(network, 4), per_layer=True, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=True).graph


@pytest.mark.parametrize("export_format", ["nir-portable", "nir-relay"])
@pytest.mark.parametrize("graph", [sequential_network(), integer_chain()], ids=["float", "int8"])
def test_exported_chains_pass(tmp_path: Path, graph: Graph, export_format: str) -> None:
    code, report = checked(graph, tmp_path / "x.nir", export_format)
    assert (code, report["ok"]) == (0, True), report


def test_a_residual_network_passes_as_a_relay_file(tmp_path: Path) -> None:
    code, report = checked(residual_network(), tmp_path / "x.nir", "nir-relay")
    assert (code, report["ok"]) == (0, True), report


def test_thresholds_of_profile_spec_and_joins_do_not(tmp_path: Path) -> None:
    code, report = checked(sequential_network(), tmp_path / "x.nir", "nir")
    assert code != 0
    assert "v_threshold must be uniform" in json.dumps(report)
    code, report = checked(residual_network(), tmp_path / "x.nir", "nir-portable")
    assert code != 0
    assert "only linear-chain graphs" in json.dumps(report)
