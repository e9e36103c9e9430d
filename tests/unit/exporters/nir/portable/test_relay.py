"""Relay files: a chain instead of joins, and which of them are believed when read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.metadata import CHANNELS, KEY, V_INIT, NirProfile
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.exporters.nir.portable.relay import relay_inputs, relayed
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
)
from tests.support.graphs import (
    conv,
    residual_network,
    samples,
    sequential_network,
)
from tests.support.portable import header, network, population, same

RNG = np.random.default_rng(11)


def test_relay_inputs() -> None:
    x = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    made = relay_inputs(x, 3)
    assert made.dtype == np.float32
    assert made.shape == (3, 2, 4, 4)
    for step in range(3):
        np.testing.assert_array_equal(made[step, :, :3], x)
        assert (made[step, :, 3] == (step == 0)).all()
    timed = relay_inputs(np.ones((3, 2, 5)), 3, timed=True)
    assert timed.shape == (3, 2, 6)
    assert timed[..., 5].tolist() == [[1, 1], [0, 0], [0, 0]]
    with pytest.raises(ExportError, match="4 steps: the network runs 3"):
        relay_inputs(np.ones((4, 2, 5)), 3, timed=True)


def test_a_relay_file_is_the_network_with_an_extra_channel(tmp_path: Path) -> None:
    graph = residual_network()
    write(graph, tmp_path / "x.nir", "portable", "relay")
    nodes = nir.read(tmp_path / "x.nir").nodes
    assert nodes["input"].input_type["input"].tolist() == [3, 6, 6]
    assert nodes["output"].output_type["output"].tolist() == [10]
    assert "block_shortcut" not in nodes
    for name, channels in [("stem_if", 5), ("block_if1", 9), ("block_if2", 5)]:
        assert nodes[name].v_threshold.shape == (channels, 6, 6)
        assert not nodes[name].metadata[V_INIT].any()
        note = header(tmp_path / "x.nir")["nodes"][name]
        assert note[CHANNELS] == 4


def test_a_relay_file_of_a_residual_network_is_a_chain(tmp_path: Path) -> None:
    """So that readers which walk it depth first meet no join."""
    graph = residual_network()
    write(graph, tmp_path / "x.nir", "portable", "relay")
    edges = nir.read(tmp_path / "x.nir").edges
    sources, targets = zip(*edges, strict=True)
    assert len(set(sources)) == len(set(targets)) == len(edges)
    (join,) = header(tmp_path / "x.nir")["joins"]
    assert join == {
        "sum": "block.add",
        "shortcut": "block.shortcut",
        "connection": "block.conv2",
        "source": "stem.if",
        "stride": [1, 1],
    }
    back = read_graph(tmp_path / "x.nir")
    assert back.node("block.add").inputs == ("block.conv2", "block.shortcut")


def test_a_join_that_stays(tmp_path: Path) -> None:
    """Two connections of one source: along the sum the relay takes the first alone."""
    shape = (2, 4, 4)
    graph = network(
        conv("c", "x", RNG, (2, 2)),
        population("p", "c", np.ones((1, 1, 1)), [[[0.5]]]),
        conv("a", "p", RNG, (2, 2)),
        conv("b", "p", RNG, (2, 2)),
        Add(name="add", inputs=("a", "b")),
        population("q", "add", np.ones((1, 1, 1)), [[[0.25]]]),
        shape=shape,
    )
    write(graph, tmp_path / "x.nir", "portable", "relay")
    nodes = nir.read(tmp_path / "x.nir").nodes
    assert nodes["a"].weight[2, 2].any()
    assert not nodes["b"].weight[:, 2].any()
    same(graph, tmp_path / "x.nir", samples(graph, 2))


@pytest.mark.parametrize("strides", [(4, 3), (4, 4)])
def test_a_shortcut_takes_the_pixels_of_the_main_path(
    tmp_path: Path, strides: tuple[int, int]
) -> None:
    """Of five pixels strides of 3 and of 4 take two, but not the same two."""
    one = np.ones((1, 1, 1))
    graph = network(
        conv("c", "x", RNG, (2, 2)),
        population("p", "c", one, [[[0.5]]]),
        conv("a", "p", RNG, (2, 2), stride=strides[0]),
        population("q", "a", one, [[[0.25]]]),
        conv("b", "q", RNG, (2, 2)),
        conv("shortcut", "p", RNG, (2, 2), (1, 1), stride=strides[1], padding=0),
        Add(name="add", inputs=("b", "shortcut")),
        population("r", "add", one, [[[0.25]]]),
        shape=(2, 5, 5),
    )
    write(graph, tmp_path / "x.nir", "portable", "relay")
    assert len(header(tmp_path / "x.nir")["joins"]) == (strides[0] == strides[1])
    check_relay(graph)
    same(graph, tmp_path / "x.nir", samples(graph, 2))


def test_only_spikes_are_copied(tmp_path: Path) -> None:
    """A fork behind a convolution sends currents, which no neuron could hand on."""
    one = np.ones((1, 1, 1))
    graph = network(
        conv("c", "x", RNG, (2, 2)),
        conv("a", "c", RNG, (2, 2)),
        population("p", "a", one, [[[0.5]]]),
        conv("b", "p", RNG, (2, 2)),
        conv("shortcut", "c", RNG, (2, 2), (1, 1), padding=0),
        Add(name="add", inputs=("b", "shortcut")),
        population("q", "add", one, [[[0.25]]]),
    )
    write(graph, tmp_path / "x.nir", "portable", "relay")
    assert header(tmp_path / "x.nir")["joins"] == []
    check_relay(graph)
    same(graph, tmp_path / "x.nir", samples(graph, 2))


def check_relay(graph: Graph) -> None:
    """The network with a relay spikes like the network, from zero potentials."""
    x = samples(graph, 2)
    expected = ReferenceSimulator(graph).run(x)
    found = ReferenceSimulator(relayed(to_portable(graph)).graph).run(relay_inputs(x, graph.steps))
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name][:, :, : spikes.shape[2]], spikes)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "input"},
        {"source": "nobody"},
        {"connection": "block.conv1"},
        {"stride": [2, 2]},
        {"stride": ["1", 1]},
        {"sum": 3},
        {"more": 1},
        {"sum": "stem.if"},
    ],
)
def test_joins_that_were_not(tmp_path: Path, change: dict[str, Any]) -> None:
    made = to_nir(residual_network(), "portable", "relay")
    said = json.loads(made.metadata[KEY])
    said["joins"] = [{**said["joins"][0], **change}]
    made.metadata[KEY] = json.dumps(said)
    nir.write(tmp_path / "x.nir", made)
    with pytest.raises(ExportError):
        read_graph(tmp_path / "x.nir")


def test_potentials_that_a_relay_cannot_bring_are_told_at_once() -> None:
    v_init = np.linspace(0.1, 0.9, 32).reshape(2, 4, 4)
    graph = network(
        conv("c", "x", RNG, (2, 2)),
        population("neurons", "c", np.ones((1, 1, 1)), v_init),
        conv("wide", "neurons", RNG, (2, 2), (1, 1), padding=1),
        population("widened", "wide", np.ones((1, 1, 1)), [[[0.5]]]),
    )
    with pytest.raises(ExportError) as caught:
        to_nir(graph, "portable", "relay")
    assert "v_init of shape (2, 4, 4)" in str(caught.value)
    assert "padding that widens the image (wide)" in str(caught.value)


def test_a_relay_needs_the_portable_profile(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="needs profile 'portable'"):
        write(residual_network(), tmp_path / "x.nir", "spec", "relay")


def weight_of(name: str, index: tuple[int, ...], value: float) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file[f"node/nodes/{name}/weight"][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (weight_of("stem_conv", (4, 2, 1, 1), 0.25), "stem.conv: .* not as a relay needs it"),
        (weight_of("stem_conv", (4, 0, 0, 0), 1), "stem.conv"),
        (weight_of("stem_conv", (0, 2, 0, 0), 1), "stem.conv"),
        (weight_of("block_conv1", (4, 1, 1, 1), 1), "block.conv1"),
        (weight_of("block_conv2", (0, 5, 0, 0), 1), "block.conv2"),
        (weight_of("head", (0, 36), 1), "head"),
        (lambda file: file["node/nodes/block_if1/v_threshold"].write_direct(
            np.full((9, 6, 6), 7, np.float32)), "block"),
        (lambda file: file["node/nodes/stem_conv/bias"].write_direct(
            np.ones(5, np.float32)), "stem.conv"),
    ],
)  # fmt: skip
def test_a_changed_relay_is_not_believed(
    tmp_path: Path, change: Callable[[Any], None], match: str
) -> None:
    path = tmp_path / "x.nir"
    write(residual_network(), path, "portable", "relay")
    read_graph(path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ExportError, match=match) as caught:
        read_graph(path)
    assert str(path) in str(caught.value)


def test_a_changed_potential_is_another_network(tmp_path: Path) -> None:
    """The relay's weights say what v_init is: any value is one."""
    path = tmp_path / "x.nir"
    write(residual_network(), path, "portable", "relay")
    with h5py.File(path, "r+") as file:
        file["node/nodes/stem_conv/weight"][2, 2, 1, 1] = 0.125
    stem = read_graph(path).node("stem.if")
    assert isinstance(stem, IF)
    assert stem.v_init[2].item() == 0.125


def test_other_files_are_no_relay(tmp_path: Path) -> None:
    """A file that calls itself one, with populations on a direct edge or a pooling."""
    shape = (2, 4, 4)
    direct = network(
        conv("c", "x", RNG, (2, 2)),
        population("p", "c", np.ones((1, 1, 1)), [[[0.5]]]),
        Add(name="add", inputs=("c", "p")),
        population("q", "add", np.ones((1, 1, 1)), [[[0.5]]]),
        shape=shape,
    )
    cases: list[tuple[Graph, NirProfile, str]] = [
        (direct, "spec", "p: a relay needs a connection of its own from c"),
        (sequential_network(), "spec", r"pool1 \(avg_pool\): has no place"),
        (residual_network(), "spec", r"block.shortcut \(scale\): has no place"),
        (residual_network(), "portable", "stem.conv: .* not as a relay needs it"),
    ]
    for graph, profile, match in cases:
        made = to_nir(graph, profile)
        said = json.loads(made.metadata[KEY])
        made.metadata[KEY] = json.dumps({**said, "v_init_encoding": "relay"})
        nir.write(tmp_path / "x.nir", made)
        with pytest.raises(ExportError, match=match):
            read_graph(tmp_path / "x.nir")


@pytest.mark.parametrize("value", [[], "x", {"a": 1}, 3])
def test_notes_that_are_none(tmp_path: Path, value: Any) -> None:
    made = to_nir(residual_network(), "portable")
    said = json.loads(made.metadata[KEY])
    made.metadata[KEY] = json.dumps({**said, "nodes": value})
    nir.write(tmp_path / "x.nir", made)
    with pytest.raises(ExportError, match="an object of objects"):
        read_graph(tmp_path / "x.nir")
