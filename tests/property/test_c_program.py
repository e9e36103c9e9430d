"""The exported C program gives the spikes and logits of the reference on every integer network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.c_program import CSimulator
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding, Population
from tests.property.test_lattice import inputs_of, integer_graphs
from tests.support.integer_graphs import wild_integer_graphs


@pytest.fixture(autouse=True)
def unoptimized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile without optimization: a hundred programs are compiled and run once each."""
    monkeypatch.setattr("icsnn_deploy.native.build._FLAGS", ("-std=c99", "-O1", "-shared", "-fPIC"))
    monkeypatch.setenv("ICSNN_KERNEL_CACHE", "")


def run_c(graph: Graph, x: Array) -> tuple[Recording, Recording]:
    """Recordings of steps run one by one, with potentials, and of steps run together."""
    names = frozenset(node.name for node in graph.nodes_of(Population))
    with TemporaryDirectory() as folder:
        export(graph, Path(folder) / "c", "c")
        program = CSimulator(graph, Path(folder) / "c", threads=1)
        single = program.run(x, Record(counts=True, logits_t=True, potentials=names))
        return single, program.run(x, Record(counts=True, logits_t=True))


def assert_equal(graph: Graph, x: Array) -> None:
    bounds = certify(graph).bounds
    if max(max(bound.potential, bound.partial_sum) for bound in bounds) >= 2**31:
        with TemporaryDirectory() as folder, pytest.raises(ExportError, match="of 32 bits"):
            export(graph, Path(folder) / "c", "c")
        return
    names = frozenset(node.name for node in graph.nodes_of(Population))
    record = Record(counts=True, logits_t=True, potentials=names)
    expected = ReferenceSimulator(graph).run(x, record)
    for got in run_c(graph, x):
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(got.spikes[name], spikes)
            np.testing.assert_array_equal(got.counts[name], expected.counts[name])
        for name, potentials in got.potentials.items():
            np.testing.assert_array_equal(potentials, expected.potentials[name])
        np.testing.assert_array_equal(got.logits, expected.logits)
        np.testing.assert_array_equal(got.logits_t, expected.logits_t)


@pytest.fixture
def all_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every connection in blocks that can be."""
    monkeypatch.setattr("icsnn_deploy.exporters.c.connections.LANES", (2, 1))
    monkeypatch.setattr("icsnn_deploy.exporters.c.connections.MOST_CACHED", 0)


@settings(max_examples=40, deadline=None)
@given(integer_graphs())
def test_the_program_of_a_quantized_network_equals_the_reference(graph: Graph) -> None:
    assert_equal(graph, inputs_of(graph))


@settings(max_examples=60, deadline=None)
@given(integer_graphs(), st.sampled_from(["rate", "events"]), st.integers(0, 2**32 - 1))
def test_the_program_of_spike_input_equals_the_reference(
    graph: Graph, encoding: Encoding, seed: int
) -> None:
    timed = graph.replace(replace(graph.input, encoding=encoding, dtype="uint8"))
    rng = np.random.default_rng(seed)
    x = (rng.random((timed.steps, 3, *timed.input.shape)) < rng.random()).astype(np.uint8)
    assert_equal(timed, x)


@pytest.mark.usefixtures("all_in_blocks")
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(integer_graphs())
def test_a_program_in_blocks_of_channels_equals_the_reference(graph: Graph) -> None:
    assert_equal(graph, inputs_of(graph))


@settings(max_examples=60, deadline=None)
@given(wild_integer_graphs(), st.integers(0, 2**32 - 1))
def test_the_program_of_any_integer_graph_equals_the_reference(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    node = graph.input
    if node.is_timed:
        x = rng.integers(0, 2, (graph.steps, 3, *node.shape)).astype(np.uint8)
    else:
        limits = np.iinfo(node.dtype)
        x = rng.integers(limits.min, limits.max + 1, (3, *node.shape)).astype(node.dtype)
    assert_equal(graph, x)
