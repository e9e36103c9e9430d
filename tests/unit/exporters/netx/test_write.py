"""The .net file for lava-dl's netx: what it holds, what it loses, what it refuses."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import ExportError, LossyExportError
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.exporters.netx.fold_pooling import fold_into_conv, fold_into_linear
from icsnn_deploy.exporters.netx.write import KEY, NAME, V_INIT, V_THRESHOLD, losses, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv, Flatten, Input, Linear, Node, Output
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples, sequential_network


def on_lattice(graph: Graph) -> Graph:
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


def chain(*nodes: Node, shape: tuple[int, ...], dtype: Any = "int8", steps: int = 4) -> Graph:
    """Input "input", the nodes, each taking the one before, and an output."""
    placed: list[Node] = [Input(name="input", shape=shape, dtype=dtype)]
    for node in nodes:
        placed.append(replace(node, inputs=(placed[-1].name,)))
    return Graph(
        nodes=(*placed, Output(name="output", inputs=(placed[-1].name,))), time_steps=steps
    )


def integer_conv(name: str, weight: Array, **geometry: Any) -> Conv:
    axes = weight.ndim - 2
    whole = {"stride": (1,) * axes, "padding": ((0, 0),) * axes, "dilation": (1,) * axes}
    bias = geometry.pop("bias", np.zeros(len(weight), np.int32))
    return Conv(name=name, inputs=("input",), weight=weight, bias=bias, **{**whole, **geometry})


def integer_linear(name: str, weight: Array) -> Linear:
    bias = np.zeros(len(weight), np.int32)
    return Linear(name=name, inputs=("input",), weight=weight, bias=bias)


def population(name: str, axes: int = 3, v_threshold: int = 5) -> IF:
    one = np.ones((1,) * axes, np.int32)
    return IF(name=name, inputs=("input",), v_threshold=v_threshold * one, v_init=one * 0.5)


def eye(*shape: int) -> Array:
    return np.ones(shape, np.int8)


def read_back(path: Path) -> Graph:
    """The network of a .net file, from its datasets alone; no poolings, as it has none."""
    with h5py.File(path) as file:
        said = json.loads(file[KEY][()])
        layers = [file[f"layer/{number}"] for number in range(len(file["layer"]))]
        assert layers[0]["type"][0] == b"input"
        shape = tuple(layers[0]["shape"][()].tolist())
        assert shape == tuple(said["input_shape"])
        nodes: list[Node] = [Input(name="input", shape=shape, dtype=said["input_dtype"])]
        if said["zero_point"] is not None:
            shift = -np.array(said["zero_point"], np.int16).reshape(-1, 1, 1)
            one = np.ones((1, 1, 1), np.int8)
            nodes.append(ChannelAffine(name="zero", inputs=("input",), scale=one, shift=shift))
        for layer in layers[1:]:
            nodes += _read_layer(layer, nodes[-1].name, len(nodes))
            checked = Graph(
                nodes=(*nodes, Output(name="output", inputs=(nodes[-1].name,))), time_steps=1
            )
            assert layer["shape"][()].tolist() == list(checked.shape(nodes[-1].name))
    return Graph(
        nodes=(*nodes, Output(name="output", inputs=(nodes[-1].name,))),
        time_steps=said["time_steps"],
        readout_start=said["readout_start"],
    )


def _read_layer(layer: h5py.Group, source: str, number: int) -> list[Node]:
    kind = layer["type"][0].decode("ascii")
    if kind == "flatten":
        return [Flatten(name=f"flatten{number}", inputs=(source,))]
    name = layer[NAME][()].decode()
    weight, bias = layer["weight"][()], layer["bias"][()]
    connection: Node
    if kind == "conv":
        connection = Conv(
            name=f"{name}.connection",
            inputs=(source,),
            weight=weight,
            bias=bias,
            stride=tuple(layer["stride"][()].tolist()),
            padding=tuple((pad, pad) for pad in layer["padding"][()].tolist()),
            dilation=tuple(layer["dilation"][()].tolist()),
            groups=int(layer["groups"][()]),
        )
        assert layer["kernelSize"][()].tolist() == list(weight.shape[2:])
        assert layer["inChannels"][()] == weight.shape[1] * connection.groups
        assert layer["outChannels"][()] == len(weight)
    else:
        assert kind == "dense"
        connection = Linear(name=f"{name}.connection", inputs=(source,), weight=weight, bias=bias)
        assert (layer["outFeatures"][()], layer["inFeatures"][()]) == weight.shape
    if "neuron" not in layer:
        return [connection]
    neuron = layer["neuron"]
    assert neuron["type"][()] == b"CUBA"
    assert (neuron["iDecay"][()], neuron["vDecay"][()]) == (4096, 0)
    spiking = IF(
        name=name,
        inputs=(connection.name,),
        v_threshold=neuron[V_THRESHOLD][()],
        v_init=neuron[V_INIT][()] + np.float32(0.5),
    )
    return [connection, spiking]


def assert_runs_the_same(graph: Graph, path: Path, count: int = 4) -> None:
    x = to_input_units(graph, samples(graph, count))
    expected = ReferenceSimulator(graph).run(x)
    got = ReferenceSimulator(read_back(path)).run(x)
    assert list(got.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_array_equal(got.logits, expected.logits)


# What it holds


def test_the_file_holds_the_network(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network())
    write(graph, tmp_path / "n.net")
    assert_runs_the_same(graph, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net") as file:
        kinds = [file[f"layer/{i}/type"][0] for i in range(len(file["layer"]))]
        assert kinds == [b"input", b"conv", b"conv", b"flatten", b"dense", b"dense"]
        first = graph.node("conv1")
        assert isinstance(first, Conv)
        np.testing.assert_array_equal(file["layer/1/weight"], first.weight)
        np.testing.assert_array_equal(file["layer/1/bias"], first.bias)
        for number, name in ((1, "if1"), (2, "if2"), (4, "if3")):
            node = graph.node(name)
            assert isinstance(node, IF)
            neuron = file[f"layer/{number}/neuron"]
            np.testing.assert_array_equal(neuron[V_THRESHOLD], node.v_threshold)
            np.testing.assert_array_equal(neuron[V_INIT][()] + 0.5, node.v_init)
            assert neuron["vThMant"][()] == int(np.median(node.v_threshold)) - 1
        said = json.loads(file[KEY][()])
        assert said["graph_hash"] == graph.hash()
        assert said["losses"] == list(losses(graph))
        assert (file["simulation/Ts"][()], file["simulation/tSample"][()]) == (1, 6)


def test_the_zero_point_of_pixels_is_kept(tmp_path: Path) -> None:
    one = np.ones((1, 1, 1), np.int8)
    shift = -np.array([3, 200], np.int16).reshape(2, 1, 1)
    graph = chain(
        ChannelAffine(name="zero", inputs=("input",), scale=one, shift=shift),
        integer_conv("conv", eye(3, 2, 3, 3), padding=((1, 1), (1, 1))),
        population("if"),
        Flatten(name="flatten", inputs=("input",)),
        integer_linear("head", eye(2, 48)),
        shape=(2, 4, 4),
        dtype="uint8",
    )
    write(graph, tmp_path / "n.net")
    assert_runs_the_same(graph, tmp_path / "n.net")


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network())
    for name in ("a.net", "b.net"):
        write(graph, tmp_path / name)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.net", "b.net"]


@st.composite
def foldings(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...], Conv]:
    """A depthwise convolution, the shape of its input, and a convolution behind it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 2, 4]))
    groups = draw(st.sampled_from([1, channels]))
    small = st.tuples(st.integers(1, 3), st.integers(1, 3))
    pads = st.tuples(st.integers(0, 1), st.integers(0, 1))

    def some(name: str, outputs: int, inputs: int, groups: int) -> Conv:
        weight = rng.integers(-5, 6, (outputs, inputs, *draw(small)), np.int8)
        return integer_conv(
            name,
            weight,
            stride=draw(small),
            padding=(draw(pads), draw(pads)),
            dilation=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
            groups=groups,
        )

    first = some("first", channels, 1, channels)
    second = some("second", groups * 2, channels // groups, groups)
    shape = (channels, draw(st.integers(17, 20)), draw(st.integers(17, 20)))
    return first, shape, second


def evaluate(shape: tuple[int, ...], x: Array, *nodes: Node) -> Array:
    """What the nodes, one behind the other, make of x."""
    graph = chain(*nodes, shape=shape, steps=1)
    return ReferenceSimulator(graph).run(x).logits


@settings(max_examples=60, deadline=None)
@given(foldings(), st.integers(0, 2**32 - 1))
def test_folding_keeps_what_a_pooling_and_the_next_layer_do(
    folding: tuple[Conv, tuple[int, ...], Conv], seed: int
) -> None:
    first, shape, second = folding
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, (3, *shape), np.int8)
    positions = first.output_shape(shape)
    expected = evaluate(shape, x, first, second)
    folded = fold_into_conv(first, shape[1:], positions[1:], second)
    if folded is not None:
        np.testing.assert_array_equal(evaluate(shape, x, folded), expected)
    unpadded = replace(second, padding=((0, 0), (0, 0)))
    folded = fold_into_conv(first, shape[1:], positions[1:], unpadded)
    assert folded is not None
    expected = evaluate(shape, x, first, unpadded)
    np.testing.assert_array_equal(evaluate(shape, x, folded), expected)
    flatten = Flatten(name="flatten", inputs=("input",))
    linear = integer_linear("linear", rng.integers(-5, 6, (3, int(np.prod(positions))), np.int8))
    whole = fold_into_linear(first, shape[1:], positions[1:], linear)
    np.testing.assert_array_equal(
        evaluate(shape, x, flatten, whole), evaluate(shape, x, first, flatten, linear)
    )


# What it loses


def test_a_lossy_export_needs_the_flag(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network())
    with pytest.raises(LossyExportError, match="--lossy") as caught:
        export(graph, tmp_path / "n.net", "netx")
    for loss in losses(graph):
        assert loss in str(caught.value)
    assert not (tmp_path / "n.net").exists()
    export(graph, tmp_path / "n.net", "netx", lossy=True)
    assert_runs_the_same(graph, tmp_path / "n.net")


def test_losses_name_what_this_network_has() -> None:
    graph = on_lattice(sequential_network())
    assert any("3 of 3 populations have more than one threshold" in loss for loss in losses(graph))
    plain = chain(
        integer_linear("fc", eye(4, 3)),
        population("if", axes=1, v_threshold=2**20),
        integer_linear("head", eye(2, 4)),
        shape=(3,),
    )
    assert not any("more than one threshold" in loss for loss in losses(plain))
    assert any("vThMant ends at 131071" in loss for loss in losses(plain))


def test_the_bundle_and_the_command_record_the_losses(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network())
    path = tmp_path / "bundle"
    create_bundle(path, network=graph, ann=graph, samples=samples(graph, 1), report={})
    result = CliRunner().invoke(app, ["export", str(path), "--format", "netx", "--format", "onnx"])
    assert result.exit_code == 2
    assert "netx loses meaning" in result.stderr
    assert list(open_bundle(path).exports) == ["onnx"]  # the other format is written
    result = CliRunner().invoke(app, ["export", str(path), "--format", "netx", "--lossy", "--json"])
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)["exports"]["netx"]
    assert written["losses"] == list(losses(graph))
    bundle = open_bundle(path)
    assert dict(bundle.manifest.losses) == {"netx": losses(graph)}
    assert_runs_the_same(graph, bundle.export("netx"))
    assert export_into(bundle, "onnx").manifest.losses == bundle.manifest.losses
    assert open_bundle(path).manifest.losses == bundle.manifest.losses


# What it refuses


def refused(graph: Graph, tmp_path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        write(graph, tmp_path / "n.net")
    assert list(tmp_path.iterdir()) == []
    return str(caught.value)


def test_float_networks_are_refused(tmp_path: Path) -> None:
    assert "icsnn quantize" in refused(sequential_network(), tmp_path)


def test_joins_and_forks_are_refused_all_at_once(tmp_path: Path) -> None:
    message = refused(on_lattice(residual_network()), tmp_path)
    assert "block.add" in message
    assert "a sum of 2 sources" in message
    assert "stem.if" in message
    assert "a result that 2 nodes take" in message
    with pytest.raises(ExportError, match="a sum of 2 sources"):  # before the flag is asked for
        export(on_lattice(residual_network()), tmp_path / "n.net", "netx")


def test_everything_that_misfits_is_told_at_once(tmp_path: Path) -> None:
    graph = chain(
        integer_conv("wide", np.full((2, 2, 3, 3), 300, np.int16)),
        population("if1"),
        integer_conv("odd", np.array([-200, 201], np.int16).reshape(1, 2, 1, 1)),
        population("if2"),
        integer_conv("silent", -eye(1, 1, 1, 1)),
        population("if3"),
        integer_conv("uneven", eye(2, 1, 2, 2), padding=((0, 1), (0, 1))),
        population("if4"),
        integer_conv("bare", eye(2, 2, 1, 1)),
        Flatten(name="flatten", inputs=("input",)),
        integer_linear("head", eye(2, 32)),
        shape=(2, 6, 6),
    )
    message = refused(graph, tmp_path)
    for name, got in (
        ("wide", "weights from 300 to 300"),
        ("odd", "weights from -200 to 201"),
        ("silent", "weights from -1 to -1"),
        ("uneven", "padding ((0, 1), (0, 1))"),
        ("bare", "a connection without a population"),
    ):
        assert any(name in line and got in line for line in message.splitlines()), (name, message)


def test_what_misfits_wherever_it_stands(tmp_path: Path) -> None:
    graph = chain(
        integer_conv("long", eye(2, 2, 3), bias=np.full(2, 2**23, np.int32)),
        population("if", axes=2, v_threshold=2**24),
        Flatten(name="flatten", inputs=("input",)),
        integer_linear("head", eye(2, 8)),
        shape=(2, 6),
    )
    timed = replace(graph.input, encoding="events")
    message = refused(graph.replace(timed), tmp_path)
    for said in ("events encoding", "1 spatial axis", "bias beyond 24", "v_threshold beyond 24"):
        assert said in message


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((population("if0"),), "a population without a connection"),
        (
            (
                ChannelAffine(
                    name="s", inputs=("input",), scale=eye(1, 1, 1) * 2, shift=eye(1, 1, 1) * 0
                ),
            ),
            "a diagonal connection",
        ),
        ((integer_conv("dense", eye(2, 2, 1, 1)),), "a connection without a population"),
        ((integer_conv("p1", eye(2, 1, 1, 1), groups=2),) * 1, None),
        (
            (integer_conv("over", eye(2, 1, 3, 3), stride=(2, 2), groups=2),),
            "pooling whose dropped or overlapping edge",
        ),
    ],
)
def test_chains_that_do_not_fit(tmp_path: Path, nodes: tuple[Node, ...], said: str | None) -> None:
    graph = chain(
        *nodes,
        integer_conv("conv", eye(2, 2, 3, 3), padding=((1, 1), (1, 1))),
        population("if"),
        Flatten(name="flatten", inputs=("input",)),
        integer_linear("head", eye(2, 2 * (4 if said and "edge" in said else 36))),
        shape=(2, 6, 6),
    )
    if said is None:  # a pooling of one value a window is none
        write(graph, tmp_path / "n.net")
        assert_runs_the_same(graph, tmp_path / "n.net")
    else:
        assert said in refused(graph, tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    graph = on_lattice(sequential_network())
    with pytest.raises(ExportError, match="can't be written"):
        write(graph, tmp_path / "none" / "n.net")


# Random networks


@st.composite
def sequential_graphs(draw: st.DrawFn) -> Graph:
    """A chain of convolutions, populations and poolings, whatever fits or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape: tuple[int, ...] = (2, draw(st.integers(8, 11)), draw(st.integers(8, 11)))
    nodes: list[Node] = []
    whole = shape
    for number in range(draw(st.integers(1, 2))):
        pads = st.sampled_from([((0, 0), (0, 0)), ((0, 0), (1, 1)), ((1, 1), (1, 0))])
        if draw(st.booleans()):
            kernel = draw(st.integers(1, 2))
            pool = integer_conv(
                f"pool{number}",
                eye(shape[0], 1, kernel, kernel),
                stride=(draw(st.integers(1, 2)),) * 2,
                groups=shape[0],
            )
            nodes.append(pool)
            shape = pool.output_shape(shape)
        groups = draw(st.sampled_from([1, shape[0]]))
        size = draw(st.integers(1, min(2, *shape[1:])))
        conv = integer_conv(
            f"conv{number}",
            rng.integers(-8, 9, (groups * 2, shape[0] // groups, size, size), np.int8),
            bias=rng.integers(-9, 10, groups * 2, np.int32),
            stride=(draw(st.integers(1, 2)), 1),
            padding=draw(pads),
            groups=groups,
        )
        shape = conv.output_shape(shape)
        per_channel = rng.integers(1, 60, (shape[0], 1, 1), np.int32)
        start = rng.integers(-9, 30, (1, 1, 1)) + 0.5
        spiking = IF(name=f"if{number}", inputs=("input",), v_threshold=per_channel, v_init=start)
        nodes += [conv, spiking]
    weight = rng.integers(-8, 9, (3, int(np.prod(shape))), np.int8)
    nodes += [Flatten(name="flatten", inputs=("input",)), integer_linear("head", weight)]
    return chain(*nodes, shape=whole, steps=draw(st.integers(1, 4)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(sequential_graphs())
def test_what_is_written_runs_the_same(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "n.net"
        with suppress(ExportError):
            write(graph, path)
        event("written" if path.exists() else "refused")
        if path.exists():
            assert_runs_the_same(graph, path, 2)
