"""What the NIR export writes: names, metadata, losses, rewrites, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.kernels import embed, extract, find_embedding
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.nir.write.file import to_nir, write
from icsnn_deploy.graph.graph import Graph
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
    Relu,
)
from tests.support.graphs import DYADIC, conv, dyadic, residual_network, samples, spiking

RNG = np.random.default_rng(7)


def around(*middle: Node, shape: tuple[int, ...], time_steps: int = 4) -> Graph:
    """Input of `shape`, the given nodes in a chain, a population after them, a linear readout."""
    nodes: list[Node] = [Input(name="input", shape=shape), *middle]
    out = Graph(nodes=(*nodes, Output(name="end", inputs=(nodes[-1].name,))), time_steps=1).shape(
        "end"
    )
    nodes.append(spiking("pop", nodes[-1].name, RNG, out))
    last = "pop"
    if len(out) > 1:
        nodes.append(Flatten(name="flatten", inputs=(last,)))
        last = "flatten"
    features = int(np.prod(out))
    weight, bias = dyadic(RNG, 3, features), dyadic(RNG, 3)
    nodes += [
        Linear(name="head", inputs=(last,), weight=weight, bias=bias),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps)


def strip_notes(path: Path) -> None:
    """Rewrite a file without the notes on what was rewritten, so that its numbers must do."""
    network = nir.read(path)
    for node in network.nodes.values():
        note = json.loads(node.metadata.get(KEY, "{}"))
        note.pop("conv", None)
        note.pop("was", None)
        node.metadata[KEY] = json.dumps(note)
    nir.write(path, network)


def check_exact(graph: Graph, path: Path) -> Graph:
    """The file passes NIR's type check and runs the same, with our notes and without."""
    write(graph, path)
    nir.read(path, type_check=True)
    x = samples(graph, 2)
    reference = ReferenceSimulator(graph).run(x)
    back = NirSimulator(path)
    for simulator in (back, _stripped(path)):
        recording = simulator.run(x)
        assert list(recording.spikes) == list(reference.spikes)
        for name, spikes in reference.spikes.items():
            np.testing.assert_array_equal(recording.spikes[name], spikes)
        np.testing.assert_array_equal(recording.logits, reference.logits)
    return back.graph


def _stripped(path: Path) -> NirSimulator:
    strip_notes(path)
    return NirSimulator(path)


def header(graph: Graph) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(to_nir(graph).metadata[KEY])
    return said


def test_metadata_says_how_to_run_it() -> None:
    graph = residual_network(time_steps=5)
    said = header(graph)
    assert said["producer"] == "icsnn-deploy"
    assert said["profile"] == "spec"
    assert said["graph_hash"] == graph.hash()
    assert (said["time_steps"], said["readout_start"], said["dt"]) == (5, 0, 1)
    assert (said["encoding"], said["input_dtype"]) == ("direct", "float32")
    assert (said["reset"], said["fires"]) == ("subtract", "u >= v_threshold")


def test_losses_are_stated() -> None:
    losses = " ".join(header(residual_network())["losses"])
    for word in ("reset by subtraction", "dt = 1", "ties", "initial potentials", "time steps"):
        assert word in losses


def test_no_initial_potential_no_such_loss() -> None:
    graph = residual_network()
    zero = graph.map(
        lambda node: (
            IF(
                name=node.name,
                inputs=node.inputs,
                v_threshold=node.v_threshold,
                v_init=np.zeros_like(node.v_init),
            )
            if isinstance(node, IF)
            else node
        )
    )
    assert not any("initial" in loss for loss in header(zero)["losses"])


def test_two_writes_give_the_same_bytes_and_leave_nothing_behind(tmp_path: Path) -> None:
    for name in ("a.nir", "b.nir"):
        write(residual_network(), tmp_path / name)
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nir", "b.nir"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="can't be written"):
        write(residual_network(), tmp_path / "folder")
    with pytest.raises(ExportError, match="can't be written"):
        write(residual_network(), tmp_path / "none" / "x.nir")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_parameters_are_expanded_per_neuron_and_uncompressed(tmp_path: Path) -> None:
    import h5py

    write(residual_network(), tmp_path / "x.nir")
    node = nir.read(tmp_path / "x.nir").nodes["stem_if"]
    for value in (node.r, node.v_threshold, node.v_reset, node.metadata["v_init"]):
        assert value.shape == (4, 6, 6)
        assert value.dtype == np.float32
    with h5py.File(tmp_path / "x.nir") as file:
        assert file["node/nodes/stem_conv/weight"].compression is None


def test_names_lose_dots_and_come_back(tmp_path: Path) -> None:
    graph = around(
        conv("a.b", "input", RNG, (2, 2)),
        spiking("a_b", "a.b", RNG, (2, 5, 5)),
        conv("ü x", "a_b", RNG, (2, 2)),
        shape=(2, 5, 5),
    )
    network = to_nir(graph)
    assert not any("." in name or "/" in name for name in network.nodes)
    assert len(network.nodes) == len(graph.nodes)
    back = check_exact(graph, tmp_path / "x.nir")
    assert [node.name for node in back.nodes] == [node.name for node in graph.nodes]


def test_the_graph_comes_back_with_its_hash(tmp_path: Path) -> None:
    graph = around(
        conv("c", "input", RNG, (4, 4), groups=2),
        spiking("p", "c", RNG, (4, 5, 5)),
        shape=(4, 5, 5),
    )
    write(graph, tmp_path / "x.nir")
    assert read_graph(tmp_path / "x.nir").hash() == graph.hash()


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation", "stride", "groups"),
    [
        ((3, 3), ((0, 1), (0, 1)), (1, 1), (2, 2), 1),
        ((3, 3), ((2, 0), (1, 1)), (1, 1), (1, 1), 1),
        ((3, 3), ((0, 1), (0, 0)), (1, 1), (1, 1), 1),  # an even and an odd axis
        ((2, 1), ((0, 0), (0, 0)), (1, 1), (1, 1), 1),
        ((1, 3), ((0, 0), (1, 1)), (1, 1), (1, 1), 2),
        ((2, 2), ((0, 1), (0, 1)), (2, 2), (1, 1), 1),  # dilation does not divide
        ((2, 3), ((0, 2), (2, 0)), (2, 1), (1, 2), 4),
        ((5, 1), ((2, 2), (0, 0)), (1, 1), (1, 1), 1),
        ((1, 1), ((0, 1), (1, 0)), (1, 1), (1, 1), 4),
        ((7, 2), ((0, 0), (0, 0)), (1, 1), (1, 1), 1),  # as tall as the image
    ],
)
def test_any_convolution_is_written_exactly(
    tmp_path: Path,
    kernel: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    stride: tuple[int, int],
    groups: int,
) -> None:
    node = Conv(
        name="c",
        inputs=("input",),
        weight=dyadic(RNG, 4, 4 // groups, *kernel),
        bias=dyadic(RNG, 4),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    graph = around(node, shape=(4, 7, 8))
    check_exact(graph, tmp_path / "x.nir")
    assert any("c: " in line for line in header(graph)["rewritten"])


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 2), (1, 0)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_signals_are_written_exactly(
    tmp_path: Path, padding: tuple[int, int], dilation: int
) -> None:
    node = Conv(
        name="c",
        inputs=("input",),
        weight=dyadic(RNG, 4, 1, 3),
        bias=dyadic(RNG, 4),
        stride=(2,),
        padding=(padding,),
        dilation=(dilation,),
        groups=2,
    )
    back = check_exact(around(node, shape=(2, 9)), tmp_path / "x.nir")
    assert back.node("c").kind == "conv"


def test_an_embedded_kernel_comes_out_again() -> None:
    node = conv("c", "input", RNG, (4, 4), (2, 3), padding=0, dilation=2, groups=2)
    found = find_embedding(node, (9, 9), node.output_shape((4, 9, 9))[1:])
    assert found is not None
    weight = embed(node, found)
    np.testing.assert_array_equal(extract(weight, found, (2, 3), 2), node.weight)
    weight[0, 3, 0, 0] = 1  # off the diagonal blocks
    assert extract(weight, found, (2, 3), 2) is None


@pytest.mark.parametrize(
    ("shape", "kernel", "padding"),
    [
        ((2, 6, 6), (2, 2), ((0, 0), (0, 0))),
        ((2, 6, 6), (3, 3), ((1, 1), (1, 1))),
        ((2, 6, 6), (2, 2), ((0, 1), (1, 0))),
        ((2, 6, 6), (3, 2), ((0, 1), (0, 0))),
        ((2, 9), (2,), ((0, 1),)),
        ((2, 9), (4,), ((1, 1),)),
    ],
)
def test_pooling_is_written_exactly(
    tmp_path: Path, shape: tuple[int, ...], kernel: tuple[int, ...], padding: Any
) -> None:
    stride = (2,) * len(kernel)
    pool = AvgPool(name="pool", inputs=("input",), kernel=kernel, stride=stride, padding=padding)
    back = check_exact(around(pool, shape=shape), tmp_path / "x.nir")
    assert "pool" in back


def test_thirds_survive_in_one_dimension(tmp_path: Path) -> None:
    pool = AvgPool(name="pool", inputs=("input",), kernel=(3,), stride=(3,), padding=((0, 0),))
    graph = around(pool, shape=(2, 9))
    assert any("pool: the mean over 3" in loss for loss in header(graph)["losses"])
    write(graph, tmp_path / "x.nir")
    assert isinstance(read_graph(tmp_path / "x.nir").node("pool"), AvgPool)


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 4, 5)])
@pytest.mark.parametrize("kind", ["scale", "channel", "neuron"])
def test_scale_with_a_shift_is_written_exactly(
    tmp_path: Path, shape: tuple[int, ...], kind: str
) -> None:
    per_channel = (shape[0], *(1,) * (len(shape) - 1))
    shift = {
        "scale": np.zeros(per_channel, np.float32),
        "channel": dyadic(RNG, *per_channel) + np.float32(DYADIC),
        "neuron": dyadic(RNG, *shape) + np.float32(DYADIC),
    }[kind]
    scale = ChannelAffine(name="s", inputs=("input",), scale=dyadic(RNG, *per_channel), shift=shift)
    back = check_exact(around(scale, shape=shape), tmp_path / "x.nir")
    assert "s" in back


def test_sums_are_edges_and_a_doubled_source_is_a_scale(tmp_path: Path) -> None:
    shape = (2, 4, 4)
    nodes: tuple[Node, ...] = (
        Input(name="input", shape=shape),
        spiking("p", "input", RNG, shape),
        conv("c", "p", RNG, (2, 2)),
        Add(name="twice", inputs=("p", "p")),
        Add(name="all", inputs=("twice", "c", "p")),
        spiking("q", "all", RNG, shape),
        Add(name="end", inputs=("q", "c")),
        Flatten(name="f1", inputs=("end",)),
        Flatten(name="f2", inputs=("twice",)),
        Add(name="sum", inputs=("f1", "f2")),
        Output(name="output", inputs=("sum",)),
    )
    graph = Graph(nodes=nodes, time_steps=3)
    network = to_nir(graph)
    assert [edge for edge in network.edges if edge[1] == "output"] == [
        ("f1", "output"),
        ("f2", "output"),
    ]
    assert isinstance(network.nodes["p_times_3"], nir.Scale)
    back = check_exact(graph, tmp_path / "x.nir")
    assert {"all", "end", "sum"} <= {node.name for node in back.nodes}


def test_integers_that_float32_holds_are_written(tmp_path: Path) -> None:
    node = Conv(
        name="c",
        inputs=("input",),
        weight=RNG.integers(-128, 128, (2, 2, 3, 3)).astype(np.int8),
        bias=np.array([2**24, -5], np.int32),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
    )
    graph = around(node, shape=(2, 4, 4))
    assert any("int8" in loss for loss in header(graph)["losses"])
    check_exact(graph, tmp_path / "x.nir")


def test_refusals_name_everything_at_once() -> None:
    big = np.array([2**24 + 1, 3], np.int64)
    graph = around(
        Conv(
            name="c",
            inputs=("input",),
            weight=np.ones((2, 2, 1, 1), np.int8),
            bias=big,
            stride=(1, 1),
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
        ),
        IF(name="i", inputs=("c",), v_threshold=big.reshape(2, 1, 1), v_init=big.reshape(2, 1, 1)),
        shape=(2, 4, 4),
    )
    with pytest.raises(ExportError) as caught:
        to_nir(graph)
    assert all(word in str(caught.value) for word in ("bias", "v_threshold", "v_init"))


def test_an_ann_is_refused() -> None:
    ann = Graph(
        nodes=(
            Input(name="input", shape=(3,)),
            Relu(name="relu", inputs=("input",)),
            Output(name="output", inputs=("relu",)),
        )
    )
    with pytest.raises(ExportError, match="ANN"):
        to_nir(ann)
