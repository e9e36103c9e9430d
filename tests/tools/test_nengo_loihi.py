"""nengo-loihi's emulator of Loihi 1 against the reference, and its overflows against the check."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import GraphError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Input, Linear, Output
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.targets.check import check
from icsnn_deploy.tools.environment import TOOLS
from icsnn_deploy.tools.simulator import ToolSimulator
from tests.tools.conftest import inputs_of, random_networks

pytestmark = pytest.mark.nengo_loihi

TOOL = TOOLS["nengo-loihi"]
MOST = 2**21 // (
    2 << 6
)  # of one step, in lattice units: 22 bits signed, weights doubled, 6 bits up
CASES = 200


@pytest.mark.parametrize("name", ["demo", "cifar"])
def test_every_spike_and_logit_of_a_network_is_equal(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    (found,) = verify(bundle, "nengo-loihi", bundle.samples()[:4], progress=None).comparisons
    print(f"{name}: {found.spike_mismatches} of {found.spikes_compared:,} spikes differ")
    assert found.verdict == "pass", found.reason
    assert sum(fired for fired, _ in found.spike_counts.values()) > 1000
    assert found.spikes_compared > 10_000


def test_the_least_decay_that_the_hardware_validator_takes_changes_some_spikes(
    demo: Bundle,
) -> None:
    x = demo.samples()[:4]
    (found,) = verify(demo, "nengo-loihi:decay-0", x, progress=None).comparisons
    print(f"decay 0: {found.spike_mismatches} of {found.spikes_compared:,} spikes differ")
    assert found.verdict == "fail"
    assert 0 < found.spike_mismatches < 0.02 * found.spikes_compared


@pytest.mark.parametrize("number", range(2))
def test_joins_and_spike_inputs_are_equal(number: int) -> None:
    graph = random_networks()[number]
    x = inputs_of(graph, 3)
    wanted = ReferenceSimulator(graph).run(x)
    got = ToolSimulator(graph, TOOL).run(x)
    assert len(got.spikes) >= 1
    for name, spikes in got.spikes.items():
        np.testing.assert_array_equal(spikes, wanted.spikes[name])
    np.testing.assert_array_equal(got.logits, wanted.logits)


def test_hard_reset_is_refused() -> None:
    graph = random_networks()[1]
    hard = graph.replace(
        *(replace(node, v_reset=np.full_like(node.v_init, 0.5)) for node in graph.nodes_of(IF))
    )
    with pytest.raises(GraphError, match="soft reset only"):
        ToolSimulator(hard, TOOL)


@pytest.mark.parametrize(("inputs", "fits"), [(129, True), (130, False)])
def test_inputs_of_weight_127_overflow_from_130_on(inputs: int, fits: bool) -> None:
    graph = population(np.full((1, inputs), 127), bias=0, threshold=100)
    assert is_accumulated(graph) == fits
    assert runs(graph, np.ones((graph.steps, 1, inputs), np.uint8)) == fits


def test_the_check_and_the_emulator_agree_on_what_overflows() -> None:
    rng = np.random.default_rng(7)
    fitting = 0
    for case in range(CASES):
        graph, x = near_the_limit(rng, convolution=case % 2 == 1)
        fits = is_accumulated(graph)
        assert runs(graph, x) == fits, f"case {case}"
        fitting += fits
    assert CASES // 4 < fitting < CASES - CASES // 4


def near_the_limit(rng: np.random.Generator, *, convolution: bool) -> tuple[Graph, Array]:
    """A population whose largest or least current is within 3 of the accumulator's limit.

    Its inputs reach both: for each neuron one sample with all that excites it, then all that
    inhibits it, after the spike that subtracts the threshold.
    """
    count, fan_in = int(rng.integers(1, 4)), int(rng.integers(22, 34)) * 9
    weight = rng.choice([-1, 1], (count, fan_in)) * rng.integers(64, 128, (count, fan_in))
    threshold = int(rng.integers(1, 200))
    excited = np.maximum(weight, 0).sum(axis=1)
    inhibited = np.minimum(weight, 0).sum(axis=1)
    beyond = int(rng.integers(-3, 4))
    if rng.random() < 0.5:
        bias = MOST - 1 + beyond - int(excited.max())
    else:
        bias = -MOST + beyond + threshold - int(inhibited.min())
    graph = population(weight, bias, threshold, convolution=convolution)
    x = np.zeros((graph.steps, count, fan_in), np.uint8)
    x[0] = x[1] = weight > 0
    x[2] = weight < 0
    return graph, x.reshape(graph.steps, count, *graph.input.shape)


def population(weight: Array, bias: int, threshold: int, *, convolution: bool = False) -> Graph:
    """One population that spikes drive; each neuron's whole fan-in is one row of the weights."""
    count, fan_in = weight.shape
    shape = (fan_in // 9, 3, 3) if convolution else (fan_in,)
    biases = np.full(count, bias, np.int32)
    node = (
        Conv(
            name="weight",
            inputs=("input",),
            weight=weight.reshape(count, *shape).astype(np.int8),
            bias=biases,
            stride=(1, 1),
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
            groups=1,
        )
        if convolution
        else Linear(name="weight", inputs=("input",), weight=weight.astype(np.int8), bias=biases)
    )
    ones = (1,) * len(shape)
    nodes = (
        Input(name="input", shape=shape, dtype="uint8", encoding="rate"),
        node,
        IF(
            name="population",
            inputs=("weight",),
            v_threshold=np.full(ones, threshold, np.int32),
            v_init=np.full(ones, threshold - 0.5, np.float32),
        ),
        Output(name="output", inputs=("population",)),
    )
    return Graph(nodes=nodes, time_steps=3)


def is_accumulated(graph: Graph) -> bool:
    """Whether the check finds that the accumulator holds every step's current."""
    return not any(m.what == "accumulator width" for m in check(graph, "loihi1").misfits)


def runs(graph: Graph, x: Array) -> bool:
    """Whether the emulator runs without an overflow of the accumulator, and then is equal."""
    try:
        recording = ToolSimulator(graph, TOOL).run(x)
    except SimulationError as error:
        assert "Overflow in q0" in str(error)  # noqa: PT017
        return False
    wanted = ReferenceSimulator(graph).run(x).spikes["population"]
    np.testing.assert_array_equal(recording.spikes["population"], wanted)
    return True
