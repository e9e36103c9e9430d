"""Exported ONNX files, run by two independent runtimes, against the NumPy reference.

All parameters are dyadic, so float32 sums are exact in any order: not one spike may differ.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, TIMED_LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.write import OnnxOptions, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import encode_rate
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Encoding,
    Flatten,
    Input,
    InputDtype,
    Linear,
    Node,
    Output,
)
from tests.support.building import node_of
from tests.support.graphs import conv, dyadic, if_graphs, residual_network, samples, spiking

EVERYTHING = OnnxOptions(logits_t=True, spike_counts=True, raw_spikes=True)


def populations(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes_of(IF)]


def everything(graph: Graph) -> Record:
    return Record(logits_t=True, potentials=frozenset(populations(graph)))


def simulator(graph: Graph, folder: Path, layout: Layout = "unrolled") -> OnnxRuntimeSimulator:
    path = folder / f"{layout}.onnx"
    write(graph, path, OnnxOptions(layout=layout, logits_t=layout != "step"))
    return OnnxRuntimeSimulator(path, threads=1)


def assert_same(graph: Graph, got: Recording, wanted: Recording) -> None:
    assert list(got.spikes) == list(wanted.spikes) == populations(graph)
    for name, spikes in wanted.spikes.items():
        assert got.spikes[name].dtype == np.uint8
        assert got.spikes[name].shape == spikes.shape
        assert np.count_nonzero(got.spikes[name] != spikes) == 0
    assert list(got.potentials) == list(wanted.potentials)
    for name, u in wanted.potentials.items():
        np.testing.assert_array_equal(got.potentials[name], u)
    np.testing.assert_allclose(got.logits, wanted.logits, rtol=1e-6, atol=1e-6)
    if wanted.logits_t is not None:
        assert got.logits_t is not None
        np.testing.assert_allclose(got.logits_t, wanted.logits_t, rtol=1e-6, atol=1e-6)


def check_every_layout(graph: Graph, inputs: Array, folder: Path) -> Recording:
    wanted = ReferenceSimulator(graph).run(inputs, everything(graph))
    for layout in LAYOUTS:
        got = simulator(graph, folder, layout).run(inputs, everything(graph))
        assert_same(graph, got, wanted)
    return wanted


@pytest.mark.parametrize("time_steps", [1, 2, 8])
def test_residual_network(tmp_path: Path, time_steps: int) -> None:
    graph = residual_network(time_steps=time_steps)
    wanted = check_every_layout(graph, samples(graph, 5), tmp_path)
    assert all(spikes.any() for spikes in wanted.spikes.values()) or time_steps < 8


@settings(max_examples=30, deadline=None)
@given(graph=if_graphs(("subtract", "v_reset")), batch=st.integers(1, 4))
def test_random_networks(graph: Graph, batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_every_layout(graph, samples(graph, batch), Path(folder))


@settings(max_examples=25, deadline=None)
@given(layout=st.sampled_from(TIMED_LAYOUTS), graph=if_graphs())
def test_random_networks_on_the_reference_evaluator_of_onnx(layout: Layout, graph: Graph) -> None:
    inputs = samples(graph, 2)
    wanted = ReferenceSimulator(graph).run(inputs, everything(graph))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(graph, path, replace(EVERYTHING, layout=layout))
        evaluator = ReferenceEvaluator(onnx.load(path))
        results = dict(zip(evaluator.output_names, evaluator.run(None, {"x": inputs}), strict=True))
    check_outputs(results, wanted)


def check_outputs(results: dict[str, Array], wanted: Recording) -> None:
    """All that a file written with EVERYTHING hands out, against the reference."""
    np.testing.assert_allclose(results["logits"], wanted.logits, rtol=1e-6, atol=1e-6)
    assert wanted.logits_t is not None
    np.testing.assert_allclose(results["logits_t"], wanted.logits_t, rtol=1e-6, atol=1e-6)
    for name, counts in wanted.spike_counts().items():
        np.testing.assert_array_equal(results[f"spikes/{name}"], wanted.spikes[name])
        np.testing.assert_array_equal(results[f"spike_count/{name}"], counts)


def test_step_file_on_the_reference_evaluator_of_onnx(tmp_path: Path) -> None:
    graph, path = residual_network(time_steps=4), tmp_path / "step.onnx"
    write(graph, path, OnnxOptions(layout="step", raw_spikes=True))
    inputs = samples(graph, 2)
    wanted = ReferenceSimulator(graph).run(inputs)
    evaluator = ReferenceEvaluator(onnx.load(path))
    feed = {"x": inputs}
    for node in graph.nodes_of(IF):
        shape = (2, *graph.shape(node.name))
        feed[f"{node.name}/v_in"] = np.broadcast_to(node.v_init, shape)
    total = np.zeros_like(wanted.logits)
    for step in range(4):
        results = dict(zip(evaluator.output_names, evaluator.run(None, feed), strict=True))
        total += results["y"]
        for name in populations(graph):
            feed[f"{name}/v_in"] = results[f"{name}/v_out"]
            np.testing.assert_array_equal(results[f"{name}/spikes"], wanted.spikes[name][step])
    np.testing.assert_allclose(total / 4, wanted.logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", TIMED_LAYOUTS)
def test_everything_that_the_file_hands_out(tmp_path: Path, layout: Layout) -> None:
    import onnxruntime

    graph, path = replace(residual_network(), readout_start=3), tmp_path / "net.onnx"
    write(graph, path, replace(EVERYTHING, layout=layout))
    inputs = samples(graph, 3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(None, {"x": inputs}), strict=True))
    wanted = ReferenceSimulator(graph).run(inputs, everything(graph))
    check_outputs(results, wanted)
    assert not results["logits_t"][:3].any()
    assert results["spikes/stem.if"].dtype == np.uint8
    assert results["spike_count/stem.if"].dtype == np.int32


@pytest.mark.parametrize("layout", TIMED_LAYOUTS)
def test_readout_start_alone(tmp_path: Path, layout: Layout) -> None:
    graph, path = replace(residual_network(), readout_start=5), tmp_path / "net.onnx"
    write(graph, path, OnnxOptions(layout=layout))
    inputs = samples(graph, 3)
    got = OnnxRuntimeSimulator(path).run(inputs)
    assert_same(graph, got, ReferenceSimulator(graph).run(inputs))


def one_population(v_init: float, weight: float, **source: Any) -> Graph:
    """Every input value drives a neuron of threshold 1."""
    shape = (3,)
    nodes: list[Node] = [
        Input(name="input", shape=shape, **source),
        ChannelAffine(
            name="scale",
            inputs=("input",),
            scale=np.array([weight], np.float32),
            shift=np.zeros(1, np.float32),
        ),
        IF(
            name="if",
            inputs=("scale",),
            v_threshold=np.ones(1, np.float32),
            v_init=np.array([v_init], np.float32),
        ),
        Output(name="output", inputs=("if",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=8)


def test_ties_fire(tmp_path: Path) -> None:
    graph = one_population(0.5, 1.0)
    wanted = check_every_layout(graph, np.array([[0.25, 0.5, -0.5]], np.float32), tmp_path)
    assert wanted.spikes["if"].sum(axis=(0, 1)).tolist() == [2, 4, 0]
    assert wanted.spikes["if"][0, 0].tolist() == [0, 1, 0]  # 0.5 + 0.5 meets the threshold


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_integer_input(tmp_path: Path, dtype: str) -> None:
    graph = one_population(0.5, 1 / 64, dtype=dtype)
    limits = np.iinfo(dtype)
    inputs = np.array([[max(limits.min, -300), 17, min(limits.max, 300)]], np.int64)
    check_every_layout(graph, inputs, tmp_path)
    with pytest.raises(DataError, match="holds"):
        simulator(graph, tmp_path).run(np.array([[0, 0, limits.max + 1]]))


@pytest.mark.parametrize("encoding", ["events", "rate"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_spiking_input(tmp_path: Path, encoding: Encoding, dtype: InputDtype) -> None:
    graph = residual_network(time_steps=6)
    graph = graph.replace(replace(graph.input, encoding=encoding, dtype=dtype))
    image = np.abs(samples(graph, 3))
    check_every_layout(graph, encode_rate(image, 6), tmp_path)


def test_one_step_of_spiking_input(tmp_path: Path) -> None:
    graph = residual_network(time_steps=1)
    graph = graph.replace(replace(graph.input, encoding="events", dtype="uint8"))
    spikes = np.random.default_rng(0).integers(0, 2, (1, 2, *graph.input.shape))
    check_every_layout(graph, spikes, tmp_path)


def test_input_that_goes_around_the_populations(tmp_path: Path) -> None:
    """The readout takes spikes, a steady analog branch, and a branch that also spikes."""
    rng = np.random.default_rng(3)
    shape = (2, 4, 4)
    nodes: list[Node] = [
        Input(name="input", shape=shape),
        conv("steady", "input", rng, (2, 2)),
        spiking("if1", "steady", rng, shape),
        conv("shared", "if1", rng, (2, 2)),
        spiking("if2", "shared", rng, shape),
        Add(name="join", inputs=("if2", "steady", "shared", "if2")),
        conv("late", "join", rng, (2, 3)),
        Output(name="output", inputs=("late",)),
    ]
    encodings: tuple[Encoding, ...] = ("direct", "events")
    for encoding in encodings:
        graph = Graph(nodes=tuple(nodes), time_steps=5, readout_start=1)
        graph = graph.replace(replace(graph.input, encoding=encoding))
        inputs = samples(graph, 2)
        if encoding == "events":
            inputs = encode_rate(np.abs(inputs), 5)
        check_every_layout(graph, inputs, tmp_path)
        for layout in TIMED_LAYOUTS:
            path = tmp_path / "sums.onnx"
            write(graph, path, OnnxOptions(layout=layout))
            got = OnnxRuntimeSimulator(path).run(inputs)
            assert_same(graph, got, ReferenceSimulator(graph).run(inputs))


def test_padded_zeros_count_in_a_mean(tmp_path: Path) -> None:
    graph = residual_network(time_steps=4)
    pool, head = node_of(graph, "pool", AvgPool), node_of(graph, "head", Linear)
    padded = replace(pool, stride=(3, 3), padding=((1, 1), (0, 1)))  # 6 x 6 -> 3 x 2
    weight = dyadic(np.random.default_rng(0), 10, 24)
    graph = graph.with_nodes(
        {"pool": padded, "head": replace(head, weight=weight)}.get(node.name, node)
        for node in graph.nodes
    )
    check_every_layout(graph, samples(graph, 2), tmp_path)


def test_network_without_populations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head = Linear(name="head", inputs=("input",), weight=dyadic(rng, 2, 3), bias=dyadic(rng, 2))
    nodes = (Input(name="input", shape=(3,)), head, Output(name="output", inputs=("head",)))
    check_every_layout(Graph(nodes=nodes, time_steps=3), dyadic(rng, 2, 3), tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_name_without_a_slash(tmp_path: Path, layout: Layout) -> None:
    names = [
        "spikes",
        "spike_count",
        "const",
        "logits",
        "x",
        "y",
        " a\nb\t@1 ",
        "é漢\U0001f600",
        "%s",
    ]
    rng = np.random.default_rng(0)
    last = "s@1"
    nodes: list[Node] = [Input(name=last, shape=(2,))]
    for name in names:
        scale = np.full(1, 0.75, np.float32)
        nodes.append(ChannelAffine(name=f"{name}.c", inputs=(last,), scale=scale, shift=scale))
        nodes.append(spiking(name, f"{name}.c", rng, (2,)))
        last = name
    graph = Graph(nodes=(*nodes, Output(name="u@1", inputs=(last,))), time_steps=3)
    inputs, path = samples(graph, 2), tmp_path / "net.onnx"
    options = OnnxOptions() if layout == "step" else EVERYTHING
    write(graph, path, replace(options, layout=layout))
    got = OnnxRuntimeSimulator(path).run(inputs, everything(graph))
    assert_same(graph, got, ReferenceSimulator(graph).run(inputs, everything(graph)))


def test_integer_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 5, 5), dtype="uint8"),
        Conv(
            name="conv",
            inputs=("input",),
            weight=rng.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8),
            bias=rng.integers(-9, 9, 3).astype(np.int32),
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
        ),
        IF(
            name="if",
            inputs=("conv",),
            v_threshold=np.full((3, 1, 1), 5000, np.int32),
            v_init=np.full((3, 1, 1), 2500.5, np.float32),
        ),
        Flatten(name="flatten", inputs=("if",)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=rng.integers(-128, 128, (4, 75)).astype(np.int8),
            bias=rng.integers(-999, 999, 4).astype(np.int64),
        ),
        Output(name="output", inputs=("head",)),
    ]
    graph = Graph(nodes=tuple(nodes), time_steps=7)
    check_every_layout(graph, rng.integers(0, 256, (3, 2, 5, 5)), tmp_path)
