"""Convolutions of spikes in C are exact, for every geometry and for the largest weights."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import evaluate as reference_of
from icsnn_deploy.backends.torch import spike_kernel
from icsnn_deploy.backends.torch.int8 import Int8Convolution, PackedKernel
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.backends.torch.spike_kernel import SpikeKernel, avx2_library, takes
from icsnn_deploy.backends.torch.verdicts import VERDICTS
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Output

needs_processor = pytest.mark.skipif(
    avx2_library() is None, reason="no C compiler, or a processor without AVX2"
)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No verdict of another test, and the kernel also where another one is faster."""
    monkeypatch.setattr(spike_kernel, "native_library", avx2_library)
    VERDICTS.clear()
    yield
    VERDICTS.clear()


def convolution(shape: tuple[int, int, int, int], **changes: Any) -> Conv:
    """Random 8-bit weights [O, C, KH, KW], a row of the largest and one of the smallest."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, shape, np.int32)
    weight[0], weight[-1] = 127, -127
    given: dict[str, Any] = {
        "stride": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "dilation": (1, 1),
        "weight": weight,
        "bias": rng.integers(-9999, 9999, shape[0], np.int32),
        **changes,
    }
    return Conv(name="conv", inputs=("if",), **given)


def spikes(channels: int, height: int, width: int, rate: float, count: int = 3) -> Tensor:
    rng = np.random.default_rng(1)
    found = torch.from_numpy((rng.random((count, channels, height, width)) < rate).astype(np.uint8))
    return found.contiguous(memory_format=torch.channels_last)


def assert_exact(node: Conv, x: Tensor) -> None:
    layer = Int8Convolution(node, of_spikes=True)
    assert isinstance(layer.proven._kernel, SpikeKernel)
    got = layer(x)
    assert got is not None, layer.proven.refused
    np.testing.assert_array_equal(got.numpy(), reference_of(node, x.numpy().astype(np.int64)))


@needs_processor
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 2), (7, 9)])
@pytest.mark.parametrize("outputs", [8, 16, 24])
def test_every_geometry_is_exact(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    outputs: int,
) -> None:
    node = convolution(
        (outputs, 12, *kernel),
        stride=stride,
        dilation=dilation,
        padding=tuple((p, p) for p in padding),
    )
    assert_exact(node, spikes(12, 9, 14, 0.3))


@needs_processor
@pytest.mark.parametrize("channels", [4, 56, 60, 64, 300])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_the_largest_sums_are_exact(channels: int, rate: float) -> None:
    """16 bits hold 258 products of 127: a window of 56 channels has 252 per register."""
    node = convolution((16, channels, 3, 3))
    assert SpikeKernel(node).name.endswith("16 bits" if channels <= 56 else "32 bits")
    assert_exact(node, spikes(channels, 5, 5, rate))


@needs_processor
@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_cut_into_groups_and_threads(
    count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(spike_kernel, "_FEWEST_PRODUCTS", 1)
    assert_exact(convolution((8, 16, 3, 3)), spikes(16, 21, 20, 0.2, count))


@needs_processor
def test_what_it_does_not_take() -> None:
    assert takes(convolution((8, 4, 3, 3)))
    assert not takes(convolution((8, 6, 3, 3)))
    assert not takes(convolution((12, 4, 3, 3)))
    assert not takes(convolution((8, 4, 3, 3), groups=2))
    assert isinstance(
        Int8Convolution(convolution((8, 4, 3, 3))).proven._kernel, PackedKernel
    )  # of counts


@needs_processor
def test_its_wrong_results_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        @staticmethod
        def convolve_spikes(*values: Any) -> int:
            assert library is not None
            status: int = library.convolve_spikes(*values)
            convolution = values[0]._obj
            y = np.ctypeslib.as_array((ctypes.c_float * 8).from_address(values[2].value))
            y[3] += 1
            assert convolution.outputs == 8
            return status

    library = avx2_library()
    monkeypatch.setattr(spike_kernel, "native_library", Wrong)
    layer = Int8Convolution(convolution((8, 16, 3, 3)), of_spikes=True)
    assert layer(spikes(16, 6, 6, 0.3)) is None
    assert "wrong sums" in str(layer.proven.refused)


@needs_processor
def test_a_lack_of_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        @staticmethod
        def convolve_spikes(*_: Any) -> int:
            return 1

    layer = Int8Convolution(convolution((8, 16, 3, 3)), of_spikes=True)
    with monkeypatch.context() as patch:
        patch.setattr(spike_kernel, "native_library", Failing)
        assert layer(spikes(16, 6, 6, 0.3)) is None
    assert "not enough memory" in str(layer.proven.refused)


def network() -> Graph:
    """conv, IF, conv of spikes, IF, linear."""
    rng = np.random.default_rng(2)

    def population(name: str, source: str, v_threshold: int) -> IF:
        return IF(
            name=name,
            inputs=(source,),
            v_threshold=np.full((1, 1, 1), v_threshold, np.int32),
            v_init=np.full((1, 1, 1), v_threshold // 2 + 0.5, np.float32),
        )

    first = convolution((8, 2, 3, 3))
    second = convolution((16, 8, 3, 3), stride=(2, 2))
    return Graph(
        nodes=(
            Input(name="input", shape=(2, 8, 8), dtype="uint8"),
            Conv(**{**vars(first), "name": "conv1", "inputs": ("input",)}),
            population("if1", "conv1", 30000),
            Conv(**{**vars(second), "name": "conv2", "inputs": ("if1",)}),
            population("if2", "conv2", 3000),
            Flatten(name="flatten", inputs=("if2",)),
            Linear(
                name="head",
                inputs=("flatten",),
                weight=rng.integers(-9, 10, (5, 256), np.int32),
                bias=np.zeros(5, np.int32),
            ),
            Output(name="output", inputs=("head",)),
        ),
        time_steps=6,
    )


@pytest.mark.parametrize("memory", [1, 10_000, 1 << 28])
def test_a_network_runs_the_same_without_it(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    x = np.random.default_rng(3).integers(0, 256, (9, 2, 8, 8)).astype(np.uint8)
    record = Record(potentials=frozenset({"if2"}))
    simulator = TorchSimulator(graph, memory=memory)
    found = simulator.run(x, record)
    kernel = simulator._int8["conv2"].proven._kernel
    assert isinstance(kernel, PackedKernel if avx2_library() is None else SpikeKernel)
    assert simulator.kernels()["conv2"].kernel == "8-bit"
    monkeypatch.setattr(spike_kernel, "native_library", lambda: None)
    other = TorchSimulator(graph, memory=memory)
    assert isinstance(other._int8["conv2"].proven._kernel, PackedKernel)
    expected = other.run(x, record)
    assert 0 < expected.spikes["if2"].mean() < 1
    np.testing.assert_array_equal(found.spikes["if2"], expected.spikes["if2"])
    np.testing.assert_array_equal(found.potentials["if2"], expected.potentials["if2"])
    np.testing.assert_array_equal(found.logits, expected.logits)
