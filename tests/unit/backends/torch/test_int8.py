"""Convolutions in 8-bit integers: which they are, and that no bit is lost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.int8 import int8_convolutions, misfits
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output
from tests.support.building import node_of

CPU = torch.device("cpu")


def _conv(name: str, source: str, weight: np.ndarray, bias: int = 0, **changes: Any) -> Conv:
    given: dict[str, Any] = {
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        **changes,
    }
    outputs = len(weight)
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.full(outputs, bias, np.int32),
        **given,
    )


def _network(largest: int = 127, pool: int = 2, channels: tuple[int, int] = (3, 4)) -> Graph:
    """conv, IF, sum over windows, conv, IF, linear; weights from -largest to largest."""
    generator = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        found = generator.integers(-largest, largest + 1, shape).astype(np.int32)
        found.flat[0], found.flat[-1] = largest, -largest
        return found

    def population(name: str, source: str, v_threshold: int) -> IF:
        return IF(
            name=name,
            inputs=(source,),
            v_threshold=np.full((1, 1, 1), v_threshold, np.int32),
            v_init=np.full((1, 1, 1), v_threshold // 2 + 0.5, np.float32),
        )

    side = 8 // pool
    first, second = channels
    return Graph(
        nodes=(
            Input(name="input", shape=(2, 8, 8), dtype="uint8"),
            _conv("conv1", "input", weight(first, 2, 3, 3)),
            population("if1", "conv1", 30000),
            _conv(
                "pool",
                "if1",
                np.ones((first, 1, pool, pool), np.int32),
                stride=(pool, pool),
                padding=((0, 0), (0, 0)),
                groups=first,
            ),
            _conv("conv2", "pool", weight(second, first, 3, 3), 5),
            population("if2", "conv2", 300),
            Flatten(name="flatten", inputs=("if2",)),
            Linear(
                name="head",
                inputs=("flatten",),
                weight=weight(5, second * side * side),
                bias=np.zeros(5, np.int32),
            ),
            Output(name="output", inputs=("head",)),
        ),
        time_steps=6,
    )


def _images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 2, 8, 8)).astype(np.uint8)


def test_they_are_those_that_take_spikes_or_sums_of_spikes() -> None:
    assert set(int8_convolutions(_network(), CPU)) == {"pool", "conv2"}
    assert misfits(_network()) == {"conv1": "its input is neither spikes nor a sum of spikes"}


def test_larger_weights_and_counts_stay_in_floating_point() -> None:
    assert set(int8_convolutions(_network(largest=128), CPU)) == {"pool"}
    graph = _network()
    pool, second = node_of(graph, "pool", Conv), node_of(graph, "conv2", Conv)
    heavier = graph.replace(replace(pool, weight=np.full((3, 1, 2, 2), 32, np.int32)))
    assert set(int8_convolutions(heavier, CPU)) == {"pool"}  # counts to 128
    uneven = graph.replace(replace(second, padding=((0, 2), (1, 1))))
    assert set(int8_convolutions(uneven, CPU)) == {"pool"}


def test_a_float_network_has_none() -> None:
    graph = _network()
    assert int8_convolutions(graph, torch.device("meta")) == {}
    head = node_of(graph, "head", Linear)
    as_floats = graph.replace(replace(head, bias=np.zeros(5, np.float32)))
    assert int8_convolutions(as_floats, CPU) == {}


@pytest.mark.parametrize("pool", [1, 2, 8])
@pytest.mark.parametrize("memory", [1, 10_000, 20_000, 1 << 28])  # parts of steps, of samples
def test_spikes_potentials_and_logits_are_the_references(pool: int, memory: int) -> None:
    graph, x = _network(pool=pool), _images()
    record = Record(potentials=frozenset({"if1", "if2"}), counts=True, logits_t=True)
    expected = ReferenceSimulator(graph).run(x, record)
    got = TorchSimulator(graph, memory=memory).run(x, record)
    plain = TorchSimulator(graph, memory=memory, int8=False).run(x, record)
    for run in (got, plain):
        for name in ("if1", "if2"):
            assert 0 < expected.spikes[name].mean() < 1
            np.testing.assert_array_equal(run.spikes[name], expected.spikes[name])
            np.testing.assert_array_equal(run.counts[name], expected.spike_counts()[name])
            np.testing.assert_array_equal(run.potentials[name], expected.potentials[name])
        np.testing.assert_array_equal(run.logits, expected.logits.astype(np.float32))


@pytest.mark.parametrize("channels", [(3, 4), (16, 32), (16, 64)])
@pytest.mark.parametrize("count", [0, 2])
def test_channels_for_events_and_batches_of_none(channels: tuple[int, int], count: int) -> None:
    """With 32 or 64 outputs the rate of spikes decides, which none had."""
    graph, record = _network(pool=1, channels=channels), Record(logits_t=True)
    expected = ReferenceSimulator(graph).run(_images(count), record)
    got = TorchSimulator(graph).run(_images(count), record)
    assert got.logits.shape == (count, 5)
    np.testing.assert_array_equal(got.logits, expected.logits.astype(np.float32))
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
