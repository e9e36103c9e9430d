"""Portable and relay files: the same spikes, on > and >=, and the same network read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nir
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends import reference
from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.exporters.nir.portable.find_unportable import find_unportable
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.exporters.nir.portable.private_connections import add_private_connections
from icsnn_deploy.exporters.nir.portable.relay import plan, relay_inputs, relayed
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.nir.write.file import write
from icsnn_deploy.graph.graph import Graph, describe_node
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    ChannelAffine,
    Conv,
    Encoding,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)


class _Stack:
    """Integer nodes, one on the other."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        axes = draw(st.sampled_from([0, 1, 2, 2, 2]))
        self.shape: tuple[int, ...] = (
            draw(st.integers(1, 3)),
            *(draw(st.integers(4, 6)) for _ in range(axes)),
        )
        encodings: list[Encoding] = ["direct", "direct", "events"]
        encoding = draw(st.sampled_from(encodings))
        self.nodes: list[Node] = [
            Input(name="input", shape=self.shape, dtype="int8", encoding=encoding)
        ]

    @property
    def last(self) -> str:
        return self.nodes[-1].name

    @property
    def channels(self) -> tuple[int, ...]:
        return (self.shape[0], *(1,) * (len(self.shape) - 1))

    def put(self, node: Node) -> str:
        self.nodes.append(node)
        self.shape = node.output_shape(*(self.shape,) * len(node.inputs))
        return node.name

    def integers(self, *shape: int, low: int = -3, high: int = 3) -> Array:
        return self.rng.integers(low, high + 1, shape).astype(np.int8)

    def affine(self, name: str, source: str, *, plain: bool = False) -> Conv | Linear:
        """Weights on `source`, of the present shape: any geometry, or one that keeps the shape."""
        width, axes, draw = self.shape[0], len(self.shape) - 1, self.draw
        outputs = width if plain else width * draw(st.sampled_from([1, 2]))
        bias = self.integers(outputs)
        if not axes:
            weight = self.integers(outputs, width)
            return Linear(name=name, inputs=(source,), weight=weight, bias=bias)
        kernel = (3,) * axes if plain else tuple(draw(st.integers(1, 3)) for _ in range(axes))
        even = st.just((0, 0)) if min(kernel) < 3 else st.sampled_from([(0, 0), (1, 1)])
        uneven = st.tuples(st.integers(0, 1), st.integers(0, 1))
        pads = draw(st.sampled_from([even, even, uneven]))
        groups = draw(st.sampled_from([1, width]))
        return Conv(
            name=name,
            inputs=(source,),
            weight=self.integers(outputs, width // groups, *kernel),
            bias=bias,
            stride=(1,) * axes if plain else tuple(draw(st.integers(1, 2)) for _ in range(axes)),
            padding=((1, 1),) * axes if plain else tuple(draw(pads) for _ in range(axes)),
            dilation=(1,) * axes,
            groups=groups,
        )

    def scale(self, name: str, source: str) -> ChannelAffine:
        values = (self.integers(*self.channels), self.integers(*self.channels))
        return ChannelAffine(name=name, inputs=(source,), scale=values[0], shift=values[1])

    def population(self, name: str, source: str) -> str:
        """Thresholds equal or powers of two apart, v_init between the integers or on them."""
        base = self.draw(st.sampled_from([1, 3, 8]))
        apart = 2 ** self.rng.integers(0, 3, self.channels)
        threshold = base * (apart if self.draw(st.booleans()) else np.ones_like(apart))
        v_init = self.rng.integers(-4, 8, self.channels).astype(np.float32)
        return self.put(
            IF(
                name=name,
                inputs=(source,),
                v_threshold=threshold.astype(np.int32),
                v_init=v_init + self.draw(st.sampled_from([0.5, 0.5, 0.0])),
            )
        )

    def block(self, name: str) -> str:
        """A residual block behind a population, with a shortcut of size 1, maybe strided."""
        source = self.population(f"{name}.fork", self.last)
        axes, width, shape = len(self.shape) - 1, self.shape[0], self.shape
        stride = (self.draw(st.integers(1, 2)),) * axes
        kind = self.draw(st.sampled_from(["identity", "scale", "conv"]))
        shortcut: Node = self.scale(f"{name}.shortcut", source)
        if kind == "conv" or (axes and stride[0] > 1):
            shortcut = self.affine(f"{name}.shortcut", source, plain=True)
            if isinstance(shortcut, Conv):
                first_taps: Any = (..., *(slice(1),) * axes)
                pointwise = shortcut.weight[first_taps]
                unpadded = ((0, 0),) * axes
                shortcut = replace(shortcut, weight=pointwise, padding=unpadded, stride=stride)
        first = self.affine(f"{name}.conv1", source, plain=True)
        if isinstance(first, Conv):
            first = replace(first, stride=stride)
        self.put(first)
        for number in range(1, self.draw(st.integers(2, 3))):
            self.population(f"{name}.if{number}", self.last)
            if self.draw(st.booleans()):
                self.put(self.affine(f"{name}.more{number}", self.last, plain=True))
            self.put(self.affine(f"{name}.conv{number + 1}", self.last, plain=True))
        main, taken = self.last, shortcut.name
        if kind == "identity" and shape == self.shape:
            taken = source
        else:
            self.nodes.append(shortcut)
        assert self.shape[0] == width
        return self.put(Add(name=f"{name}.join", inputs=(main, taken)))

    def join(self, name: str) -> str:
        """A sum of the present source and others of its shape."""
        source = self.last
        branch = self.affine(f"{name}.branch", source, plain=True)
        scale = self.scale(f"{name}.scale", source)
        kind = self.draw(st.sampled_from(["identity", "scale", "twice", "nested", "shared"]))
        self.put(branch)
        if kind == "identity":
            return self.put(Add(name=f"{name}.add", inputs=(source, branch.name)))
        if kind == "scale":
            self.put(scale)
            return self.put(Add(name=f"{name}.add", inputs=(scale.name, branch.name)))
        if kind == "twice":
            return self.put(Add(name=f"{name}.add", inputs=(branch.name, branch.name)))
        inner = self.put(Add(name=f"{name}.inner", inputs=(source, branch.name)))
        if kind == "shared":
            self.population(f"{name}.side", inner)
            return self.put(Add(name=f"{name}.add", inputs=(inner, f"{name}.side")))
        return self.put(Add(name=f"{name}.add", inputs=(source, inner)))


@st.composite
def portable_graphs(draw: st.DrawFn) -> Graph:
    """A random network of integers that has a portable form."""
    stack = _Stack(draw)
    if draw(st.booleans()):
        stack.put(stack.scale("zero_point", stack.last))
    for layer in range(draw(st.integers(1, 3))):
        name = f"layer{layer}"
        if min(stack.shape[1:], default=3) >= 3:
            stack.put(stack.affine(f"{name}.conv", stack.last))
        join = draw(st.sampled_from([None, stack.join, stack.block, stack.block]))
        if join is not None:
            join(name)
        stack.population(f"{name}.if", stack.last)
    if len(stack.shape) > 1:
        stack.put(Flatten(name="flatten", inputs=(stack.last,)))
    end = draw(st.sampled_from(["linear", "join", "population"]))
    if end != "population":
        stack.put(stack.affine("head", stack.last))
    if end == "join":
        stack.join("readout")
    steps = draw(st.integers(1, 6))
    nodes = (*stack.nodes, Output(name="output", inputs=(stack.last,)))
    graph = Graph(nodes=nodes, time_steps=steps, readout_start=draw(st.integers(0, steps - 1)))
    assume(not find_unportable(graph))
    return graph


def inputs_of(graph: Graph, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    if not graph.input.is_timed:
        return rng.integers(-9, 10, (2, *graph.input.shape)).astype(np.int8)
    return rng.integers(0, 2, (graph.steps, 2, *graph.input.shape)).astype(np.int8)


def with_relay_channel(graph: Graph, x: Array) -> Array:
    return relay_inputs(x, graph.steps, timed=graph.input.is_timed)


@contextmanager
def firing_above() -> Iterator[None]:
    """The reference's arithmetic with > in place of >=."""

    def step(v: Array, current: Array, v_threshold: Array, *more: Any) -> tuple[Array, ...]:
        u = v + current
        s = u > v_threshold
        return s.astype(np.uint8), u, np.where(s, u - v_threshold, u)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "if_step", step)
        yield


def assert_runs_alike(graph: Graph, other: Graph, x: Array, other_x: Array) -> None:
    """The first channels of `other` spike like `graph`, and the logits are equal, on >= and >."""
    expected = ReferenceSimulator(graph).run(x)
    # in floats: the reference rounds the potentials of an integer network down
    real = other.replace(replace(other.input, dtype="float32"))
    with firing_above():
        strictly = ReferenceSimulator(real).run(other_x.astype(np.float32))
    for found in (ReferenceSimulator(other).run(other_x), strictly):
        for name, spikes in expected.spikes.items():
            channels = spikes.shape[2]
            np.testing.assert_array_equal(found.spikes[name][:, :, :channels], spikes, name)
        np.testing.assert_array_equal(found.logits, expected.logits)


quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@quick
@given(portable_graphs())
def test_the_portable_form_gives_the_same_spikes(graph: Graph) -> None:
    portable = to_portable(graph).graph
    kinds = {type(node) for node in portable.nodes}
    assert kinds <= {Input, Conv, Linear, Flatten, Add, IF, Output}
    for node in portable.nodes_of(IF):
        assert len(np.unique(node.v_threshold)) == 1
    for conv in portable.nodes_of(Conv):
        assert conv.groups == 1
        assert len(set(conv.kernel)) == 1
        assert all(before == after for before, after in conv.padding)
    x = inputs_of(graph)
    assert_runs_alike(graph, portable, x, x)


@settings(quick, max_examples=30)
@given(portable_graphs())
def test_a_portable_file_comes_back_as_the_portable_form(graph: Graph) -> None:
    x = inputs_of(graph)
    expected = ReferenceSimulator(graph).run(x)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "n.nir"
        write(graph, path, "portable")
        network = nir.read(path)
        back = NirSimulator(path)
    kinds = {type(node).__name__ for node in network.nodes.values()}
    assert kinds <= {"Input", "Conv1d", "Conv2d", "Affine", "Flatten", "IF", "Output"}
    assert json.loads(network.metadata[KEY])["graph_hash"] == graph.hash()
    assert back.graph.hash() == to_portable(graph).graph.hash()
    found = back.run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, name)
    np.testing.assert_array_equal(found.logits, expected.logits)


@quick
@given(portable_graphs())
def test_a_relay_gives_the_same_spikes_from_zero_potentials(graph: Graph) -> None:
    form = to_portable(graph)
    assume(not plan(add_private_connections(form.graph))[1])
    network = relayed(form).graph
    x = inputs_of(graph)
    carried = with_relay_channel(graph, x)
    assert network.input.shape == carried.shape[2:]
    assert not any(node.v_init.any() for node in network.nodes_of(IF))
    assert_runs_alike(graph, network, x, carried)
    for spikes in ReferenceSimulator(network).run(carried).spikes.values():
        relay = spikes[:, :, -1]
        assert relay[0].all()
        assert not relay[1:].any()


@settings(quick, max_examples=30)
@given(portable_graphs())
def test_a_relay_file_comes_back_without_its_relay(graph: Graph) -> None:
    x = inputs_of(graph)
    expected = ReferenceSimulator(graph).run(x)
    wanted = add_private_connections(to_portable(graph).graph)
    assume(not plan(wanted)[1])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "n.nir"
        write(graph, path, "portable", "relay")
        assert nir.read(path)
        restored = read_graph(path)
    assert [node.name for node in restored.nodes] == [node.name for node in wanted.nodes]
    for node, other in zip(restored.nodes, wanted.nodes, strict=True):
        assert describe_node(node) == describe_node(other)
        for field, value in node.arrays().items():
            left, right = np.broadcast_arrays(value, other.arrays()[field])
            np.testing.assert_array_equal(left, right)
    found = ReferenceSimulator(restored).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, name)
    np.testing.assert_array_equal(found.logits, expected.logits)
