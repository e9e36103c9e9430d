"""What Lava is told of a network, without Lava: offsets, delays, biases, and Lava's own weights."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate
from icsnn_deploy.errors import GraphError, LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array, if_step
from icsnn_deploy.graph.nodes import IF, Add, AvgPool, Conv, Flatten, Input, Linear, Node, Output
from icsnn_deploy.lava import plan as plan_module
from icsnn_deploy.lava.assemble import Style, assemble
from icsnn_deploy.lava.netlist import Netlist, Process
from icsnn_deploy.lava.plan import LavaPlan, make_plan
from icsnn_deploy.lava.range import check_range, matrix_entries, potential_reach
from icsnn_deploy.lava.stock import lava_weights, stock_parts
from icsnn_deploy.lava.worker_process import WORKER
from icsnn_deploy.passes.edit import insert_after
from tests.support.graphs import conv, if_graphs, residual_network, samples, spiking

BATCHED = Style(tag="floating_pt", neurons="soft-reset", connections="batched")
LIF_FIXED = Style(tag="fixed_pt", neurons="lif", connections="stock")
FIXED = Style(tag="fixed_pt", neurons="soft-reset", connections="batched")


def two_paths() -> Graph:
    """The readout takes the input, the first population and the third: ways of 1, 2 and 4 steps."""
    rng = np.random.default_rng(3)
    shape = (2, 4, 4)
    nodes: list[Node] = [Input(name="input", shape=shape)]
    last = "input"
    for number in range(3):
        nodes += [
            conv(f"conv{number}", last, rng, (2, 2)),
            spiking(f"if{number}", f"conv{number}", rng, shape),
        ]
        last = f"if{number}"
    nodes += [
        Add(name="join", inputs=("if2", "conv0", "if0", "if2")),
        conv("late", "join", rng, (2, 3)),
        Output(name="output", inputs=("late",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=5)


def test_offsets_and_delays() -> None:
    plan = make_plan(two_paths())
    assert plan.offsets == {"input": 0, "if0": 1, "if1": 2, "if2": 3, "output": 4}
    assert plan.latency == 4
    delays = {(c.source, c.target): c.delay for c in plan.connections}
    assert delays == {
        ("input", "if0"): 0,
        ("if0", "if1"): 0,
        ("if1", "if2"): 0,
        ("input", "output"): 3,
        ("if0", "output"): 2,
        ("if2", "output"): 0,
    }


def test_a_sum_of_one_term_is_that_term() -> None:
    plan = make_plan(two_paths())
    into = {c.source: [node.name for node in c.nodes] for c in plan.incoming("output")}
    assert into == {"input": ["conv0", "late"], "if0": ["late"], "if2": ["join", "late"]}
    (twice,) = (c.nodes[0] for c in plan.incoming("output") if c.source == "if2")
    assert twice.inputs == ("if2", "if2")


def run_plan(plan: LavaPlan, x: Array) -> dict[str, Array]:
    """Spikes and the readout of a plan, every connection one step late, as Lava has it."""
    graph, steps = plan.graph, plan.graph.steps
    kind = np.int64 if graph.is_integer else np.float64
    half = 0.5 if graph.is_integer else 0.0
    sent: dict[str, list[Array]] = {name: [] for name in plan.offsets}
    v: dict[str, Array] = {}
    for now in range(steps + plan.latency):
        sent[graph.input.name].append(x.astype(kind))
        for target in list(plan.offsets)[1:]:
            current = np.broadcast_to(plan.bias[target], (len(x), *graph.shape(target))).copy()
            for connection in plan.incoming(target):
                when = now - 1 - connection.delay
                if when >= 0:
                    current = current + connection(sent[connection.source][when])
            node = graph.node(target)
            if not isinstance(node, IF):
                sent[target].append(current)
                continue
            if now == plan.offsets[target]:
                v[target] = np.broadcast_to(node.v_init - half, current.shape).astype(kind)
            if now < plan.offsets[target]:
                sent[target].append(np.zeros(current.shape, kind))
                continue
            s, _, v[target] = if_step(v[target], current, node.v_threshold)
            sent[target].append(s.astype(kind))
    return {name: np.stack(rows[plan.offsets[name] :][:steps]) for name, rows in sent.items()}


@pytest.mark.parametrize("graph", [two_paths(), residual_network()], ids=["two-paths", "residual"])
def test_a_plan_run_by_hand_is_the_network(graph: Graph) -> None:
    check_by_hand(graph)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(if_graphs())
def test_random_plans_run_by_hand(graph: Graph) -> None:
    check_by_hand(graph)


def check_by_hand(graph: Graph) -> None:
    x = samples(graph, 3)
    wanted = ReferenceSimulator(graph).run(x, Record(logits_t=True))
    got = run_plan(make_plan(graph), x)
    for name, spikes in wanted.spikes.items():
        np.testing.assert_array_equal(got[name], spikes)
    kept = got[graph.output.name][graph.readout_start :]
    np.testing.assert_allclose(kept.mean(axis=0), wanted.logits, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(if_graphs())
def test_connections_and_bias_add_up_to_the_affine_part(graph: Graph) -> None:
    """Any values of the sources, not only spikes: one step without delays is the network's."""
    rng = np.random.default_rng(0)
    plan = make_plan(graph)
    values = {
        name: rng.integers(-3, 4, (2, *graph.shape(name))) / 8 for name in list(plan.offsets)[:-1]
    }
    known: dict[str, Array] = dict(values)
    for node in graph.nodes:
        if node.name not in known and not isinstance(node, Output):
            known[node.name] = evaluate(node, *(known[name] for name in node.inputs))
    for target in list(plan.offsets)[1:]:
        total = plan.bias[target] + sum(c(values[c.source]) for c in plan.incoming(target))
        np.testing.assert_array_equal(total, known[graph.node(target).inputs[0]])
        for connection in plan.incoming(target):
            flat = values[connection.source].reshape(2, -1)
            product = (flat @ connection.matrix().T).reshape(2, *connection.shape_out)
            np.testing.assert_array_equal(product, connection(values[connection.source]))


def worker_linear() -> ModuleType:
    """The worker's arithmetic: NumPy alone, so it can be loaded here."""
    path = WORKER / "icsnn_lava" / "linear.py"
    spec = importlib.util.spec_from_file_location("icsnn_lava_linear", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


LINEAR = worker_linear()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(if_graphs())
def test_the_workers_arithmetic_is_the_references(graph: Graph) -> None:
    plan = make_plan(graph)
    netlist = assemble(plan, BATCHED, samples(graph, 1), 1)
    described = {p.name: p for p in only(netlist, "batch-connection")}
    for connection in plan.connections:
        process = described[connection.name]
        layers = tuple(
            LINEAR.Layer(**layer, array=process.arrays.get(f"layer{number}"))
            for number, layer in enumerate(process.options["layers"])
        )
        linear = LINEAR.LinearMap(connection.source, layers, "float64", False)
        x = np.random.default_rng(0).integers(-8, 9, (3, *connection.shape_in)).astype(float)
        np.testing.assert_array_equal(linear(x), connection(x))


def test_reach_bounds_what_comes_out() -> None:
    graph = integer_network()
    plan = make_plan(graph)
    x = np.random.default_rng(0).integers(0, 256, (50, *graph.input.shape)).astype(np.uint8)
    recording = ReferenceSimulator(graph).run(x, Record(potentials=frozenset({"if"})))
    node = graph.node("if")
    assert isinstance(node, IF)
    u = recording.potentials["if"]
    first = np.abs(u[0] - node.v_init).max()
    assert 0.2 * plan.reach("if") < first <= plan.reach("if")
    assert np.abs(u).max() <= potential_reach(plan, node)


def integer_network(v_threshold: int = 5000, weight: int = 128, time_steps: int = 7) -> Graph:
    rng = np.random.default_rng(0)
    nodes: list[Node] = [
        Input(name="input", shape=(2, 5, 5), dtype="uint8"),
        Conv(
            name="conv",
            inputs=("input",),
            weight=rng.integers(-weight, weight, (3, 2, 3, 3)).astype(np.int16),
            bias=rng.integers(-9, 9, 3).astype(np.int32),
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
        ),
        IF(
            name="if",
            inputs=("conv",),
            v_threshold=np.full((3, 1, 1), v_threshold, np.int32),
            v_init=np.full((3, 1, 1), v_threshold // 2 + 0.5, np.float32),
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
    return Graph(nodes=tuple(nodes), time_steps=time_steps)


WEIGHTS = st.lists(st.integers(-70000, 70000), min_size=1, max_size=6)


@given(WEIGHTS)
@example([-256])  # mixed signs hold it, negative weights alone do not
def test_lava_leaves_the_weights_as_they_are(values: list[int]) -> None:
    """The rule that lava-nc cuts weights by, applied to what it is given: nothing changes."""
    matrix = np.array([values])
    total = np.zeros_like(matrix)
    for weight, exponent in lava_weights(matrix, "fixed_pt"):
        low, high = weight.min(), weight.max()
        if low >= 0:
            assert high <= 255
        elif high <= 0:
            assert low >= -255
        else:
            assert low >= -256
            assert high <= 254
            assert not (weight & 1).any()
        total = total + (weight.astype(np.int64) << exponent)
    np.testing.assert_array_equal(total, matrix)


@pytest.mark.parametrize(
    ("values", "count"),
    [([0, 255], 1), ([-255, 0], 1), ([-256, 254], 1), ([-1, 2], 2), ([256], 1), ([0], 1)],
)
def test_how_many_connections_a_matrix_takes(values: list[int], count: int) -> None:
    assert len(lava_weights(np.array([values]), "fixed_pt")) == count


def test_which_of_lavas_connections_are_used() -> None:
    plan = make_plan(integer_network())
    parts = {c.target: stock_parts(c, 1, "fixed_pt", True) for c in plan.connections}
    assert [part.process.kind for part in parts["if"]] == ["conv"]
    assert {part.process.kind for part in parts["output"]} == {"dense"}
    copies = {c.target: stock_parts(c, 3, "fixed_pt", True) for c in plan.connections}
    assert copies["if"][0].process.options["groups"] == 3
    assert {part.process.kind for part in copies["output"]} == {"sparse"}
    many = stock_parts(plan.connections[0], 64, "fixed_pt", True)  # beyond Conv's 8-bit geometry
    assert {part.process.kind for part in many} == {"sparse"}


def test_copies_are_blocks_of_the_matrix() -> None:
    (connection,) = make_plan(integer_network()).incoming("output")
    total = np.zeros((8, 150), np.int64)
    for part in stock_parts(connection, 2, "fixed_pt", False):
        arrays, options = part.process.arrays, part.process.options
        assert options["shape"] == [8, 150]
        np.add.at(
            total,
            (arrays["row"], arrays["column"]),
            arrays["value"].astype(int) << options["weight_exp"],
        )
    np.testing.assert_array_equal(total, np.kron(np.eye(2, dtype=int), connection.matrix()))


def test_the_matrix_of_many_sources_is_found_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = make_plan(integer_network()).connections
    whole = [connection.matrix() for connection in connections]
    monkeypatch.setattr(plan_module, "_VALUES_AT_ONCE", 110)  # two at a time, then one
    for connection, matrix in zip(connections, whole, strict=True):
        np.testing.assert_array_equal(connection.matrix(), matrix)
        assert connection.matrix().dtype == matrix.dtype == np.int64


def only(netlist: Netlist, kind: str) -> list[Process]:
    return [process for process in netlist.processes if process.kind == kind]


def test_periods_and_copies() -> None:
    graph = two_paths()
    x = samples(graph, 5)
    netlist = assemble(make_plan(graph), BATCHED, x, 2)
    assert netlist.steps == 3 * 5 + 4
    (source,) = only(netlist, "source")
    data = source.arrays["data"]
    assert data.shape == (3, 2, 2, 4, 4)
    np.testing.assert_array_equal(data.reshape(6, 2, 4, 4)[:5], x)
    assert not data[2, 1].any()
    delays = {process.name: process.options["delay"] for process in only(netlist, "delay-line")}
    assert delays == {"delay/input/3": 3, "delay/if0/2": 2}
    assert [p.options["offset"] for p in only(netlist, "soft-reset-if")] == [1, 2, 3]


def test_steady_input_is_marked() -> None:
    graph = two_paths()
    netlist = assemble(make_plan(graph), BATCHED, samples(graph, 1), 1)
    steady = {p.name for p in only(netlist, "batch-connection") if p.options["steady"]}
    assert steady == {"connection/input/if0", "connection/input/output"}
    events = graph.replace(replace(graph.input, encoding="events"))
    timed = assemble(make_plan(events), BATCHED, np.zeros((5, 1, 2, 4, 4)), 1)
    assert not any(p.options["steady"] for p in only(timed, "batch-connection"))


def test_products_take_the_narrowest_exact_type() -> None:
    def types(graph: Graph) -> list[str]:
        style = BATCHED if not graph.is_integer else FIXED
        shape = (1, *graph.input.shape)
        netlist = assemble(make_plan(graph), style, np.zeros(shape, graph.input.dtype), 1)
        return [p.options["dtype"] for p in only(netlist, "batch-connection")]

    assert types(integer_network()) == ["float32", "float32"]
    assert types(integer_network(weight=32000)) == ["float64", "float32"]
    assert types(two_paths()) == ["float64"] * 6


def test_lif_starts_and_fires_where_it_should() -> None:
    graph = integer_network()
    node = graph.node("if")
    assert isinstance(node, IF)
    thresholds = np.array([3000, 5000, 4000], np.int32).reshape(3, 1, 1)
    graph = graph.replace(replace(node, v_threshold=thresholds))
    netlist = assemble(make_plan(graph), LIF_FIXED, np.zeros((2, 2, 5, 5), np.uint8), 2)
    (lif,) = only(netlist, "lif")
    assert lif.options["vth"] == 4999
    u = lif.arrays["u"].reshape(2, 3, 25)
    np.testing.assert_array_equal(u[:, :, 0], [[64 * (2500 + d) for d in (2000, 0, 1000)]] * 2)
    gates = [p for p in only(netlist, "source") if p.name == "bias gate/"]
    assert gates[0].arrays["data"][:, 1].tolist() == [1] * 7 + [0, 0]


def test_a_float_network_is_no_network_of_integers() -> None:
    for style in (FIXED, LIF_FIXED, replace(LIF_FIXED, tag="floating_pt")):
        with pytest.raises(LatticeError, match="icsnn quantize"):
            check_range(make_plan(two_paths()), style)
    check_range(make_plan(two_paths()), BATCHED)


def test_everything_that_does_not_fit_is_listed() -> None:
    graph = integer_network(v_threshold=2**23, weight=32000)
    with pytest.raises(GraphError) as caught:
        check_range(make_plan(graph), FIXED)
    message = str(caught.value)
    assert "current up to" in message
    assert "v_threshold up to 8,388,608" in message
    assert message.count("Quantize to fewer bits") == 2


def test_lif_has_17_bits() -> None:
    plan = make_plan(integer_network())
    with pytest.raises(GraphError, match=r"if: potentials up to [\d,]+\n +allowed  below 131,072"):
        check_range(plan, LIF_FIXED)
    check_range(plan, replace(LIF_FIXED, tag="floating_pt"))
    check_range(make_plan(integer_network(weight=4)), LIF_FIXED)


def test_lif_would_fire_too_soon() -> None:
    graph = integer_network(weight=4)
    node = graph.node("if")
    assert isinstance(node, IF)
    graph = graph.replace(replace(node, v_init=node.v_threshold + 0.5))
    with pytest.raises(GraphError, match="v_init of v_threshold or more"):
        check_range(make_plan(graph), LIF_FIXED)


def test_a_mean_is_no_integer() -> None:
    graph = integer_network(weight=4)
    pool = AvgPool(name="pool", inputs=("if",), kernel=(1, 1), stride=(1, 1), padding=((0, 0),) * 2)
    with pytest.raises(GraphError, match=r"pool: a mean"):
        check_range(make_plan(insert_after(graph, "if", pool)), FIXED)


def test_large_networks_are_too_large_for_matrices() -> None:
    rng = np.random.default_rng(0)
    shape = (16, 32, 32)
    nodes: list[Node] = [
        Input(name="input", shape=shape),
        conv("conv", "input", rng, (16, 16)),
        spiking("if", "conv", rng, shape),
        Output(name="output", inputs=("if",)),
    ]
    plan = make_plan(Graph(nodes=tuple(nodes), time_steps=1))
    assert matrix_entries(plan) == 2 * (16 * 1024) ** 2
    with pytest.raises(GraphError, match="536,870,912 pairs of neurons"):
        check_range(plan, replace(BATCHED, connections="stock"))
    check_range(plan, BATCHED)
