"""Convolutions of spikes by events: the bits of PyTorch's, and exact sums of integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import evaluate as reference_of
from icsnn_deploy.backends.torch import event_convolution
from icsnn_deploy.backends.torch.event_convolution import (
    EventConvolution,
    EventKernel,
    native_library,
    takes,
)
from icsnn_deploy.backends.torch.proof import ProvenConvolution
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.backends.torch.verdicts import VERDICTS
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output

needs_compiler = pytest.mark.skipif(native_library() is None, reason="no C compiler")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    VERDICTS.clear()
    yield
    VERDICTS.clear()


def convolution(shape: tuple[int, int, int, int], integers: bool = False, **changes: Any) -> Conv:
    """Random weights [O, C, KH, KW]."""
    rng = np.random.default_rng(0)
    weight: Array = rng.normal(size=shape)
    bias: Array = rng.normal(size=shape[0])
    if integers:
        weight, bias = rng.integers(-127, 128, shape), rng.integers(-9999, 9999, shape[0])
    dtype = np.int32 if integers else np.float32
    given: dict[str, Any] = {
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "weight": weight.astype(dtype),
        "bias": bias.astype(dtype),
        **changes,
    }
    return Conv(name="conv", inputs=("if",), **given)


def spikes(channels: int, height: int, width: int, rate: float, count: int = 3) -> Tensor:
    rng = np.random.default_rng(1)
    found = torch.from_numpy((rng.random((count, channels, height, width)) < rate).astype(np.uint8))
    return found.contiguous(memory_format=torch.channels_last)


def plain(node: Conv) -> event_convolution.Dense:
    padding = [before for before, _ in node.padding]

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.conv2d(x, weight, bias, node.stride, padding, node.dilation)

    return convolve


def of_events(node: Conv) -> EventConvolution:
    weight = torch.tensor(node.weight).contiguous(memory_format=torch.channels_last)
    return EventConvolution(node, weight, torch.tensor(node.bias), plain(node))


@needs_compiler
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("row_dilation", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("outputs", [8, 16, 64, 88])
def test_sums_of_integers_are_exact_for_every_geometry(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    row_dilation: int,
    padding: int,
    outputs: int,
) -> None:
    padding = min(padding, min(kernel) - 1)
    node = convolution(
        (outputs, 16, *kernel),
        integers=True,
        stride=stride,
        dilation=(row_dilation, 1),
        padding=((padding, padding),) * 2,
    )
    x = spikes(16, 9, 7, 0.2)
    got = ProvenConvolution(node, EventKernel())(x)
    assert got is not None
    np.testing.assert_array_equal(got.numpy(), reference_of(node, x.numpy().astype(np.int64)))


@needs_compiler
@pytest.mark.parametrize(("channels", "outputs"), [(16, 16), (16, 32), (32, 64), (8, 8)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_floats_are_those_of_pytorch_bit_for_bit_or_left_to_it(
    channels: int, outputs: int, stride: tuple[int, int]
) -> None:
    node = convolution((outputs, channels, 3, 3), stride=stride)
    x = spikes(channels, 16, 16, 0.15, count=40)
    found = of_events(node)(x)
    weight = torch.tensor(node.weight).contiguous(memory_format=torch.channels_last)
    expected = plain(node)(x.float(), weight, torch.tensor(node.bias))
    assert found is None or torch.equal(found, expected)
    if "avx2" in torch.backends.cpu.get_cpu_capability().lower():
        assert found is not None, "the order of oneDNN's sums has changed"


@needs_compiler
def test_a_kernel_that_adds_in_another_order_is_not_used() -> None:
    node = convolution((16, 16, 3, 3))

    def reversed_order(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return plain(node)(x.flip(1), weight.flip(1), bias)

    layer = of_events(node)
    layer._dense = reversed_order
    assert layer(spikes(16, 16, 16, 0.15)) is None


@needs_compiler
def test_layers_of_many_spikes_are_left_to_pytorch() -> None:
    layer = of_events(convolution((16, 16, 3, 3)))
    assert layer(spikes(16, 16, 16, 0.5)) is None
    assert layer(spikes(16, 16, 16, 0.1).float()) is None  # no bytes


@pytest.mark.parametrize(
    "changes",
    [{"dilation": (1, 2)}, {"padding": ((0, 1), (1, 1))}, {"padding": ((3, 3), (1, 1))}],
)
def test_geometries_that_the_code_lacks_are_left_to_pytorch(changes: dict[str, Any]) -> None:
    assert not takes(convolution((16, 16, 3, 3), **changes))
    assert not takes(convolution((16, 4, 3, 3)))
    assert not takes(convolution((12, 16, 3, 3)))


def network(integers: bool = False) -> Graph:
    """conv - if1 - conv with strides - if2 - linear; if1 has few spikes."""
    rng = np.random.default_rng(2)
    dtype = np.int32 if integers else np.float32
    first = convolution((16, 3, 3, 3), integers)
    second = convolution((64, 16, 3, 3), integers, stride=(2, 2))
    weight = rng.integers(-9, 10, (5, 64 * 4 * 4)).astype(dtype)

    def population(name: str, source: str, channels: int, threshold: float) -> IF:
        shape = (channels, 1, 1)
        return IF(
            name=name,
            inputs=(source,),
            v_threshold=np.full(shape, threshold, dtype),
            v_init=np.zeros(shape, dtype),
        )

    threshold = 90_000 if integers else 15.0
    return Graph(
        nodes=(
            Input(name="input", shape=(3, 8, 8), dtype="uint8" if integers else "float32"),
            replace(first, name="first", inputs=("input",)),
            population("if1", "first", 16, threshold),
            replace(second, name="second", inputs=("if1",)),
            population("if2", "second", 64, threshold / 30),
            Flatten(name="flatten", inputs=("if2",)),
            Linear(name="linear", inputs=("flatten",), weight=weight, bias=np.zeros(5, dtype)),
            Output(name="output", inputs=("linear",)),
        ),
        time_steps=4,
    )


@needs_compiler
@pytest.mark.parametrize("integers", [False, True])
def test_a_network_gives_the_same_bits_without_the_c_code(
    integers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = network(integers)
    rng = np.random.default_rng(3)
    x: Array = rng.integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    x = x if integers else x.astype(np.float32) / 64
    record = Record(potentials=frozenset({"if1", "if2"}))
    fast = TorchSimulator(graph).run(x, record)
    assert 0.01 < float(fast.spikes["if1"].mean()) < 0.3
    monkeypatch.setattr(event_convolution, "native_library", lambda: None)
    slow = TorchSimulator(graph).run(x, record)
    np.testing.assert_array_equal(fast.logits, slow.logits)
    for name in ("if1", "if2"):
        np.testing.assert_array_equal(fast.spikes[name], slow.spikes[name])
        np.testing.assert_array_equal(fast.potentials[name], slow.potentials[name])


@needs_compiler
def test_another_weight_is_used_from_then_on() -> None:
    simulator = TorchSimulator(network())
    node = simulator.graph.node("second")
    assert isinstance(node, Conv)
    x = spikes(16, 8, 8, 0.1)
    before = simulator.ops.evaluate(node, x)
    weight = simulator.ops.parameter(node, "weight")
    simulator.ops.set_parameter("second", "weight", 2 * weight)
    bias = simulator.ops.parameter(node, "bias").reshape(-1, 1, 1)
    np.testing.assert_allclose(
        simulator.ops.evaluate(node, x) - bias, 2 * (before - bias), rtol=1e-5, atol=1e-5
    )
