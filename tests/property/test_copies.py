"""Images put together from pieces of spikes: exact, cheap, and 8 bits for the connection after."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Population,
    Relu,
)
from icsnn_deploy.lattice.prepare import is_exact, is_exact_sum, prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.passes.compose import compose
from tests.support.graphs import OFF_LATTICE, conv, dyadic
from tests.support.pieces import crop, place, reflected, window

SHAPE = (3, 6, 5)
SIZE = (3, 8, 8)
T = 5


@st.composite
def collages(draw: st.DrawFn) -> Graph:
    """Pieces of two rectified images, placed anywhere and summed, before a convolution."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes: list[Node] = [Input(name="input", shape=(2, *SHAPE[1:]), dtype="uint8")]
    pieces = [draw(st.sampled_from("ab")) for _ in range(draw(st.integers(1, 5)))]
    for name in sorted(set(pieces)):
        nodes += [conv(f"{name}.conv", "input", rng, (2, SHAPE[0]))]
        nodes += [Relu(name=name, inputs=(f"{name}.conv",))]
    parts = []
    for number, source in enumerate(pieces):
        name = f"piece{number}"
        size = tuple(draw(st.integers(1, n)) for n in SHAPE[1:])
        start = tuple(draw(st.integers(0, n - k)) for n, k in zip(SHAPE[1:], size, strict=True))
        before = tuple(draw(st.integers(0, n - k)) for n, k in zip(SIZE[1:], size, strict=True))
        dense, weight = draw(st.booleans()), draw(st.sampled_from([1, 1, 1, 0.5, 0.75]))
        nodes.append(window(f"{name}.crop", source, SHAPE, start, size, weight=weight, dense=dense))
        padding = tuple((b, n - k - b) for b, n, k in zip(before, SIZE[1:], size, strict=True))
        nodes.append(place(name, f"{name}.crop", SHAPE[0], padding, dense=draw(st.booleans())))
        parts.append(name)
    last = parts[0]
    if len(parts) > 1:
        last = "sum"
        nodes.append(Add(name=last, inputs=tuple(parts)))
    if draw(st.booleans()):
        pads = ((0, 0), (0, 0))
        nodes.append(
            AvgPool(name="pool", inputs=(last,), kernel=(2, 2), stride=(2, 2), padding=pads)
        )
        last = "pool"
    if draw(st.booleans()):
        nodes.append(conv("c", last, rng, (SHAPE[0], 4)))
        nodes.append(Relu(name="c.relu", inputs=("c",)))
        last = "c.relu"
    nodes.append(Flatten(name="flat", inputs=(last,)))
    ends = (*nodes, Output(name="output", inputs=("flat",)))
    width = Graph(nodes=ends).shape("flat")[0]
    nodes += [
        Linear(name="fc", inputs=("flat",), weight=dyadic(rng, 6, width), bias=dyadic(rng, 6)),
        Relu(name="fc.relu", inputs=("fc",)),
        Linear(name="head", inputs=("fc.relu",), weight=dyadic(rng, 3, 6), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes))


def spiking(ann: Graph, rng: np.random.Generator) -> Graph:
    """Thresholds of one power of two per channel, so that float sums are exact."""
    parameters = {}
    for relu in ann.nodes_of(Relu):
        shape = (ann.shape(relu.name)[0], *(1,) * (len(ann.shape(relu.name)) - 1))
        parameters[relu.name] = PopulationParameters(
            v_threshold=2.0 ** rng.integers(3, 6, shape),
            v_init=dyadic(rng, *shape, low=0, high=48) + np.float32(OFF_LATTICE),
        )
    return to_spiking(ann, parameters, T)


def pixels(graph: Graph, count: int = 3) -> Array:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *graph.input.shape)).astype(np.uint8)


def analog_inputs(graph: Graph) -> list[str]:
    """Connections that are rounded and take the result of another one that is."""
    found = []
    for node in graph.nodes_of(Conv, Linear):
        waiting = [] if is_exact(node) else [graph.node(node.inputs[0])]
        while waiting:
            source = waiting.pop()
            if isinstance(source, Flatten) or is_exact(source) or is_exact_sum(graph, source):
                waiting += [graph.node(name) for name in source.inputs]
            elif not isinstance(source, (Population, Input)):
                found.append(node.name)
    return found


@settings(max_examples=60, deadline=None)
@given(collages(), st.integers(0, 2**32 - 1), st.booleans())
def test_a_collage_stays_what_it_was_on_the_way_to_the_lattice(
    ann: Graph, seed: int, per_layer: bool
) -> None:
    x = pixels(ann)
    np.testing.assert_allclose(run_ann(compose(ann), x), run_ann(ann, x), rtol=1e-6, atol=1e-3)
    network = spiking(ann, np.random.default_rng(seed))
    prepared = prepare(network, x, per_layer=per_layer, input_bits=8)
    assert analog_inputs(prepared) == []
    if not per_layer:  # dividing by thresholds rounds
        expected, found = (ReferenceSimulator(g).run(x).spikes for g in (network, prepared))
        for name, spikes in expected.items():
            np.testing.assert_array_equal(found[name], spikes)
    integer = round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=per_layer).graph
    assert integer.is_integer
    certificate = certify(integer)
    assert certificate.float32
    populations = frozenset(node.name for node in integer.nodes_of(IF))
    recording = ReferenceSimulator(integer).run(x, Record(potentials=populations))
    bounds = {bound.layer: bound for bound in certificate.bounds}
    for name, u in recording.potentials.items():
        assert np.abs(u).max() <= bounds[name].potential
    other = TorchSimulator(integer).run(x)
    for name, spikes in recording.spikes.items():
        np.testing.assert_array_equal(other.spikes[name], spikes)
    np.testing.assert_array_equal(other.logits, recording.logits.astype(np.float32))


def weights(graph: Graph) -> int:
    return sum(
        node.weight.size * getattr(node, "groups", 1) for node in graph.nodes_of(Conv, Linear)
    )


def with_middle(middle: list[Node], last: str, side: int, channels: int = 4) -> Graph:
    """conv -> "a" (rectified) -> the nodes -> conv -> rectifier -> global mean -> readout."""
    rng = np.random.default_rng(0)
    zero = ((0, 0), (0, 0))
    nodes: list[Node] = [
        Input(name="input", shape=(2, side, side), dtype="uint8"),
        conv("a.conv", "input", rng, (2, channels)),
        Relu(name="a", inputs=("a.conv",)),
        *middle,
    ]
    ends = (*nodes, Output(name="output", inputs=(last,)))
    nodes += [
        conv("b.conv", last, rng, (Graph(nodes=ends).shape(last)[0], 4)),
        Relu(name="b", inputs=("b.conv",)),
    ]
    height, width = Graph(nodes=(*nodes, Output(name="output", inputs=("b",)))).shape("b")[1:]
    whole = (height, width)
    nodes += [
        AvgPool(name="mean", inputs=("b",), kernel=whole, stride=whole, padding=zero),
        Flatten(name="flat", inputs=("mean",)),
        Linear(name="head", inputs=("flat",), weight=dyadic(rng, 3, 4), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes))


def test_slicing_and_padding_back_does_not_grow_the_kernels() -> None:
    """One connection for all had a kernel of twice the image in each direction."""
    middle: list[Node] = []
    last = "a"
    for number in range(12):
        middle.append(window(f"crop{number}", last, (4, 32, 32), (1, 1), (30, 30)))
        middle.append(place(f"pad{number}", f"crop{number}", 4, ((1, 1), (1, 1))))
        last = f"pad{number}"
    ann = with_middle(middle, last, 32)
    assert weights(compose(ann)) <= 2 * weights(ann)
    x = pixels(ann)
    np.testing.assert_allclose(run_ann(compose(ann), x), run_ann(ann, x), rtol=1e-6)


def test_a_bottleneck_is_composed_only_where_that_is_cheap() -> None:
    rng = np.random.default_rng(0)

    def graph(width: int, narrow: int) -> Graph:
        nodes = (
            Input(name="input", shape=(width,)),
            Relu(name="a", inputs=("input",)),
            Linear(
                name="in", inputs=("a",), weight=dyadic(rng, narrow, width), bias=np.zeros(narrow)
            ),
            Linear(
                name="out", inputs=("in",), weight=dyadic(rng, width, narrow), bias=np.zeros(width)
            ),
            Output(name="output", inputs=("out",)),
        )
        return Graph(nodes=nodes)

    assert len(compose(graph(1200, 200)).nodes_of(Linear)) == 1  # 3 times the weights
    assert len(compose(graph(200, 4)).nodes_of(Linear)) == 1  # 25 times, but few
    assert len(compose(graph(1200, 4)).nodes_of(Linear)) == 2  # 150 times


@pytest.mark.parametrize("dense", [False, True])
def test_reflected_spikes_take_one_connection_with_all_its_bits(dense: bool) -> None:
    nodes, last = reflected("pad", "a", (4, 6, 6), dense=dense)
    ann = with_middle(nodes, last, 6)
    network = spiking(ann, np.random.default_rng(0))
    prepared = prepare(network, pixels(ann), per_layer=False, input_bits=8)
    trained = [n.name for n in prepared.nodes_of(Conv, Linear) if not is_exact(n)]
    assert trained == ["a.conv", "b.conv", "head"]
    copies = [n for n in prepared.nodes_of(Conv) if is_exact(n) and n.name != "mean"]
    assert all(set(np.unique(n.weight)) <= {0, 1} for n in copies)
    integer = round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph
    # The pieces do not overlap: at most one spike arrives for each weight.
    last_conv = integer.node("b.conv")
    assert isinstance(last_conv, Conv)
    bound = next(b for b in certify(integer).bounds if b.layer == "b")
    rows = last_conv.weight.reshape(4, -1).astype(np.int64)
    most = np.maximum(rows, 0).sum(axis=1) + last_conv.bias
    assert bound.current[1] == most.max()


def test_bilinear_upsampling_is_a_connection_of_small_integers() -> None:
    """In phase layout: (1, 3, 3, 9) / 16, inside an image with replicated borders."""
    phases = np.array([[0.25, 0.75, 0], [0, 0.75, 0.25]])
    kernels = np.einsum("ai,bj->abij", phases, phases).reshape(4, 3, 3)
    up = Conv(
        name="up",
        inputs=("wide",),
        weight=np.tile(kernels, (4, 1, 1))[:, None].astype(np.float32),
        bias=np.zeros(16, np.float32),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=4,
    )
    ann = with_middle([place("wide", "a", 4, ((1, 1), (1, 1))), up], "up", 6)
    network = spiking(ann, np.random.default_rng(0))
    prepared = prepare(network, pixels(ann), per_layer=False, input_bits=8)
    exact = prepared.node("up")
    assert is_exact(exact)
    assert sorted(set(np.unique(exact.weight))) == [0, 1, 3, 9]
    expected, found = (ReferenceSimulator(g).run(pixels(ann)).spikes for g in (network, prepared))
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes)


def test_rows_gathered_one_by_one_are_summed_before_the_connection_after_them() -> None:
    """A convolution on each row would cost as many times as much as there are rows."""
    middle: list[Node] = []
    for row in range(8):
        middle.append(crop(f"crop{row}", "a", (4, 8, 8), 1, row))
        middle.append(place(f"place{row}", f"crop{row}", 4, ((7 - row, row), (0, 0))))
    middle.append(Add(name="flipped", inputs=tuple(f"place{row}" for row in range(8))))
    ann = with_middle(middle, "flipped", 8)
    composed = compose(ann)
    assert len([n for n in composed.nodes_of(Conv) if math.prod(n.weight.shape) == 4 * 4 * 9]) == 1
    x = pixels(ann)
    np.testing.assert_allclose(run_ann(composed, x), run_ann(ann, x), rtol=1e-6)
