"""Rules for the initial potential, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.v_init_rules import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    Reading,
    Reduce,
    VInitRule,
    WeightResidual,
    Zero,
    set_v_init,
)
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, Input, Linear, Node, Output, Relu
from tests.support.graphs import dyadic, residual_network, samples

TIME_STEPS = 4

ALL_RULES: list[VInitRule] = [
    Zero(),
    Half(),
    WeightResidual(),
    *(DataResidual(reduce=reduce) for reduce in ("mod", "clamp", "raw")),
    *(Compensation(reading=reading) for reading in ("printed", "equation")),
    *(
        CompensatedResidual(reduce=reduce, reading=reading)
        for reduce in ("mod", "clamp", "raw")
        for reading in ("printed", "equation")
    ),
]


def linear(name: str, source: str, weight: list[list[float]], bias: list[float]) -> Linear:
    return Linear(name=name, inputs=(source,), weight=np.array(weight), bias=np.array(bias))


def two_layers() -> Graph:
    """Two inputs, two rectifiers of two neurons, one output."""
    nodes: tuple[Node, ...] = (
        Input(name="input", shape=(2,)),
        linear("first", "input", [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.25]),
        Relu(name="relu1", inputs=("first",)),
        linear("second", "relu1", [[1.0, -0.5], [-2.0, 1.0]], [0.25, 0.0]),
        Relu(name="relu2", inputs=("second",)),
        linear("head", "relu2", [[1.0, 1.0]], [0.0]),
        Output(name="output", inputs=("head",)),
    )
    return Graph(nodes=nodes)


def spiking(ann: Graph, v_threshold: dict[str, Array]) -> Graph:
    """Populations of these thresholds, with an initial potential that every rule must replace."""
    populations = {
        name: PopulationParameters(v_threshold=value, v_init=np.full_like(value, 77.0))
        for name, value in v_threshold.items()
    }
    return to_spiking(ann, populations, TIME_STEPS)


def two_populations() -> Graph:
    return spiking(two_layers(), {"relu1": np.array([1.5, 2.0]), "relu2": np.array([1.5])})


def initialized(network: Graph, rule: VInitRule, x: Array, ann: Graph | None = None) -> Graph:
    context = CalibrationContext.of(x, batch_size=2)
    return set_v_init(network, rule.v_init(network, ann or two_layers(), context))


def v_init(network: Graph, name: str) -> Array:
    node = network.node(name)
    assert isinstance(node, IF)
    return node.v_init


SAMPLES = np.array([[1.25, 0.5], [-1.0, 2.0], [0.375, -0.75]], np.float32)


def test_zero() -> None:
    network = initialized(two_populations(), Zero(), SAMPLES)
    assert v_init(network, "relu1").tolist() == [0, 0]
    assert v_init(network, "relu2").tolist() == [0]


@pytest.mark.parametrize(
    ("rule", "share"),
    [
        (Half(), 0.5),
        (Compensation(reading="printed"), 0.5 / TIME_STEPS),
        (Compensation(reading="equation"), 0.5),
    ],
)
def test_a_share_of_each_threshold(rule: VInitRule, share: float) -> None:
    network = initialized(two_populations(), rule, SAMPLES)
    assert v_init(network, "relu1").tolist() == [1.5 * share, 2.0 * share]
    assert v_init(network, "relu2").tolist() == [1.5 * share]


# Algorithm 1


def test_algorithm_1_is_the_mean_floored_remainder_of_the_weights() -> None:
    network = initialized(two_populations(), WeightResidual(), SAMPLES)
    # relu2, threshold 1.5: w T + b = 4.25, -1.75, -8, 4; remainders 1.25, 1.25, 1, 1
    assert v_init(network, "relu2").tolist() == [1.125]
    # relu1, mean threshold 1.75: 4, 0, 0.25, 4.25; remainders 0.5, 0, 0.25, 0.75
    assert v_init(network, "relu1").tolist() == [0.375, 0.375]


def test_algorithm_1_takes_the_weights_of_the_ann_not_those_with_amplitudes() -> None:
    ann = two_layers()
    for amplitude in (1.0, 4.0):
        thresholds = {"relu1": np.array([amplitude]), "relu2": np.array([1.5])}
        network = initialized(spiking(ann, thresholds), WeightResidual(), SAMPLES)
        assert v_init(network, "relu2").tolist() == [1.125]


def test_algorithm_1_counts_the_weights_of_every_branch_of_a_sum() -> None:
    ann = Graph(
        nodes=(
            Input(name="input", shape=(1,)),
            linear("left", "input", [[0.75]], [0.25]),  # 3.25 mod 2 = 1.25
            linear("right", "input", [[-0.25]], [0.5]),  # -0.5 mod 2 = 1.5
            Add(name="add", inputs=("left", "right")),
            Relu(name="relu", inputs=("add",)),
            Output(name="output", inputs=("relu",)),
        )
    )
    network = spiking(ann, {"relu": np.array([2.0])})
    found = initialized(network, WeightResidual(), np.ones((1, 1), np.float32), ann)
    assert v_init(found, "relu").tolist() == [1.375]


def test_algorithm_1_of_a_population_without_weights_is_zero() -> None:
    ann = Graph(
        nodes=(
            Input(name="input", shape=(1,)),
            Relu(name="relu", inputs=("input",)),
            Output(name="output", inputs=("relu",)),
        )
    )
    network = spiking(ann, {"relu": np.array([2.0])})
    found = initialized(network, WeightResidual(), np.ones((1, 1), np.float32), ann)
    assert v_init(found, "relu").tolist() == [0]


# Algorithm 2


@pytest.mark.parametrize(
    ("reduce", "v"),
    [("raw", [2, 0.75, 0, -4.75]), ("clamp", [1, 0.75, 0, 0]), ("mod", [0, 0.75, 0, 0.25])],
)
def test_algorithm_2_on_one_population_by_hand(reduce: Reduce, v: list[float]) -> None:
    ann = Graph(
        nodes=(
            Input(name="input", shape=(1,)),
            Relu(name="relu", inputs=("input",)),
            Output(name="output", inputs=("relu",)),
        )
    )
    # T = 4, threshold 1. Charge 4 x: 1 -> 4 spikes, v(T) 0; 0.1875 -> 0.75, none, v(T) 0.75;
    # 1.5 -> 6, 4 spikes, v(T) 2; -1.1875 -> none, v(T) -4.75, remainder 0.25.
    x = np.array([[1.5], [0.1875], [1.0], [-1.1875]], np.float32)
    network = spiking(ann, {"relu": np.array([1.0])})
    found = v_init(initialized(network, DataResidual(reduce=reduce), x, ann), "relu")
    assert found.tolist() == [sum(v) / 4]


def residuals(network: Graph, x: Array) -> dict[str, tuple[Array, Array]]:
    """v(T) [B, *shape] of the reference simulator and the threshold, for each population.

    From conservation: v(T) = v_init + T mean(I) - v_threshold N(T), where the charge is what the
    potentials u[t] gain over the steps.
    """
    names = frozenset(node.name for node in network.nodes_of(IF))
    recording = ReferenceSimulator(network).run(x, Record(potentials=names))
    found = {}
    for node in network.nodes_of(IF):
        v_threshold, start = node.v_threshold.astype(np.float64), node.v_init.astype(np.float64)
        u, s = recording.potentials[node.name], recording.spikes[node.name].astype(np.float64)
        before = np.concatenate([np.broadcast_to(start, u[:1].shape), (u - v_threshold * s)[:-1]])
        charge = (u - before).sum(axis=0)  # T mean(I)
        found[node.name] = (start + charge - v_threshold * s.sum(axis=0), v_threshold)
    return found


def reduced(v: Array, v_threshold: Array, reduce: Reduce) -> float:
    match reduce:
        case "mod":
            v = v - v_threshold * np.floor(v / v_threshold)
        case "clamp":
            v = np.clip(v, 0, v_threshold)
    return float(v.mean())


def with_share(network: Graph, share: float) -> Graph:
    return network.replace(
        *(replace(node, v_init=node.v_threshold * share) for node in network.nodes_of(IF))
    )


def dyadic_network() -> tuple[Graph, Array]:
    """A residual network of powers of two as thresholds, so that both sides are exact."""
    network = residual_network(seed=2, time_steps=TIME_STEPS)
    rng = np.random.default_rng(0)
    network = network.replace(
        *(
            replace(node, v_threshold=2.0 ** rng.integers(-1, 2, (4, 1, 1)))
            for node in network.nodes_of(IF)
        )
    )
    return network, samples(network, 5)


@pytest.mark.parametrize("reduce", ["mod", "clamp", "raw"])
def test_algorithm_2_is_the_mean_residual_of_the_reference(reduce: Reduce) -> None:
    network, x = dyadic_network()
    found = initialized(network, DataResidual(reduce=reduce), x)
    for name, (v, v_threshold) in residuals(with_share(network, 0.0), x).items():
        expected = np.float32(reduced(v, v_threshold, reduce))
        np.testing.assert_array_equal(v_init(found, name), np.full((4, 1, 1), expected))


def test_the_readings_of_algorithm_2_differ_and_only_raw_can_be_negative() -> None:
    network, x = dyadic_network()
    x[:, :] -= 1  # inhibit
    means = {
        reduce: v_init(initialized(network, DataResidual(reduce=reduce), x), "stem.if").mean()
        for reduce in ("mod", "clamp", "raw")
    }
    assert len(set(means.values())) == 3
    assert means["raw"] < 0 <= min(means["mod"], means["clamp"])


@pytest.mark.parametrize("reduce", ["mod", "clamp", "raw"])
@pytest.mark.parametrize(("reading", "share"), [("printed", 0.5 / TIME_STEPS), ("equation", 0.5)])
def test_algorithm_3_compensates_runs_algorithm_2_from_there_and_compensates_again(
    reduce: Reduce, reading: Reading, share: float
) -> None:
    network, x = dyadic_network()
    found = initialized(network, CompensatedResidual(reduce=reduce, reading=reading), x)
    compensated = with_share(network, share)
    for name, (v, v_threshold) in residuals(compensated, x).items():
        shift = (v_threshold * share).astype(np.float32)
        expected = shift + np.float32(reduced(v, v_threshold, reduce))
        np.testing.assert_array_equal(v_init(found, name), expected)


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_nothing_but_the_initial_potentials_changes(rule: VInitRule) -> None:
    network = two_populations()
    found = initialized(network, rule, SAMPLES)
    assert found.hash() != network.hash()
    restored = found.replace(*network.nodes_of(IF))
    assert restored.hash() == network.hash()


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_the_former_initial_potential_has_no_influence(rule: VInitRule) -> None:
    network = two_populations()
    other = network.replace(
        *(replace(node, v_init=node.v_init * 0 - 3) for node in network.nodes_of(IF))
    )
    assert initialized(other, rule, SAMPLES).hash() == initialized(network, rule, SAMPLES).hash()


def test_the_batch_size_changes_nothing() -> None:
    network, x = dyadic_network()
    rule = CompensatedResidual()
    one, all_at_once = (
        rule.v_init(network, network, CalibrationContext.of(x, batch_size=size)) for size in (1, 5)
    )
    assert set_v_init(network, one).hash() == set_v_init(network, all_at_once).hash()


def test_progress_covers_the_samples() -> None:
    told: list[tuple[str, int, int | None]] = []
    context = CalibrationContext.of(
        dyadic(np.random.default_rng(0), 5, 2),
        batch_size=2,
        progress=lambda *args: told.append(args),
    )
    DataResidual().v_init(two_populations(), two_layers(), context)
    assert told == [("residuals", done, 3) for done in range(4)]


def test_each_rule_has_a_label_of_its_own() -> None:
    assert len({str(rule) for rule in ALL_RULES}) == len(ALL_RULES)
