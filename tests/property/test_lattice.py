"""Integer networks: the certificate holds, and every backend gives the int64 reference's spikes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.onnx.openvino import OpenVinoSimulator
from icsnn_deploy.backends.onnx.reference import OnnxReferenceSimulator
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.read.file import from_nir
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, TIMED_LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.write import OnnxOptions, write
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Linear
from icsnn_deploy.lattice.prepare import is_exact, prepare
from icsnn_deploy.lattice.round_network import round_to_lattice
from tests.support.graphs import if_graphs, samples

RESETS = ("subtract", "v_reset")


@st.composite
def integer_graphs(draw: st.DrawFn) -> Graph:
    """A random float network, rounded: joins, pooling, depthwise, T to 64, 2 to 8 bits."""
    graph = draw(if_graphs(RESETS))
    steps = draw(st.sampled_from([1, 2, 8, 64]))
    graph = replace(graph, time_steps=steps, readout_start=min(graph.readout_start, steps - 1))
    width = draw(st.integers(2, 8))
    per_layer = draw(st.booleans())
    prepared = prepare(graph, samples(graph, 4), per_layer=per_layer, input_bits=8)
    weighted = [n for n in prepared.nodes_of(Conv, Linear) if not is_exact(n)]
    return round_to_lattice(
        prepared, {}, {node.name: width for node in weighted}, per_layer=per_layer
    ).graph


def inputs_of(graph: Graph, count: int = 3) -> Array:
    return to_input_units(graph, samples(graph, count))


def assert_identical(got: Recording, expected: Recording) -> None:
    assert list(got.spikes) == list(expected.spikes)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_array_equal(got.logits.astype(np.float32), expected.logits.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(integer_graphs(), st.sampled_from(list(combinations(LAYOUTS, 2))))
def test_certified_networks_are_bit_identical_on_every_backend(
    graph: Graph, layouts: tuple[Layout, ...]
) -> None:
    assert graph.is_integer
    assert certify(graph).float32
    x = inputs_of(graph)
    expected = ReferenceSimulator(graph).run(x)
    assert_identical(TorchSimulator(graph).run(x), expected)
    assert_identical(TorchSimulator(graph, int8=False).run(x), expected)
    assert_identical(TorchSimulator(graph, dtype=torch.float64).run(x), expected)
    assert_identical(TorchSimulator(graph, memory=1).run(x), expected)
    with TemporaryDirectory() as folder:
        path = Path(folder)
        export(graph, path / "n.nir", "nir")
        assert_identical(NirSimulator(path / "n.nir").run(x), expected)
        for layout in layouts:
            write(graph, path / layout, OnnxOptions(layout=layout))
            assert_identical(OnnxRuntimeSimulator(path / layout).run(x), expected)


@settings(max_examples=60, deadline=None)
@given(integer_graphs())
def test_the_nir_file_gives_the_network_back(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "n.nir"
        export(graph, path, "nir")
        assert from_nir(path).hash() == graph.hash()


@settings(max_examples=9, deadline=None)
@given(integer_graphs(), st.sampled_from(TIMED_LAYOUTS))
def test_the_independent_onnx_evaluator_agrees(graph: Graph, layout: Layout) -> None:
    x = inputs_of(graph, 1)
    expected = ReferenceSimulator(graph).run(x)
    with TemporaryDirectory() as folder:
        path = Path(folder)
        write(graph, path / "n.onnx", OnnxOptions(layout=layout))
        assert_identical(OnnxReferenceSimulator(path / "n.onnx").run(x), expected)


def moves_stride(conv: Conv) -> bool:
    pointwise, padded = max(conv.kernel) == 1, max(map(max, conv.padding)) > 0
    return pointwise and padded and max(conv.stride) > 1


@settings(max_examples=6, deadline=None)
@given(integer_graphs(), st.sampled_from(TIMED_LAYOUTS), st.integers(1, 8))
def test_openvino_agrees_on_images(graph: Graph, layout: Layout, steps: int) -> None:
    """Only images, and no layout that grows with T.

    OpenVINO refuses signals and pointwise convolutions with stride and padding, is slow to load
    files that grow with T, and multiplies the readout's weights by 1 / T, which rounds each.
    """
    assume(len(graph.input.shape) == 3)
    assume(not any(moves_stride(conv) for conv in graph.nodes_of(Conv)))
    graph = replace(graph, time_steps=steps, readout_start=min(graph.readout_start, steps - 1))
    x = inputs_of(graph)
    expected = ReferenceSimulator(graph).run(x)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "n.onnx"
        write(graph, path, OnnxOptions(layout=layout))
        got = OpenVinoSimulator(path).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    terms = certify(graph).bounds[-1].partial_sum  # what is rounded may cancel out
    np.testing.assert_allclose(got.logits, expected.logits, rtol=0, atol=1e-6 * terms)


@settings(max_examples=40, deadline=None)
@given(integer_graphs(), st.integers(0, 2**32 - 1))
def test_what_is_reached_lies_within_the_bounds(graph: Graph, seed: int) -> None:
    """Random integers over the whole input range, so that the bounds are put to the test."""
    rng = np.random.default_rng(seed)
    limits = np.iinfo(graph.input.dtype)
    x = rng.integers(limits.min, limits.max + 1, (4, *graph.input.shape)).astype(graph.input.dtype)
    populations = frozenset(node.name for node in graph.nodes_of(IF))
    recording = ReferenceSimulator(graph).run(x, Record(potentials=populations))
    bounds = {bound.layer: bound for bound in certify(graph).bounds}
    for name, u in recording.potentials.items():
        assert np.abs(u).max() <= bounds[name].potential
        node = graph.node(name)
        assert isinstance(node, IF)
        spiked, before = recording.spikes[name][:-1], u[:-1]
        reset = before - node.v_threshold if node.v_reset is None else node.v_reset
        v = np.where(spiked, reset, before)
        current = u - np.concatenate([np.broadcast_to(node.v_init, (1, *u.shape[1:])), v])
        assert bounds[name].current[0] <= current.min()
        assert current.max() <= bounds[name].current[1]
    sums = recording.logits * (graph.steps - graph.readout_start)
    assert np.abs(sums).max() <= bounds[graph.output.name].potential
