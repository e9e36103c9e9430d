"""The identities of the integrate-and-fire network that everything else is built on.

All numbers are small multiples of a power of two, so both sides are computed without rounding and
compared for equality.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate, run_ann
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array, if_step
from icsnn_deploy.graph.nodes import IF, AvgPool, ChannelAffine, Conv, Input, Node, Output
from icsnn_deploy.passes.fold_scales import fold_scales
from tests.support.graphs import dyadic, if_graphs, samples

seeds = st.integers(0, 2**32 - 1)
sixteenths = st.integers(-64, 64).map(lambda n: n / 16)
thresholds = st.integers(1, 48).map(lambda n: n / 16)
powers = st.integers(-2, 2).map(lambda n: 2.0**n)


def spikes_of(currents: Array, v_threshold: float, v_init: float) -> tuple[Array, float]:
    """Spikes [T] of one neuron for its currents [T], and v(T)."""
    v, threshold, spikes = np.array(v_init), np.array(v_threshold), []
    for current in currents:
        s, _, v = if_step(v, np.array(current), threshold)
        spikes.append(int(s))
    return np.array(spikes), float(v)


def only_output(nodes: list[Node], time_steps: int | None = None) -> Graph:
    output = Output(name="output", inputs=(nodes[-1].name,))
    return Graph(nodes=(*nodes, output), time_steps=time_steps)


def run_everything(graph: Graph, x: Array) -> tuple[dict[str, Array], Array]:
    recording = ReferenceSimulator(graph).run(x)
    return dict(recording.spikes), recording.logits


# 1. Scale


@given(if_graphs(), st.data())
def test_scaling_a_population_and_what_reaches_it_leaves_every_spike(
    graph: Graph, data: st.DataObject
) -> None:
    changed = graph
    for conv in graph.nodes_of(Conv):
        (consumer,) = graph.consumers(conv.name)[:1]
        if not isinstance(consumer, IF):
            continue
        divisor = np.array([data.draw(powers) for _ in conv.bias])
        rows = divisor.reshape(-1, *(1,) * (conv.weight.ndim - 1))
        per_channel = divisor.reshape(-1, *(1,) * (conv.weight.ndim - 2))
        changed = changed.replace(
            replace(conv, weight=conv.weight / rows, bias=conv.bias / divisor),
            replace(
                consumer,
                v_threshold=consumer.v_threshold / per_channel,
                v_init=consumer.v_init / per_channel,
            ),
        )
    x = samples(graph, 2)
    spikes, logits = run_everything(graph, x)
    scaled_spikes, scaled_logits = run_everything(changed, x)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(scaled_spikes[name], expected)
    np.testing.assert_array_equal(scaled_logits, logits)


# 2. Amplitude


@given(seeds, st.integers(1, 6), st.sampled_from([1, 2]))
def test_emitting_the_amplitude_equals_folding_it_into_the_weights(
    seed: int, time_steps: int, groups: int
) -> None:
    rng = np.random.default_rng(seed)
    v_threshold = dyadic(rng, 2, 1, 1, low=1, high=64)
    population = IF(
        name="if", inputs=("input",), v_threshold=v_threshold, v_init=dyadic(rng, 2, 1, 1)
    )
    weight = dyadic(rng, 4, 2 // groups, 2, 2)
    conv = Conv(
        name="conv",
        inputs=("amplitude",),
        weight=weight,
        bias=dyadic(rng, 4),
        stride=(1, 1),
        padding=((1, 0), (0, 1)),
        dilation=(1, 1),
        groups=groups,
    )
    per_input = np.tile(v_threshold.reshape(groups, -1), (1, 4 // groups)).reshape(4, -1, 1, 1)
    emitted = only_output(
        [
            Input(name="input", shape=(2, 3, 3)),
            population,
            ChannelAffine(
                name="amplitude",
                inputs=("if",),
                scale=v_threshold,
                shift=np.zeros((1, 1, 1), np.float32),
            ),
            conv,
        ],
        time_steps,
    )
    by_hand = only_output(
        [
            Input(name="input", shape=(2, 3, 3)),
            population,
            replace(conv, inputs=("if",), weight=weight * per_input),
        ],
        time_steps,
    )
    x = dyadic(rng, 2, 2, 3, 3, low=-64, high=64)
    expected = ReferenceSimulator(emitted).run(x).logits
    np.testing.assert_array_equal(ReferenceSimulator(by_hand).run(x).logits, expected)
    assert fold_scales(emitted).hash() == by_hand.hash()


# 3. Average pooling


@given(seeds, st.sampled_from([1, 2, 4]), st.integers(1, 2), st.integers(1, 2))
def test_average_pooling_and_a_convolution_are_one_strided_convolution(
    seed: int, pool: int, kernel: int, stride: int
) -> None:
    rng = np.random.default_rng(seed)
    weight, bias = dyadic(rng, 3, 2, kernel, kernel), dyadic(rng, 3)
    free: dict[str, Any] = {"padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    pooled = AvgPool(
        name="pool",
        inputs=("input",),
        kernel=(pool, pool),
        stride=(pool, pool),
        padding=((0, 0), (0, 0)),
    )
    conv = Conv(
        name="conv", inputs=("pool",), weight=weight, bias=bias, stride=(stride, stride), **free
    )
    spread = np.kron(weight, np.ones((pool, pool))) / pool**2
    merged = Conv(
        name="conv",
        inputs=("input",),
        weight=spread,
        bias=bias,
        stride=(stride * pool, stride * pool),
        **free,
    )
    s = rng.integers(0, 2, (2, 2, 8, 8)).astype(np.float64)
    summed = evaluate(pooled, s) * pool**2
    np.testing.assert_array_equal(summed, np.round(summed))  # integers: 1/k^2 goes to the weights
    np.testing.assert_array_equal(evaluate(merged, s), evaluate(conv, evaluate(pooled, s)))


# 4. Batch normalization


@given(seeds, st.sampled_from([1, 2]))
def test_a_normalization_folds_into_the_convolution_before_it(seed: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    conv = Conv(
        name="conv",
        inputs=("input",),
        weight=dyadic(rng, 4, 2 // groups, 3, 3),
        bias=dyadic(rng, 4),
        stride=(1, 1),
        padding=((1, 1), (1, 1)),
        dilation=(1, 1),
        groups=groups,
    )
    # gamma / sqrt(var + eps) and beta - mean * gamma / sqrt(var + eps)
    gamma, beta, mean = dyadic(rng, 4, 1, 1), dyadic(rng, 4, 1, 1), dyadic(rng, 4, 1, 1)
    norm = ChannelAffine(name="norm", inputs=("conv",), scale=gamma, shift=beta - mean * gamma)
    graph = only_output([Input(name="input", shape=(2, 4, 4)), conv, norm])
    folded = fold_scales(graph)
    assert [node.kind for node in folded.nodes] == ["input", "conv", "output"]
    x = samples(graph, 3)
    by_hand = (evaluate(conv, x.astype(np.float64)) - mean) * gamma + beta
    np.testing.assert_array_equal(run_ann(folded, x), by_hand)


# 5. to 7. The spike count


@given(sixteenths, thresholds, st.data(), st.integers(1, 40))
def test_spike_count_of_a_constant_current(
    current: float, v_threshold: float, data: st.DataObject, time_steps: int
) -> None:
    units = round(v_threshold * 16)
    v_init = data.draw(st.integers(0, units - 1)) / 16
    spikes, _ = spikes_of(np.full(time_steps, current), v_threshold, v_init)
    t = np.arange(1, time_steps + 1)
    formula = np.clip(np.floor((v_init + t * current) / v_threshold), 0, t)
    np.testing.assert_array_equal(spikes.cumsum(), formula)


@given(st.lists(sixteenths, min_size=1, max_size=30), thresholds, sixteenths)
def test_spike_count_follows_its_recursion_for_any_current(
    currents: list[float], v_threshold: float, v_init: float
) -> None:
    spikes, _ = spikes_of(np.array(currents), v_threshold, v_init)
    fair = np.floor((v_init + np.cumsum(currents)) / v_threshold)
    count, expected = 0, []
    for share in fair:
        count = max(count, min(count + 1, int(share)))
        expected.append(count)
    np.testing.assert_array_equal(spikes.cumsum(), expected)


@given(st.lists(sixteenths.map(abs), min_size=1, max_size=30), thresholds, st.data())
def test_spike_count_in_closed_form_for_current_that_is_never_negative(
    currents: list[float], v_threshold: float, data: st.DataObject
) -> None:
    v_init = data.draw(st.integers(0, 64)) / 16
    spikes, _ = spikes_of(np.array(currents), v_threshold, v_init)
    t = np.arange(1, len(currents) + 1)
    fair = np.floor((v_init + np.cumsum(currents)) / v_threshold)
    closed = t + np.minimum(0, np.minimum.accumulate(fair - t))
    np.testing.assert_array_equal(spikes.cumsum(), closed)


@given(st.lists(sixteenths, min_size=1, max_size=30), thresholds, sixteenths)
def test_charge_is_conserved_in_one_neuron(
    currents: list[float], v_threshold: float, v_init: float
) -> None:
    spikes, v = spikes_of(np.array(currents), v_threshold, v_init)
    assert np.sum(currents) == v_threshold * spikes.sum() + v - v_init


@given(if_graphs())
def test_charge_is_conserved_in_every_population_of_a_network(graph: Graph) -> None:
    names = frozenset(node.name for node in graph.nodes_of(IF))
    x = samples(graph, 2)
    recording = ReferenceSimulator(graph).run(x, Record(potentials=names))
    values = {graph.input.name: np.stack([x.astype(np.float64)] * graph.steps)}
    for node in graph.nodes[1:]:
        sources = [values[name] for name in node.inputs]
        if isinstance(node, IF):
            spikes = recording.spikes[node.name].astype(np.float64)
            u, v_threshold = recording.potentials[node.name], node.v_threshold.astype(np.float64)
            v_end = u[-1] - v_threshold * spikes[-1]
            charge = v_threshold * spikes.sum(axis=0) + v_end - node.v_init
            np.testing.assert_array_equal(sources[0].sum(axis=0), charge)
            values[node.name] = spikes
        else:
            steps = [evaluate(node, *(s[t] for s in sources)) for t in range(graph.steps)]
            values[node.name] = np.stack(steps)
