"""What a reader's helper refuses before the reader gets the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.readers.nir_file import read_file
from tests.support.graphs import residual_network, sequential_network, with_hard_reset


@pytest.fixture
def portable(tmp_path: Path) -> Path:
    export(residual_network(), tmp_path / "n.nir", "nir-portable")
    return tmp_path / "n.nir"


def rewritten(path: Path, change: Any) -> Path:
    network = nir.read(path)
    change(network)
    nir.write(path, network)
    return path


def with_header(network: Any, **entries: Any) -> None:
    said = {**json.loads(network.metadata[KEY]), **entries}
    network.metadata = {KEY: json.dumps(said)}


def test_a_portable_file_is_held_by_every_reader(portable: Path) -> None:
    graph = residual_network()
    for reader in ("snntorch", "spikingjelly", "norse", "sinabs", "nirtorch"):
        file = read_file(portable, reader)
        assert [p.name for p in file.populations] == ["stem.if", "block.if1", "block.if2"]
        assert file.input.shape == graph.input.shape
        assert file.input.encoding == "direct"
        assert not file.is_relay
        assert file.order[0] == "input"
        assert file.order[-1] == "output"
        for source, target in file.network.edges:
            assert file.order.index(source) < file.order.index(target)


def test_a_relay_file_has_the_networks_own_input(tmp_path: Path) -> None:
    graph = sequential_network()
    export(graph, tmp_path / "n.nir", "nir-relay")
    file = read_file(tmp_path / "n.nir", "norse")
    assert file.is_relay
    assert file.input.shape == graph.input.shape
    for population in file.populations:
        assert population.channels == graph.shape(population.name)[0]
        assert population.v_threshold.shape[0] > population.channels
        assert not population.v_init.any()


def test_what_a_reader_would_drop_is_refused(tmp_path: Path) -> None:
    export(residual_network(), tmp_path / "spec.nir", "nir")
    with pytest.raises(ExportError, match=r"norse can't run it(.|\n)*pool: AvgPool2d(.|\n)*portab"):
        read_file(tmp_path / "spec.nir", "norse")


def test_several_thresholds_are_refused_where_one_is_held(portable: Path) -> None:
    def change(network: Any) -> None:
        network.nodes["stem_if"].v_threshold[0] *= 2

    rewritten(portable, change)
    assert read_file(portable, "norse")
    with pytest.raises(ExportError, match=r"stem_if: several thresholds"):
        read_file(portable, "snntorch")


def test_files_by_others_are_refused(portable: Path) -> None:
    def change(network: Any) -> None:
        network.metadata = {}

    with pytest.raises(ExportError, match="was not written by icsnn-deploy"):
        read_file(rewritten(portable, change), "nirtorch")


def test_a_hard_reset_is_refused(tmp_path: Path) -> None:
    graph = with_hard_reset(sequential_network())
    export(graph, tmp_path / "n.nir", "nir")
    with pytest.raises(ExportError):
        read_file(tmp_path / "n.nir", "nirtorch")


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (lambda edges: [*edges, ("block_conv2", "stem_if")], "cycle"),
        (lambda edges: [*edges, ("nothing", "stem_if")], "nothing"),
        (lambda edges: [e for e in edges if e[1] != "stem_if"], "an edge to every node"),
    ],
)
def test_edges_that_can_not_be(portable: Path, edges: Any, message: str) -> None:
    import h5py

    with h5py.File(portable, "r+") as file:
        kept = [(a.decode(), b.decode()) for a, b in file["node/edges"][()]]
        del file["node/edges"]
        text = h5py.string_dtype("utf-8")
        file["node"].create_dataset("edges", data=np.array(edges(kept), object), dtype=text)
    with pytest.raises(ExportError, match=f"{portable}: .*{message}"):
        read_file(portable, "nirtorch")


@pytest.mark.parametrize("value", [0, -1, 99, 1.0, True, "4"])
def test_channels_that_can_not_be(portable: Path, value: Any) -> None:
    def change(network: Any) -> None:
        notes = json.loads(network.metadata[KEY])["nodes"]
        notes["stem_if"]["channels"] = value
        with_header(network, nodes=notes)

    with pytest.raises(ExportError, match="an integer from 1 to"):
        read_file(rewritten(portable, change), "nirtorch")


@pytest.mark.parametrize("v_init", [np.zeros(3), np.full((4, 6, 6), np.nan), "text"])
def test_initial_potentials_that_can_not_be(portable: Path, v_init: Any) -> None:
    def change(network: Any) -> None:
        network.nodes["stem_if"].metadata["v_init"] = v_init

    with pytest.raises(ExportError, match="v_init: finite numbers of shape"):
        read_file(rewritten(portable, change), "nirtorch")


def test_what_is_no_nir_file(tmp_path: Path) -> None:
    (tmp_path / "n.nir").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    for path in (tmp_path / "n.nir", tmp_path / "none.nir", tmp_path):
        with pytest.raises(ExportError, match=str(path)):
            read_file(path, "sinabs")
