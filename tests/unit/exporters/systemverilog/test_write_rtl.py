"""The folder of SystemVerilog: what it refuses, its words, and its bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c.arrange import is_sum_pool
from icsnn_deploy.exporters.systemverilog import limits
from icsnn_deploy.exporters.systemverilog.plan import plan_design
from icsnn_deploy.exporters.systemverilog.write import write
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv
from icsnn_deploy.parity.golden import expected_run
from tests.support.graphs import residual_network, sequential_network
from tests.support.integer_graphs import on_lattice

NETWORK = on_lattice(residual_network(time_steps=2))


def export(graph: Graph, path: Path) -> dict[str, bytes]:
    write(graph, path, VectorOptions(samples=1), samples=None, run=expected_run)
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_float_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="integer networks only"):
        export(residual_network(time_steps=2), tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_every_misfit_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WORDS", 200)
    narrow = on_lattice(sequential_network(time_steps=2))
    wide = [
        replace(node, v_threshold=np.full(node.v_threshold.shape, 2**31 - 1, np.int32))
        if isinstance(node, IF)
        else node
        for node in narrow.nodes
    ]
    graph = narrow.with_nodes(wide)
    monkeypatch.setattr(limits, "MAX_BITS", 31)
    with pytest.raises(ExportError) as caught:
        plan_design(graph)
    lines = str(caught.value).splitlines()[1:]
    populations = [node.name for node in graph.nodes_of(IF)]
    registers = [line.split(":")[0].strip() for line in lines if "registers of" in line]
    assert set(populations) <= set(registers)
    assert any("words, 200 are allowed in one memory" in line for line in lines)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    assert export(NETWORK, tmp_path / "one") == export(NETWORK, tmp_path / "two")


def test_words_hold_the_parameters_in_as_few_bits_as_possible(tmp_path: Path) -> None:
    files = export(NETWORK, tmp_path / "n")
    for memory in plan_design(NETWORK).memories:
        words = [int(line, 16) for line in files[memory.file].split()]
        assert max(words) < 2**memory.bits
        signed = [word - 2**memory.bits * (word >> memory.bits - 1) for word in words]
        assert signed == memory.values.reshape(-1).tolist()
        low, high = min(signed), max(signed)
        half = 2 ** (memory.bits - 1)
        assert low < -half // 2 or high >= half // 2 or memory.bits == 1


def test_every_memory_that_is_named_is_written(tmp_path: Path) -> None:
    files = export(NETWORK, tmp_path / "n")
    text = (files["network.sv"] + files["network_tb.sv"]).decode()
    for name in files:
        if name.endswith(".hex"):
            assert f'"{name}"' in text


def test_pooling_is_a_connection_of_its_own() -> None:
    """The plan of the C program reads it as windows of a population."""
    pools = [
        node for node in NETWORK.nodes_of(Conv) if is_sum_pool(node, NETWORK.shape(node.inputs[0]))
    ]
    assert pools
    computed = {each.about for each in plan_design(NETWORK).instances}
    assert {node.name for node in pools} <= computed


def test_a_shortcut_has_room_for_the_maps_of_the_longer_branch() -> None:
    """Without it, a block would work on one step at a time."""
    design = plan_design(NETWORK)
    waiting = [each for each in design.instances if each.out.name.startswith("wait")]
    assert waiting
    assert all(each.parameters["STEPS"] == 1 for each in waiting)
