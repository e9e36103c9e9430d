"""The format spinnaker2: the rules of py-spinnaker2's importer, and the same spikes."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.portable.reader_limits import find_reader
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.spinnaker2.network import for_spinnaker2, relay_events
from icsnn_deploy.graph.nodes import IF
from tests.support.graphs import residual_network
from tests.support.integer_graphs import on_lattice
from tests.support.speck_graphs import KINDS, speck_network, spikes_for

SOFT = [kind for kind in KINDS if kind != "hard"]


@pytest.mark.parametrize("kind", SOFT)
def test_the_file_gives_the_spikes_of_the_network(kind: str, tmp_path: Path) -> None:
    graph = speck_network(kind, seed=4)
    x = spikes_for(graph, 6, seed=1)
    export(graph, tmp_path / "a.nir", "spinnaker2")
    expected = ReferenceSimulator(graph).run(x).spikes
    found = ReferenceSimulator(read_graph(tmp_path / "a.nir")).run(relay_events(x)).spikes
    assert list(found) == list(expected)
    for name, spikes in expected.items():
        assert spikes.any()
        own = found[name][:, :, :-1].reshape(spikes.shape)
        np.testing.assert_array_equal(own, spikes, name)
        assert found[name][0, :, -1].all()
        assert not found[name][1:, :, -1].any()


@pytest.mark.parametrize("kind", SOFT)
def test_the_file_keeps_the_rules_of_the_importer(kind: str, tmp_path: Path) -> None:
    graph = speck_network(kind, seed=4)
    export(graph, tmp_path / "a.nir", "spinnaker2")
    file = nir.read(tmp_path / "a.nir")
    types = {name: type(node) for name, node in file.nodes.items()}
    assert set(types.values()) <= {nir.Input, nir.Conv2d, nir.IF, nir.Output}
    for source, target in file.edges:
        pair = (types[source], types[target])
        allowed = ((nir.Input, nir.Conv2d), (nir.IF, nir.Conv2d), (nir.Conv2d, nir.IF))
        assert pair in (*allowed, (nir.IF, nir.Output)), pair
    for name, node in file.nodes.items():
        if types[name] is nir.Conv2d:
            assert np.array_equal(node.weight, node.weight.astype(np.int8))
            assert np.all(np.asarray(node.dilation) == 1)
            assert node.groups == 1
        if types[name] is nir.IF:
            before = [file.nodes[a] for a, b in file.edges if b == name]
            assert not any(each.bias.any() for each in before[:-1]), name
            assert np.all(node.r == 1)


def test_no_potential_equals_a_threshold(tmp_path: Path) -> None:
    graph = for_spinnaker2(speck_network("join", seed=4))
    x = relay_events(spikes_for(speck_network("join", seed=4), 6, seed=1))
    names = [node.name for node in graph.nodes_of(IF)]
    found = ReferenceSimulator(graph).run(x, Record(potentials=frozenset(names)))
    for node in graph.nodes_of(IF):
        u = np.floor(found.potentials[node.name])
        assert not (u == node.v_threshold).any(), node.name


def test_what_the_importer_can_not_run_is_refused() -> None:
    with pytest.raises(ExportError, match="icsnn split --host-first-layer"):
        for_spinnaker2(on_lattice(residual_network()))
    with pytest.raises(ExportError, match="a float network"):
        for_spinnaker2(residual_network())
    with pytest.raises(ExportError, match="soft reset"):
        for_spinnaker2(speck_network("hard", seed=1))
    graph = speck_network("conv", seed=1)
    node = graph.node("p0")
    assert isinstance(node, IF)
    high = IF(name="p0", inputs=node.inputs, v_threshold=node.v_threshold, v_init=node.v_init + 200)
    with pytest.raises(ExportError, match=r"p0: weights and initial potentials up to 2\d\d"):
        for_spinnaker2(graph.replace(high))


def test_the_option_for_readers_names_the_format() -> None:
    with pytest.raises(ExportError, match="export the format spinnaker2"):
        find_reader("spinnaker2")
