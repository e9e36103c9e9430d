"""Networks in Lava against the NumPy reference: our neurons and Lava's own, in every style.

Lava's own connections and the batched ones run the same networks here: both must give the
reference's spikes, so they equal each other. Several runs share one worker, which saves its start.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BackendUnavailableError, DataError, LatticeError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import encode_rate
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
    Relu,
)
from icsnn_deploy.lava import simulator as lava
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.lava.launch import run_netlists
from icsnn_deploy.lava.simulator import LavaSimulator
from icsnn_deploy.parity import verify as verification
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import conv, dyadic, residual_network, samples, spiking

Case = tuple[LavaSimulator, Array]


def everything(graph: Graph) -> Record:
    names = frozenset(node.name for node in graph.nodes_of(IF))
    return Record(counts=True, first_spikes=True, logits_t=True, potentials=names)


def run_together(cases: list[Case]) -> list[Recording]:
    """All cases in one worker, with everything recorded."""
    netlists = [s.netlists(x, everything(s.graph).potentials) for s, x in cases]
    flat = [netlist for each in netlists for netlist in each]
    results = run_netlists(find_worker().python, flat)
    recordings = []
    for (simulator, x), own in zip(cases, netlists, strict=True):
        part, results = results[: len(own)], results[len(own) :]
        images = x.shape[simulator.graph.input.batch_axis]
        recordings.append(simulator.recording(part, own, images, everything(simulator.graph)))
    return recordings


def assert_same(got: Recording, wanted: Recording) -> None:
    assert list(got.spikes) == list(wanted.spikes) == list(got.potentials)
    for name, spikes in wanted.spikes.items():
        assert got.spikes[name].dtype == np.uint8
        assert got.spikes[name].shape == spikes.shape
        assert np.count_nonzero(got.spikes[name] != spikes) == 0
        np.testing.assert_array_equal(got.potentials[name], wanted.potentials[name])
        np.testing.assert_array_equal(got.counts[name], wanted.spike_counts()[name])
        np.testing.assert_array_equal(got.first_spikes[name], wanted.first_spike_times()[name])
    assert got.logits_t is not None
    assert wanted.logits_t is not None
    np.testing.assert_allclose(got.logits_t, wanted.logits_t, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got.logits, got.logits_t[-1])


def check(cases: list[Case]) -> None:
    for (simulator, x), got in zip(cases, run_together(cases), strict=True):
        wanted = ReferenceSimulator(simulator.graph).run(x, everything(simulator.graph))
        assert_same(got, wanted)


def every_float_style(graph: Graph) -> list[LavaSimulator]:
    return [
        LavaSimulator(graph, arithmetic="float", connections="batched"),
        LavaSimulator(graph, arithmetic="float", connections="stock"),
    ]


def every_style(graph: Graph) -> list[LavaSimulator]:
    return [
        *every_float_style(graph),
        LavaSimulator(graph, arithmetic="fixed", connections="batched"),
        LavaSimulator(graph, arithmetic="fixed", connections="stock"),
        LavaSimulator(graph, arithmetic="float", neurons="lif"),
        LavaSimulator(graph, arithmetic="fixed", neurons="lif"),
    ]


def integer_conv(rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...]) -> Conv:
    return Conv(
        name=name,
        inputs=(source,),
        weight=rng.integers(-9, 10, shape).astype(np.int8),
        bias=rng.integers(-20, 15, shape[0]).astype(np.int32),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
    )


def integer_if(rng: np.random.Generator, name: str, source: str, shape: tuple[int, ...]) -> IF:
    return IF(
        name=name,
        inputs=(source,),
        v_threshold=rng.integers(20, 90, shape).astype(np.int32),
        v_init=(rng.integers(-5, 15, shape) + 0.5).astype(np.float32),
    )


def lattice_network(time_steps: int = 6) -> Graph:
    """Convolution, dense, and what neither is: a skip over two populations. One neuron differs."""
    rng = np.random.default_rng(5)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 5, 6), dtype="int8"),
        integer_conv(rng, "conv1", "input", (3, 2, 3, 3)),
        integer_if(rng, "if1", "conv1", (3, 1, 1)),
        integer_conv(rng, "conv2", "if1", (3, 3, 3, 3)),
        integer_if(rng, "if2", "conv2", (3, 5, 6)),
        integer_conv(rng, "conv3", "if2", (3, 3, 3, 3)),
        ChannelAffine(
            name="skip",
            inputs=("if1",),
            scale=np.array([30, -7, 300], np.int32).reshape(3, 1, 1),
            shift=np.array([1, 0, -3], np.int32).reshape(3, 1, 1),
        ),
        Add(name="join", inputs=("skip", "conv3", "skip")),
        integer_if(rng, "if3", "join", (1, 1, 1)),
        Flatten(name="flatten", inputs=("if3",)),
        Linear(
            name="hidden",
            inputs=("flatten",),
            weight=rng.integers(-200, 201, (7, 90)).astype(np.int16),
            bias=rng.integers(-9, 9, 7).astype(np.int32),
        ),
        integer_if(rng, "if4", "hidden", (7,)),
        Linear(
            name="head",
            inputs=("if4",),
            weight=rng.integers(-128, 128, (4, 7)).astype(np.int8),
            bias=rng.integers(-99, 99, 4).astype(np.int32),
        ),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=time_steps, readout_start=min(1, time_steps - 1))


def integer_images(graph: Graph, count: int) -> Array:
    return np.random.default_rng(2).integers(-20, 30, (count, *graph.input.shape)).astype(np.int8)


@pytest.mark.parametrize("time_steps", [1, 6])
def test_every_style_gives_the_same_spikes(time_steps: int) -> None:
    graph = lattice_network(time_steps)
    x = integer_images(graph, 3)
    spikes = ReferenceSimulator(graph).run(x).spikes
    assert time_steps == 1 or all(0.02 < s.mean() < 0.98 for s in spikes.values())
    simulators = every_style(graph)
    kinds = [{p.kind for p in s.netlists(x)[0].processes} for s in simulators]
    assert {"batch-connection", "soft-reset-if", "delay-line"} <= kinds[2]
    assert {"conv", "sparse", "soft-reset-if", "delay-line"} <= kinds[3]
    assert {"conv", "sparse", "lif"} <= kinds[5]
    assert kinds[5] == {"source", "conv", "sparse", "lif", "spike-recorder", "readout"}
    check([(simulator, x) for simulator in simulators])


def test_one_image_on_dense_connections() -> None:
    graph = lattice_network()
    simulators = every_style(graph)[1::2]
    x = integer_images(graph, 1)
    assert all("dense" in {p.kind for p in s.netlists(x)[0].processes} for s in simulators)
    check([(simulator, x) for simulator in simulators])


def around(encoding: Encoding) -> Graph:
    """The readout takes spikes, a branch that goes around them, and one that also spikes."""
    rng = np.random.default_rng(3)
    shape = (2, 4, 4)
    nodes: list[Node] = [
        Input(name="input", shape=shape, encoding=encoding),
        conv("steady", "input", rng, (2, 2)),
        spiking("if1", "steady", rng, shape),
        conv("shared", "if1", rng, (2, 2)),
        spiking("if2", "shared", rng, shape),
        Add(name="join", inputs=("if2", "steady", "shared", "if2")),
        conv("late", "join", rng, (2, 3)),
        Output(name="output", inputs=("late",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=5, readout_start=1)


def test_float_networks_and_every_encoding() -> None:
    """All parameters are dyadic: sums are exact in any order, and not one spike may differ."""
    residual = residual_network(time_steps=4)
    cases: list[Case] = []
    for graph in (residual, around("direct"), around("events"), around("rate")):
        x = samples(graph, 3)
        if graph.input.is_timed:
            x = encode_rate(np.abs(x), graph.steps)
        cases += [(simulator, x) for simulator in every_float_style(graph)]
    check(cases)


def test_signals_ties_and_no_population() -> None:
    rng = np.random.default_rng(0)
    signal: list[Node] = [
        Input(name="input", shape=(2, 9)),
        conv("conv", "input", rng, (2, 4), (3,), stride=2, groups=2),
        spiking("if", "conv", rng, (4, 5)),
        Output(name="output", inputs=("if",)),
    ]
    one = np.ones(1, np.float32)
    ties: list[Node] = [
        Input(name="input", shape=(3,)),
        ChannelAffine(name="scale", inputs=("input",), scale=one, shift=one * 0),
        IF(name="if", inputs=("scale",), v_threshold=one, v_init=one / 2),
        Output(name="output", inputs=("if",)),
    ]
    head = Linear(name="head", inputs=("input",), weight=dyadic(rng, 2, 3), bias=dyadic(rng, 2))
    linear: list[Node] = [
        Input(name="input", shape=(3,)),
        head,
        Output(name="out", inputs=("head",)),
    ]
    values = np.array([[0.25, 0.5, -0.5]], np.float32)
    cases: list[Case] = []
    for nodes in (signal, ties, linear):
        graph = Graph(nodes=tuple(nodes), time_steps=8)
        x = samples(graph, 2) if nodes is signal else values
        cases += [(simulator, x) for simulator in every_float_style(graph)]
    check(cases)
    tied = run_together(cases[2:3])[0].spikes["if"]
    assert tied[0, 0].tolist() == [0, 1, 0]  # 0.5 + 0.5 meets the threshold


def test_any_name_without_a_slash() -> None:
    """Names that other processes of the run might have."""
    names = ["bias gate", "readout", "output", " a\nb\t", "é漢\U0001f600", "%s", "a -> b"]
    one, last = np.ones(1, np.int32), "spikes"
    nodes: list[Node] = [Input(name=last, shape=(2,), dtype="uint8")]
    for name in names:
        nodes.append(ChannelAffine(name=f"{name} [0]", inputs=(last,), scale=one * 9, shift=one))
        v_init = np.full(1, 0.5, np.float32)
        nodes.append(IF(name=name, inputs=(f"{name} [0]",), v_threshold=one * 12, v_init=v_init))
        last = name
    graph = Graph(nodes=(*nodes, Output(name="u", inputs=(last,))), time_steps=3)
    x = np.array([[1, 0], [1, 2]], np.uint8)
    check([(simulator, x) for simulator in every_style(graph)[::2]])


def test_one_after_the_other_and_side_by_side() -> None:
    graph = lattice_network(3)
    x = integer_images(graph, 10)
    cases: list[Case] = [
        (LavaSimulator(graph, arithmetic="fixed", connections="batched", memory=1), x),
        (LavaSimulator(graph, arithmetic="fixed", connections="stock", memory=1), x[:3]),
        (LavaSimulator(graph, arithmetic="float", neurons="lif", memory=2_000_000), x),
    ]
    netlists = [simulator.netlists(images) for simulator, images in cases]
    assert [len(each) for each in netlists] == [1, 1, 3]
    assert netlists[0][0].steps == 10 * 3 + 5
    check(cases)


def test_memory_that_others_take_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many images run side by side is settled once, before the run."""
    graph = lattice_network(2)
    simulator, x = LavaSimulator(graph, arithmetic="fixed"), integer_images(graph, 3)
    netlists = simulator.netlists(x)
    assert netlists[0].copies == 3
    monkeypatch.setattr(lava, "_shared_memory", lambda: 0)
    assert simulator.netlists(x)[0].copies == 1
    results = run_netlists(find_worker().python, netlists)
    got = simulator.recording(results, netlists, 3, Record())
    for name, spikes in ReferenceSimulator(graph).run(x).spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)


def drifting(encoding: Encoding, weight: int) -> Graph:
    """Potentials that go down, up, and slowly up; the first two leave 24 bits."""
    nodes: list[Node] = [
        Input(name="input", shape=(3,), dtype="uint8", encoding=encoding),
        ChannelAffine(
            name="scale",
            inputs=("input",),
            scale=np.array([-weight, weight, 1], np.int32),
            shift=np.zeros(3, np.int32),
        ),
        IF(
            name="if",
            inputs=("scale",),
            v_threshold=np.array([3, 30, 500], np.int32),
            v_init=np.full(3, 0.5, np.float32),
        ),
        Output(name="output", inputs=("if",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def test_a_steady_drift_out_of_24_bits_changes_no_spike() -> None:
    graph = drifting("direct", 32_000)
    x = np.full((1, 3), 255, np.uint8)
    wanted = ReferenceSimulator(graph).run(x, Record(potentials=frozenset({"if"})))
    assert np.abs(wanted.potentials["if"]).max() > 2**24
    got = LavaSimulator(graph, arithmetic="fixed").run(x)
    np.testing.assert_array_equal(got.spikes["if"], wanted.spikes["if"])
    assert got.spikes["if"].sum(axis=0).tolist() == [[0, 4, 2]]


def test_a_drift_out_of_24_bits_is_no_result() -> None:
    x = np.ones((4, 1, 3), np.uint8)
    with pytest.raises(SimulationError, match=r"24 bits in if \(\d+ times\).*lava-float"):
        LavaSimulator(drifting("events", 5_000_000), arithmetic="fixed").run(x)


def test_a_steady_drift_that_comes_back_is_no_result() -> None:
    """Saturated, the first potential would fire once less than it should."""
    graph = drifting("direct", 6_000)
    node = graph.node("if")
    assert isinstance(node, IF)
    high = replace(
        node,
        v_threshold=np.array([3, 2_000_000, 500], np.int32),
        v_init=np.array([0.5, 7_500_000.5, 0.5], np.float32),
    )
    with pytest.raises(SimulationError, match=r"24 bits in if \(\d+ times\)"):
        LavaSimulator(graph.replace(high), arithmetic="fixed").run(np.full((1, 3), 255, np.uint8))


def make_bundle(graph: Graph, folder: Path) -> Bundle:
    """A bundle of the network; its ANN stands in for none."""
    relu = {n.name: Relu(name=n.name, inputs=n.inputs) for n in graph.nodes_of(IF)}
    ann = Graph(nodes=tuple(relu.get(node.name, node) for node in graph.nodes))
    x = integer_images(graph, 4) if graph.is_integer else samples(graph, 4)
    return create_bundle(folder, network=graph, ann=ann, samples=x, report={})


def test_a_bundle_is_verified_on_every_lava_backend(tmp_path: Path) -> None:
    bundle = make_bundle(lattice_network(), tmp_path / "integers")
    report = verify(bundle, ["lava-float", "lava-fixed", "lava-stock", "lava-stock:fixed"])
    assert report.verdict == "pass"
    assert [c.spike_mismatches for c in report.comparisons] == [0] * 4
    assert {c.spikes_compared for c in report.comparisons} == {4 * 6 * (3 * 90 + 7)}


def test_the_command(tmp_path: Path) -> None:
    bundle = make_bundle(residual_network(), tmp_path / "floats")
    runner = CliRunner()
    result = runner.invoke(app, ["verify", str(bundle.path), "--backend", "lava-float:batched"])
    assert result.exit_code == 0, result.output
    assert "every spike equal" in result.output
    result = runner.invoke(app, ["verify", str(bundle.path), "--backend", "lava-fixed"])
    assert result.exit_code == 2
    assert "icsnn quantize" in " ".join(result.output.split())


def test_a_divergence_is_explained_by_both_potentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulator of another network stands for a fault: its if2 starts 4 lower."""
    graph = lattice_network()
    node = graph.node("if2")
    assert isinstance(node, IF)
    other = LavaSimulator(graph.replace(replace(node, v_init=node.v_init - 4)), arithmetic="fixed")
    monkeypatch.setattr(verification, "open_backend", lambda bundle, spec: other)
    report = verify(make_bundle(graph, tmp_path / "bundle"), ["lava-fixed"])
    assert report.verdict == "fail"
    found = report.comparisons[0].first_divergence
    assert found is not None
    assert found.layer == "if2"
    assert found.u_reference is not None
    assert found.u_other == found.u_reference - 4 < found.v_threshold < found.u_reference


def test_a_missing_worker_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICSNN_LAVA", str(tmp_path / "nowhere"))
    bundle = make_bundle(lattice_network(), tmp_path / "bundle")
    for backend in ("lava-float", "lava-fixed", "lava-stock"):
        with pytest.raises(BackendUnavailableError, match="icsnn lava setup"):
            verify(bundle, [backend])


def test_options(tmp_path: Path) -> None:
    bundle = make_bundle(lattice_network(), tmp_path / "bundle")
    for spec in ("lava-float:gpu", "lava-fixed:gpu", "lava-stock:gpu"):
        with pytest.raises(BackendUnavailableError, match="'gpu'"):
            open_backend(bundle, spec)
    batched = open_backend(bundle, "lava-fixed:batched")
    assert isinstance(batched, LavaSimulator)
    assert batched.style.connections == "batched"
    small = open_backend(bundle, "lava-fixed")
    assert isinstance(small, LavaSimulator)
    assert small.style.connections == "stock"  # a small network runs on Lava's own


def test_inputs_are_checked() -> None:
    graph = lattice_network()
    simulator = LavaSimulator(graph, arithmetic="fixed")
    with pytest.raises(DataError, match="holds"):
        simulator.run(np.full((1, *graph.input.shape), 128))
    with pytest.raises(DataError, match="no images"):
        simulator.run(np.zeros((0, *graph.input.shape), np.int8))
    with pytest.raises(LatticeError):
        LavaSimulator(residual_network(), arithmetic="float", neurons="lif")
