"""Convolutions that no square kernel with symmetric padding stands for, in the portable profile."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.kernels import find_embedding
from icsnn_deploy.exporters.nir.portable import find_unportable as nir_limits
from icsnn_deploy.exporters.nir.portable.appended_zeros import Zeros, find_zeros
from icsnn_deploy.exporters.nir.portable.portable import Portable, to_portable
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, Conv, Input, Output, Pairs, Shape
from tests.support.building import node_of

SHAPE = (2, 4, 5)
NONE: Pairs = ((0, 0), (0, 0))


def integers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.int8)


def convolution(
    name: str,
    source: str,
    kernel: Shape,
    padding: Pairs,
    *,
    dilation: Shape = (1, 1),
    stride: Shape = (1, 1),
    groups: int = 1,
) -> Conv:
    """Two channels to two."""
    return Conv(
        name=name,
        inputs=(source,),
        weight=integers(2, 2 // groups, *kernel),
        bias=np.array([1, -2], np.int8),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def population(name: str, source: str) -> IF:
    threshold, v_init = np.full((1, 1, 1), 5, np.int8), np.full((1, 1, 1), 1.5, np.float32)
    return IF(name=name, inputs=(source,), v_threshold=threshold, v_init=v_init)


def network(*nodes: Conv | IF | Add, shape: Shape = SHAPE) -> Graph:
    """Integers; its output is the map of the last node."""
    start = Input(name="x", shape=shape, dtype="int8")
    end = Output(name="y", inputs=(nodes[-1].name,))
    return Graph(nodes=(start, *nodes, end), time_steps=2)


def inputs_of(graph: Graph) -> Array:
    return integers(3, *graph.input.shape, seed=1)


def assert_same(graph: Graph, form: Portable) -> None:
    """The form has square kernels and symmetric padding alone, and the results of the network."""
    for conv in form.graph.nodes_of(Conv):
        assert len(set(conv.kernel)) == 1
        assert all(before == after for before, after in conv.padding)
        assert conv.groups == 1
    x = inputs_of(graph)
    expected, found = (ReferenceSimulator(each).run(x) for each in (graph, form.graph))
    np.testing.assert_array_equal(found.logits, expected.logits)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


def has_square_kernel(conv: Conv, lengths: Shape) -> bool:
    (_, *positions) = conv.output_shape((2, *lengths))
    return find_embedding(conv, lengths, tuple(positions)) is not None


@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"),
    [
        ((1, 2), ((0, 1), (0, 1)), (1, 1)),  # a pooling of stride 1 after padding on one side
        ((2, 1), NONE, (1, 1)),
        ((1, 1), ((0, 3), (0, 0)), (1, 1)),
        ((1, 1), ((0, 0), (3, 0)), (1, 1)),
        ((1, 3), ((0, 0), (7, 2)), (1, 1)),
        ((3, 2), ((1, 1), (8, 0)), (1, 1)),
        ((3, 3), ((0, 1), (0, 0)), (1, 1)),
        ((2, 2), ((0, 3), (3, 0)), (2, 3)),
        ((2, 3), ((1, 1), (1, 1)), (1, 1)),
        ((1, 1), ((4, 1), (0, 2)), (1, 1)),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_kernel_of_an_even_and_an_odd_size_is_exact_after_appended_zeros(
    kernel: Shape, padding: Pairs, dilation: Shape, groups: int
) -> None:
    conv = convolution("c", "x", kernel, padding, dilation=dilation, groups=groups)
    assert not has_square_kernel(conv, SHAPE[1:])
    graph = network(conv)
    form = to_portable(graph)
    assert len(form.graph.nodes_of(Conv)) == 2
    assert "c: its input is x.with_zeros, with zeros appended" in form.rewritten
    assert_same(graph, form)


def test_every_small_geometry_is_exact() -> None:
    """All kernels up to 3 x 3 and paddings up to 2: with and without appended zeros."""
    appended = 0
    for kernel in product((1, 2, 3), repeat=2):
        for a, b, c, d in product((0, 1, 2), repeat=4):
            graph = network(convolution("c", "x", kernel, ((a, b), (c, d))), shape=(2, 3, 4))
            form = to_portable(graph)
            appended += "x.with_zeros" in form.graph
            assert_same(graph, form)
    assert appended == 364  # about half of 729


def test_a_stride_on_one_axis_is_enough_for_a_square_kernel() -> None:
    """Zeros are appended for convolutions of stride 1 alone: a stride leaves the size a choice."""
    rng = np.random.default_rng(0)
    tried = 0
    while tried < 2000:
        kernel, stride, dilation = (tuple(rng.integers(1, 4, 2).tolist()) for _ in range(3))
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 5, (2, 2)))
        conv = convolution("c", "x", kernel, padding, stride=stride, dilation=dilation)
        lengths = tuple(rng.integers(1, 7, 2).tolist())
        if stride == (1, 1):
            continue
        try:
            assert has_square_kernel(conv, lengths), conv
        except GraphError:
            continue  # the kernel is larger than the padded image
        tried += 1


def test_zeros_take_the_place_of_padding_on_one_side() -> None:
    """So that the kernel does not grow with the padding."""
    zeros, embedding = find_zeros(convolution("c", "x", (1, 3), ((0, 0), (7, 2))))
    assert zeros == Zeros(counts=(2, 5), before=(False, True))
    assert embedding.kernel == (3, 3)
    assert embedding.padding == (0, 2)
    zeros, embedding = find_zeros(convolution("c", "x", (1, 1), ((0, 3), (2, 0))))
    assert zeros == Zeros(counts=(3, 2), before=(False, True))
    assert embedding.kernel == (1, 1)


def test_convolutions_that_need_the_same_zeros_share_them() -> None:
    graph = network(
        population("p", "x"),
        convolution("a", "p", (1, 2), NONE),
        convolution("b", "p", (1, 2), NONE),
        convolution("c", "p", (2, 1), ((0, 1), (0, 0))),
        Add(name="sum", inputs=("a", "b")),
        population("q", "sum"),
        convolution("d", "q", (1, 2), ((0, 0), (1, 1))),
        Add(name="end", inputs=("c", "d")),
    )
    form = to_portable(graph)
    added = [node.name for node in form.graph.nodes if node.name not in graph]
    assert added == ["p.with_zeros", "q.with_zeros"]
    assert form.graph.node("a").inputs == form.graph.node("b").inputs == ("p.with_zeros",)
    assert form.graph.node("c").inputs == ("p",)
    assert_same(graph, form)


def test_the_new_node_takes_a_name_that_is_free() -> None:
    graph = network(
        population("p", "x"),
        convolution("p.with_zeros", "p", (1, 2), NONE),
        convolution("b", "p.with_zeros", (2, 1), NONE),
    )
    form = to_portable(graph)
    assert node_of(form.graph, "p.with_zeros", Conv).inputs == ("p.with_zeros_1",)
    assert_same(graph, form)


def test_appended_zeros_leave_an_integer_network_one_of_integers() -> None:
    form = to_portable(network(convolution("c", "x", (1, 2), NONE), population("p", "c")))
    assert form.graph.is_integer
    assert form.losses == ()
    real = network(convolution("c", "x", (1, 2), NONE), population("p", "c"))
    start = replace(real.input, dtype="float32")
    weight = node_of(to_portable(real.replace(start)).graph, "x.with_zeros", Conv).weight
    assert weight.dtype == np.float32


def test_a_file_with_appended_zeros_comes_back_as_the_portable_form(tmp_path: Path) -> None:
    graph = network(
        population("p", "x"),
        convolution("a", "p", (1, 2), ((0, 1), (0, 1))),
        population("q", "a"),
        convolution("b", "q", (1, 1), ((0, 0), (3, 0))),
    )
    path = tmp_path / "x.nir"
    export(graph, path, "nir-portable")
    back = NirSimulator(path)
    assert back.graph.hash() == to_portable(graph).graph.hash()
    x = inputs_of(graph)
    expected, found = ReferenceSimulator(graph).run(x), back.run(x)
    for name, spikes in expected.spikes.items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(found.spikes[name], spikes)
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_the_weights_that_append_zeros_count_as_dense_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of four channels of 1 x 1 take no more than 8 weights, the zeros before them 64."""
    weight = integers(2, 4, 1, 1)
    conv = replace(convolution("c", "x", (1, 1), ((0, 1), (0, 2))), weight=weight)
    graph = network(conv, shape=(4, 4, 4))
    monkeypatch.setattr(nir_limits, "MAX_WEIGHTS", 64)
    assert_same(graph, to_portable(graph))
    monkeypatch.setattr(nir_limits, "MAX_WEIGHTS", 63)
    with pytest.raises(ExportError, match=r"c: 64 weights in dense form"):
        to_portable(graph)


def test_a_relay_that_zeros_do_not_carry_is_told(tmp_path: Path) -> None:
    graph = network(population("p", "x"), convolution("c", "p", (1, 2), NONE), population("q", "c"))
    with pytest.raises(ExportError) as caught:
        export(graph, tmp_path / "x.nir", "nir-relay")
    assert "padding that widens the image (p.with_zeros)" in str(caught.value)
    assert "kernels that are odd on both axes or even on both" in str(caught.value)
