"""What portable and relay files hold, what is refused, and what is not believed when read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.formats import NirOptions
from icsnn_deploy.exporters.nir.metadata import CHANNELS, KEY, V_INIT, NirProfile
from icsnn_deploy.exporters.nir.portable import find_unportable as nir_limits
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS, needs
from icsnn_deploy.exporters.nir.portable.relay import relay_inputs, relayed
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)
from tests.support.building import node_of
from tests.support.graphs import (
    conv,
    dyadic,
    residual_network,
    samples,
    sequential_network,
    with_hard_reset,
)

RNG = np.random.default_rng(11)

LEGACY = {
    "Affine": {"weight", "bias", "metadata"},
    "Conv2d": {"input_shape", "weight", "stride", "padding", "dilation", "groups", "bias"},
    "Flatten": {"start_dim", "end_dim", "input_type", "metadata"},
    "IF": {"r", "v_threshold", "metadata"},
    "Input": {"shape"},
    "Output": {"shape"},
}
"""The data sets that nir 1.0.4 can read of each node; with any other it fails."""


def population(name: str, source: str, threshold: Any, v_init: Any) -> IF:
    arrays = {"v_threshold": np.asarray(threshold), "v_init": np.asarray(v_init, np.float32)}
    return IF(name=name, inputs=(source,), **arrays)


def network(*nodes: Node, shape: tuple[int, ...] = (2, 4, 4), **given: Any) -> Graph:
    """Input "x", the nodes in their order, a flatten and a readout of what the last gives."""
    start = Input(name="x", shape=shape, **given)
    inner = Graph(nodes=(start, *nodes, Output(name="y", inputs=(nodes[-1].name,))), time_steps=3)
    features = int(np.prod(inner.shape("y")))
    end = (
        Flatten(name="flatten", inputs=(nodes[-1].name,)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=RNG.integers(-2, 3, (3, features)).astype(np.int8),
            bias=np.zeros(3, np.int8),
        ),
        Output(name="y", inputs=("head",)),
    )
    return Graph(nodes=(start, *nodes, *end), time_steps=3)


def header(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(nir.read(path).metadata[KEY])
    return said


def same(graph: Graph, path: Path, x: Array) -> None:
    expected, found = ReferenceSimulator(graph).run(x), NirSimulator(path).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("export_format", ["nir-portable", "nir-relay"])
def test_only_what_nir_1_0_4_reads(tmp_path: Path, export_format: str) -> None:
    for graph in (residual_network(), sequential_network()):
        export(graph, tmp_path / "x.nir", export_format)
        with h5py.File(tmp_path / "x.nir") as file:
            for node in file["node/nodes"].values():
                kind = node["type"][()].decode()
                assert set(node) - {"type"} <= LEGACY[kind], kind


@pytest.mark.parametrize("encoding", ["metadata", "relay"])
def test_two_writes_give_the_same_bytes(tmp_path: Path, encoding: Any) -> None:
    for name in ("a.nir", "b.nir"):
        write(residual_network(), tmp_path / name, "portable", encoding)
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert nir.read(tmp_path / "a.nir", type_check=True)


def test_the_header_says_profile_and_encoding(tmp_path: Path) -> None:
    graph = residual_network()
    for name, profile, encoding in [
        ("nir", "spec", "metadata"),
        ("nir-portable", "portable", "metadata"),
        ("nir-relay", "portable", "relay"),
    ]:
        export(graph, tmp_path / name, name)
        said = header(tmp_path / name)
        assert (said["profile"], said["v_init_encoding"]) == (profile, encoding)
        assert said["graph_hash"] == graph.hash()
        assert any("initial potentials" in loss for loss in said["losses"]) == (
            encoding == "metadata"
        )


def test_float_networks_come_out_alike(tmp_path: Path) -> None:
    for graph in (residual_network(), sequential_network()):
        for encoding in ("nir-portable", "nir-relay"):
            export(graph, tmp_path / "x.nir", encoding)
            same(graph, tmp_path / "x.nir", samples(graph, 3))


def test_losses_of_a_float_network_are_said(tmp_path: Path) -> None:
    graph = sequential_network()
    thirds = replace(node_of(graph, "pool2", AvgPool), kernel=(1, 3), stride=(1, 1))
    head = replace(node_of(graph, "fc", Linear), weight=dyadic(RNG, 12, 24))
    write(graph.replace(thirds, head), tmp_path / "x.nir", "portable")
    losses = " ".join(header(tmp_path / "x.nir")["losses"])
    assert "pool2: the mean over 3" in losses
    assert "if1: folding its thresholds" in losses
    rewritten = " ".join(header(tmp_path / "x.nir")["rewritten"])
    for words in ("pool1: average pooling", "conv2: 2 groups -> dense", "if1: thresholds folded"):
        assert words in rewritten


def test_thresholds_powers_of_two_apart_fold_without_a_loss(tmp_path: Path) -> None:
    thresholds = np.array([3, 12], np.int32).reshape(2, 1, 1)
    layer = Conv(
        name="c",
        inputs=("x",),
        weight=RNG.integers(-3, 4, (2, 2, 3, 3)).astype(np.int8),
        bias=np.array([1, -1], np.int8),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
    )
    graph = network(
        layer, population("p", "c", thresholds, [[[1.5]], [[2.5]]]), shape=(2, 4, 4), dtype="uint8"
    )
    form = to_portable(graph)
    assert form.losses == ()
    folded = form.graph.node("p")
    assert isinstance(folded, IF)
    assert np.unique(folded.v_threshold).tolist() == [12]
    assert folded.v_init.ravel().tolist() == [6, 2.5]
    np.testing.assert_array_equal(form.graph.node("c").arrays()["weight"][0], 4 * layer.weight[0])


def test_an_integer_v_init_moves_between_the_integers() -> None:
    weight = np.ones((2, 2, 1, 1), np.int8)
    layer = replace(conv("c", "x", RNG, (2, 2), (1, 1), padding=0), weight=weight)
    layer = replace(layer, bias=np.zeros(2, np.int8))
    threshold = np.full((1, 1, 1), 5, np.int8)
    graph = network(layer, population("p", "c", threshold, [[[2]]]), dtype="uint8")
    form = to_portable(graph).graph.node("p")
    assert isinstance(form, IF)
    assert form.v_init.ravel().tolist() == [2.5]
    real = network(layer, population("p", "c", threshold, [[[2]]]), dtype="float32")
    kept = to_portable(real).graph.node("p")
    assert isinstance(kept, IF)
    assert kept.v_init.ravel().tolist() == [2]


def test_the_main_path_comes_first(tmp_path: Path) -> None:
    graph = residual_network()
    block = replace(graph.node("block.add"), inputs=("block.shortcut", "block.conv2"))
    nodes = [block if node.name == block.name else node for node in graph.nodes]
    position = next(i for i, node in enumerate(nodes) if node.name == "block.shortcut")
    nodes.insert(3, nodes.pop(position))  # before block.conv1
    edges = to_nir(graph.with_nodes(nodes), "portable").edges
    assert [a for a, b in edges if b == "block_if2"] == ["block_conv2", "block_shortcut"]
    assert [b for a, b in edges if a == "stem_if"] == ["block_conv1", "block_shortcut"]


def test_everything_without_a_portable_form_is_told_at_once(tmp_path: Path) -> None:
    varied = np.arange(1, 33, dtype=np.int32).reshape(2, 4, 4)
    one = np.ones((1, 1, 1), np.int8)
    graph = network(
        ChannelAffine(name="s", inputs=("x",), scale=one, shift=varied),
        population("neurons", "s", varied, [[[0.5]]]),
        population("channels", "neurons", np.array([3, 5]).reshape(2, 1, 1), [[[0.5]]]),
        dtype="uint8",
    )
    with pytest.raises(ExportError) as caught:
        export(graph, tmp_path / "x.nir", "nir-portable")
    message = str(caught.value)
    for words in (
        "no portable NIR form",
        "differs in space",
        "thresholds of shape (2, 4, 4)",
        "2 thresholds, 3 to 5",
        "icsnn quantize --per-layer",
    ):
        assert words in message
    assert not list(tmp_path.iterdir())


def test_hard_reset_is_refused() -> None:
    with pytest.raises(ExportError, match="hard reset"):
        to_nir(with_hard_reset(residual_network()), "portable")


def test_a_dense_weight_beyond_sane_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nir_limits, "MAX_WEIGHTS", 63)
    with pytest.raises(ExportError, match="64 weights in dense form"):
        to_portable(
            network(
                AvgPool(
                    name="pool",
                    inputs=("x",),
                    kernel=(4, 4),
                    stride=(4, 4),
                    padding=((0, 0), (0, 0)),
                )
            )
        )


# Relay


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


# Readers


def test_a_reader_is_asked_before_anything_is_written(tmp_path: Path) -> None:
    signal = network(
        conv("c", "x", RNG, (2, 2), (3,)),
        population("p", "c", np.ones((1, 1)), [[0.5]]),
        shape=(2, 8),
    )
    for name in READERS:
        export(residual_network(), tmp_path / "x.nir", "nir-portable", NirOptions(for_reader=name))
        if name == "spikingjelly":
            export(signal, tmp_path / "s.nir", "nir-relay", NirOptions(for_reader=name))
            continue
        with pytest.raises(ExportError, match="can't run this network") as caught:
            export(signal, tmp_path / "no.nir", "nir-relay", NirOptions(for_reader=name))
        assert READERS[name].version in str(caught.value)
        assert "Conv1d" in str(caught.value)
    assert {file.name for file in tmp_path.iterdir()} == {"x.nir", "s.nir"}


def test_readers_that_are_not_or_can_not(tmp_path: Path) -> None:
    graph = residual_network()
    with pytest.raises(ExportError, match="no NIR reader 'brian' is known; there are snntorch"):
        export(graph, tmp_path / "x", "nir-portable", NirOptions(for_reader="brian"))
    with pytest.raises(ExportError, match="take nir-portable or nir-relay"):
        export(graph, tmp_path / "x", "nir", NirOptions(profile="spec", for_reader="norse"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", READERS)
def test_what_a_reader_needs(name: str) -> None:
    graph = replace(residual_network(time_steps=5), readout_start=2)
    said = needs(name, "a/b.nir", graph, "metadata")
    assert READERS[name].version in said[0]
    assert any(line.startswith("potentials: ") and "'v_init'" in line for line in said)
    assert any("dt = 1, 5 steps" in line and "3 to 5" in line for line in said)
    assert said[-1] == f"or all of this: icsnn_deploy.readers.{name}.load('a/b.nir')"
    relay = needs(name, "a/b.nir", graph, "relay")
    assert any("relay_inputs(x, 5)" in line for line in relay)
    assert not any(line.startswith("potentials: ") for line in relay)
    assert said[1] == relay[1] == f"reset: {READERS[name].reset}"
    joins = [line for line in said if line.startswith("joins: ")]
    assert bool(joins) == READERS[name].depth_first
    assert not any(line.startswith("joins: ") for line in relay)  # made straight
