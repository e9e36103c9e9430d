"""The NIR file, read back from disk, against the reference simulator."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
from hypothesis import given, settings

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.exporters.nir.write.file import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from tests.support.graphs import dyadic, if_graphs, residual_network, samples


def check(graph: Graph, path: Path, inputs: Array) -> None:
    write(graph, path)
    assert nir.read(path, type_check=True)
    record = Record(logits_t=True)
    reference = ReferenceSimulator(graph).run(inputs, record)
    other = NirSimulator(path).run(inputs, record)
    assert other.backend == "nir"
    assert list(other.spikes) == list(reference.spikes)
    for name, spikes in reference.spikes.items():
        np.testing.assert_array_equal(other.spikes[name], spikes, err_msg=name)
    np.testing.assert_array_equal(other.logits, reference.logits)
    np.testing.assert_array_equal(other.logits_t, reference.logits_t)


def test_residual_network(tmp_path: Path) -> None:
    for time_steps in (1, 8):
        graph = residual_network(time_steps=time_steps)
        check(graph, tmp_path / "x.nir", samples(graph, 3))


def test_readout_window_and_spike_input(tmp_path: Path) -> None:
    graph = residual_network(time_steps=6)
    events = replace(graph.input, encoding="events", dtype="int8")
    graph = replace(graph.replace(events), readout_start=2)
    spikes = np.random.default_rng(3).integers(0, 2, (6, 2, *graph.input.shape)).astype(np.int8)
    check(graph, tmp_path / "x.nir", spikes)
    assert NirSimulator(tmp_path / "x.nir").graph.input.encoding == "events"


def test_potentials_are_recorded(tmp_path: Path) -> None:
    graph = residual_network()
    write(graph, tmp_path / "x.nir")
    x = np.asarray(dyadic(np.random.default_rng(0), 1, *graph.input.shape))
    recording = NirSimulator(tmp_path / "x.nir").run(
        x, Record(spikes=False, potentials=frozenset({"stem.if"}))
    )
    assert recording.potentials["stem.if"].shape == (8, 1, 4, 6, 6)
    assert not recording.spikes


@settings(max_examples=60, deadline=None)
@given(if_graphs(("subtract", "v_reset")))
def test_random_networks(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(graph, Path(folder) / "x.nir", samples(graph, 2))
