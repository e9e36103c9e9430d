"""Random integer networks in Lava: not one spike differs, whichever processes run them.

Starting a Lava run takes about a second, most of an example. So examples are few, and each is one
worker that runs several networks in every style that takes them.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
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
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.lava.launch import run_netlists
from icsnn_deploy.lava.netlist import Netlist
from icsnn_deploy.lava.simulator import LavaSimulator


def integers(rng: np.random.Generator, low: int, high: int, *shape: int) -> Array:
    return rng.integers(low, high + 1, shape).astype(np.int32)


def convolution(
    draw: st.DrawFn, rng: np.random.Generator, name: str, source: str, channels: int
) -> Conv:
    """Keeps the image's size: kernel 1, or 3, evenly or unevenly padded for kernel 2."""
    kernel, padding = draw(st.sampled_from([(1, (0, 0)), (3, (1, 1)), (2, (1, 0)), (2, (0, 1))]))
    groups = draw(st.sampled_from([1, channels]))
    bits = draw(st.sampled_from([3, 9, 200]))  # 200 takes more than 8 bits with its sign
    return Conv(
        name=name,
        inputs=(source,),
        weight=integers(rng, -bits, bits, channels, channels // groups, kernel, kernel),
        bias=integers(rng, -40, 30, channels),
        stride=(1, 1),
        padding=(padding, padding),
        dilation=(1, 1),
        groups=groups,
    )


@st.composite
def integer_networks(draw: st.DrawFn) -> Graph:
    """1 to 4 populations; skips over any number of them, from the input too; sums as pooling.

    A threshold a channel, biases that pull down, v_init below v_threshold, T from 1 to 16; a third
    of them with hard reset.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 2, 3]))
    shape = (channels, 4, 5)
    encodings: list[Encoding] = ["direct", "direct", "events", "rate"]
    encoding = draw(st.sampled_from(encodings))
    pixels: list[InputDtype] = ["uint8", "int8"]
    dtype = draw(st.sampled_from(pixels)) if encoding == "direct" else "uint8"
    nodes: list[Node] = [Input(name="input", shape=shape, dtype=dtype, encoding=encoding)]
    sources = ["input"]
    hard = draw(st.sampled_from([False, False, True]))
    for number in range(draw(st.integers(1, 4))):
        node: Node = convolution(draw, rng, f"conv{number}", sources[-1], channels)
        nodes.append(node)
        if draw(st.booleans()):
            fork = draw(st.sampled_from(sources))
            skip = ChannelAffine(
                name=f"skip{number}",
                inputs=(fork,),
                scale=integers(rng, -20, 20, channels, 1, 1),
                shift=integers(rng, -5, 5, 1, 1, 1),
            )
            both = (node.name, skip.name, skip.name)[: draw(st.sampled_from([2, 3]))]
            node = Add(name=f"add{number}", inputs=both)
            nodes += [skip, node]
        scale = 40 if sources[-1] == "input" and encoding == "direct" else 1
        v_threshold = scale * integers(rng, 20, 90, channels, 1, 1)
        v_init = (rng.integers(-10, 20, (channels, 1, 1)) + np.float32(0.5)).astype(np.float32)
        name = f"if{number}"
        v_reset = (rng.integers(-9, 9, (1, 1, 1)) + np.float32(0.5)).astype(np.float32)
        population = IF(
            name=name,
            inputs=(node.name,),
            v_threshold=v_threshold,
            v_init=v_init,
            v_reset=v_reset if hard else None,
        )
        nodes.append(population)
        sources.append(name)
    pool = Conv(
        name="pool",
        inputs=(sources[-1],),
        weight=np.ones((channels, 1, 2, 2), np.int8),
        bias=np.zeros(channels, np.int8),
        stride=(2, 2),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=channels,
    )
    weight, bias = integers(rng, -99, 99, 3, channels * 4), integers(rng, -9, 9, 3)
    nodes += [
        pool,
        Flatten(name="flatten", inputs=("pool",)),
        Linear(name="head", inputs=("flatten",), weight=weight, bias=bias),
        Output(name="output", inputs=("head",)),
    ]
    steps = draw(st.integers(1, 16))
    start = draw(st.integers(0, steps - 1))
    return Graph(nodes=tuple(nodes), time_steps=steps, readout_start=start)


def inputs_of(graph: Graph, images: int) -> Array:
    rng = np.random.default_rng(1)
    if graph.input.is_timed:
        return rng.integers(0, 2, (graph.steps, images, *graph.input.shape)).astype(np.uint8)
    limits = np.iinfo(graph.input.dtype)
    return rng.integers(limits.min, limits.max + 1, (images, *graph.input.shape)).astype(
        limits.dtype
    )


def simulators(graph: Graph) -> list[LavaSimulator]:
    """Every style that takes the network: LIF has no hard reset, in fixed point but 17 bits."""
    found = [
        LavaSimulator(graph, arithmetic="fixed", connections="batched"),
        LavaSimulator(graph, arithmetic="fixed", connections="stock"),
        LavaSimulator(graph, arithmetic="float"),
    ]
    if not hard_resets(graph):
        found.append(LavaSimulator(graph, arithmetic="float", neurons="lif"))
        with suppress(GraphError):
            found.append(LavaSimulator(graph, arithmetic="fixed", neurons="lif"))
    return found


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(st.tuples(integer_networks(), st.integers(1, 3)), min_size=4, max_size=4))
def test_random_integer_networks(cases: list[tuple[Graph, int]]) -> None:
    runs = [
        (simulator, simulator.netlists(inputs_of(graph, images)), images)
        for graph, images in cases
        for simulator in simulators(graph)
    ]
    together: list[Netlist] = [netlist for _, netlists, _ in runs for netlist in netlists]
    results = run_netlists(find_worker().python, together)
    for simulator, netlists, images in runs:
        own, results = results[: len(netlists)], results[len(netlists) :]
        got = simulator.recording(own, netlists, images, Record())
        wanted = ReferenceSimulator(simulator.graph).run(inputs_of(simulator.graph, images))
        assert list(got.spikes) == list(wanted.spikes)
        for name, spikes in wanted.spikes.items():
            assert np.count_nonzero(got.spikes[name] != spikes) == 0
        np.testing.assert_array_equal(got.logits, wanted.logits)
    assert results == []
