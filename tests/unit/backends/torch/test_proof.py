"""Kernels prove themselves: a wrong one changes no result, whatever processor this is."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.reference import evaluate as reference_of
from icsnn_deploy.backends.torch import spike_kernel
from icsnn_deploy.backends.torch.early_exit import run_until_sure
from icsnn_deploy.backends.torch.exact import Geometry, exact_convolution
from icsnn_deploy.backends.torch.float32 import Float32Convolution, Float32Kernel
from icsnn_deploy.backends.torch.int8 import Int8Convolution, PackedKernel
from icsnn_deploy.backends.torch.proof import Convolve, pad_by_hand
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.backends.torch.verdicts import VERDICTS, Verdict, Verdicts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Node, Output

KernelClass = type[PackedKernel] | type[Float32Kernel]
Wrong = Callable[[Tensor, Tensor, Tensor], None]  # spoils y, given x and the weight


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(spike_kernel, "native_library", lambda: None)  # on any processor the same
    VERDICTS.clear()
    yield
    VERDICTS.clear()


def spoil(
    monkeypatch: pytest.MonkeyPatch, kernel: KernelClass, spoiled: Wrong
) -> list[tuple[int, ...]]:
    """Make a kernel wrong; the shapes of the inputs that it is given."""
    right: Callable[..., Convolve] = kernel.prepare
    calls: list[tuple[int, ...]] = []

    def prepare(self: object, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        convolve = right(self, weight, bias, geometry)

        def run(x: Tensor) -> Tensor:
            y = convolve(x)
            calls.append(tuple(x.shape))
            spoiled(x, y, weight)
            return y

        return run

    monkeypatch.setattr(kernel, "prepare", prepare)
    return calls


def as_with_amx(x: Tensor, y: Tensor, weight: Tensor) -> None:
    """Wrong sums at 16 or 24 channels for kernels whose area is eight times one to eight."""
    area = weight.shape[2] * weight.shape[3]
    if weight.shape[1] in (16, 24) and area % 4 == 0 and max(weight.shape[2:]) >= 8:
        y[..., -1] += 7


def convolution(
    name: str, source: str, shape: tuple[int, int, int, int], seed: int, padding: int = 0
) -> Conv:
    """A convolution of random 8-bit weights; shape = [O, C, K, K]."""
    rng = np.random.default_rng(seed)
    return Conv(
        name=name,
        inputs=(source,),
        weight=rng.integers(-127, 128, shape, np.int32),
        bias=rng.integers(-50, 51, shape[0], np.int32),
        stride=(1, 1),
        padding=((padding, padding), (padding, padding)),
        dilation=(1, 1),
    )


def population(name: str, source: str, v_threshold: int) -> IF:
    return IF(
        name=name,
        inputs=(source,),
        v_threshold=np.full((1, 1, 1), v_threshold, np.int32),
        v_init=np.full((1, 1, 1), v_threshold // 2 + 0.5, np.float32),
    )


def network(kernel: tuple[int, int]) -> Graph:
    """Conv 3x3 1 -> 16, Conv `kernel` 16 -> 32, Conv 3x3, Linear: as an EEG network has it."""
    shape = (1, 12, 20)
    nodes: list[Node] = [
        Input(name="input", shape=shape, dtype="uint8"),
        convolution("conv1", "input", (16, 1, 3, 3), 1, padding=1),
        population("if1", "conv1", 30_000),
        convolution("conv2", "if1", (32, 16, *kernel), 2),
        population("if2", "conv2", 500),
        convolution("conv3", "if2", (8, 32, 3, 3), 3, padding=1),
        population("if3", "conv3", 500),
        Flatten(name="flatten", inputs=("if3",)),
    ]
    size = 8 * (13 - kernel[0]) * (21 - kernel[1])
    weight = np.random.default_rng(4).integers(-9, 10, (5, size), np.int32)
    nodes += [
        Linear(name="head", inputs=("flatten",), weight=weight, bias=np.zeros(5, np.int32)),
        Output(name="output", inputs=("head",)),
    ]
    return Graph(nodes=tuple(nodes), time_steps=4)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 1, 12, 20)).astype(np.uint8)


def assert_right(graph: Graph, simulator: TorchSimulator, count: int) -> None:
    x = images(count)
    expected = ReferenceSimulator(graph).run(x)
    got = simulator.run(x)
    for name, spikes in expected.spikes.items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_array_equal(got.logits, expected.logits.astype(np.float32))


@pytest.mark.parametrize("kernel", [(1, 8), (8, 8)])
def test_no_spike_differs_where_the_packed_convolution_is_wrong(
    kernel: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, PackedKernel, as_with_amx)
    graph = network(kernel)
    simulator = TorchSimulator(graph)
    with caplog.at_level(logging.WARNING):
        assert_right(graph, simulator, 12)
        assert_right(graph, simulator, 12)
    kernels = simulator.kernels()
    assert {name: layer.kernel for name, layer in kernels.items()} == {
        "conv1": "float32",
        "conv2": "float32",
        "conv3": "8-bit",
    }
    assert "wrong sums" in kernels["conv2"].reason
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["conv2"]


def test_the_stub_alone_would_change_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test above can fail."""
    graph = network((1, 8))
    expected = ReferenceSimulator(graph).run(images(3))
    monkeypatch.setattr("icsnn_deploy.backends.torch.proof.is_exact", lambda *_: True)
    spoil(monkeypatch, PackedKernel, as_with_amx)
    got = TorchSimulator(graph).run(images(3))
    assert not np.array_equal(got.spikes["if2"], expected.spikes["if2"])


def wrong_in(part: Callable[[Tensor], object]) -> Wrong:
    """One unit too much in a part of the result, for calls of more than 8 samples."""

    def spoiled(x: Tensor, y: Tensor, weight: Tensor) -> None:
        if len(x) > 8 and weight.shape[1] == 16:
            y[part(y)] += 1  # type: ignore[index]

    return spoiled


@pytest.mark.parametrize(
    "part",
    [
        lambda y: (slice(None), 0, 0, 0),
        lambda y: (slice(None), -1, slice(None), -1),
        lambda y: (-1, slice(None), 2, 3),
    ],
)
def test_a_kernel_that_is_wrong_for_larger_batches_alone_is_found(
    part: Callable[[Tensor], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, PackedKernel, wrong_in(part))
    graph = network((1, 5))
    simulator = TorchSimulator(graph)
    assert_right(graph, simulator, 1)  # 4 samples and steps
    assert simulator.kernels()["conv2"].kernel == "8-bit"
    assert_right(graph, simulator, 6)
    assert simulator.kernels()["conv2"].kernel == "float32"


def test_saturation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturated(x: Tensor, y: Tensor, weight: Tensor) -> None:
        y.clamp_(-(2**21), 2**21)  # random sums stay far below

    spoil(monkeypatch, PackedKernel, saturated)
    graph = network((3, 3))
    simulator = TorchSimulator(graph)
    assert_right(graph, simulator, 2)
    assert simulator.kernels()["conv2"].kernel == "float32"


def test_a_kernel_that_raises_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(x: Tensor, y: Tensor, weight: Tensor) -> None:
        raise RuntimeError("could not create a primitive")

    spoil(monkeypatch, PackedKernel, broken)
    graph = network((3, 3))
    simulator = TorchSimulator(graph)
    assert_right(graph, simulator, 2)
    assert "could not create a primitive" in simulator.kernels()["conv3"].reason


@pytest.mark.parametrize("int8", [True, False])
def test_float32_is_proven_too_and_float64_products_take_over(
    int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounded(x: Tensor, y: Tensor, weight: Tensor) -> None:
        y *= 1 + 2.0**-22  # as a fast transform rounds

    spoil(monkeypatch, Float32Kernel, rounded)
    graph = network((2, 3))
    simulator = TorchSimulator(graph, int8=int8)
    assert_right(graph, simulator, 3)
    assert simulator.kernels()["conv1"].kernel == "float64 products"
    assert simulator.kernels()["conv2"].kernel == ("8-bit" if int8 else "float64 products")


def test_early_exit_gets_proven_results_at_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = network((1, 8)), images(12)
    right = run_until_sure(TorchSimulator(graph, int8=False), x, 0.5, unit=0.01)
    VERDICTS.clear()
    spoil(monkeypatch, PackedKernel, as_with_amx)
    got = run_until_sure(TorchSimulator(graph), x, 0.5, unit=0.01)
    np.testing.assert_array_equal(got.logits, right.logits)
    np.testing.assert_array_equal(got.steps, right.steps)


def test_a_shape_is_proven_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spoil(monkeypatch, PackedKernel, lambda x, y, weight: None)
    graph = network((1, 5))
    TorchSimulator(graph).run(images(6), Record(spikes=False))
    proven = list(calls)
    assert [shape[0] for shape in proven] == [1, 24, 1, 24]
    TorchSimulator(graph).run(images(6), Record(spikes=False))
    assert [shape[0] for shape in calls[len(proven) :]] == [24, 24]


def test_silent_samples_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random inputs of that size take their place."""
    calls = spoil(monkeypatch, PackedKernel, lambda x, y, weight: None)
    layer = Int8Convolution(convolution("conv", "input", (4, 3, 3, 3), 0))
    layer(torch.zeros(20, 3, 6, 6, dtype=torch.uint8))
    assert [shape[0] for shape in calls] == [1, 20, 20]
    layer(torch.ones(20, 3, 6, 6, dtype=torch.uint8))
    assert [shape[0] for shape in calls[3:]] == [20]


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("padding", [(0, 0), (2, 1), (5, 9)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_exact_convolution_is_the_references(
    groups: int, padding: tuple[int, int], dilation: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    node = Conv(
        name="conv",
        inputs=("input",),
        weight=rng.integers(-127, 128, (12, 6 // groups, 3, 2), np.int32),
        bias=rng.integers(-9, 10, 12, np.int32),
        stride=(2, 1),
        padding=tuple((p, p) for p in padding),
        dilation=dilation,
        groups=groups,
    )
    x = rng.integers(0, 128, (3, 6, 9, 8))
    expected = reference_of(node, x)
    weight, bias = torch.from_numpy(node.weight.copy()), torch.from_numpy(node.bias.copy())
    got = exact_convolution(torch.from_numpy(x), weight, bias, Geometry.of(node))
    np.testing.assert_array_equal(got.numpy(), expected)
    floats = torch.from_numpy(x).float()
    layer = Float32Convolution(node)
    np.testing.assert_array_equal(layer(floats).numpy(), expected)
    np.testing.assert_array_equal(layer.in_float64(floats).numpy(), expected)


def test_signals_and_uneven_padding_are_proven_in_float32() -> None:
    rng = np.random.default_rng(0)
    signal = Conv(
        name="conv",
        inputs=("input",),
        weight=rng.integers(-127, 128, (4, 3, 5), np.int32),
        bias=rng.integers(-9, 10, 4, np.int32),
        stride=(2,),
        padding=((3, 1),),
        dilation=(1,),
    )
    x = rng.integers(0, 128, (3, 3, 11))
    got = Float32Convolution(signal)(torch.from_numpy(x).float())
    np.testing.assert_array_equal(got.numpy(), reference_of(signal, x))


def test_a_kernel_never_sees_padding_that_holds_a_whole_window() -> None:
    geometry = Geometry(stride=(1, 1), padding=(2, 5), dilation=(1, 2), groups=1)
    x = torch.ones(1, 1, 4, 4)
    same, untouched = pad_by_hand(geometry, (3, 4), x)  # windows of 3 and 7
    assert same is geometry
    assert untouched is x
    changed, padded = pad_by_hand(geometry, (3, 3), x)  # windows of 3 and 5
    assert changed.padding == (0, 0)
    assert torch.equal(padded, functional.pad(x, (5, 5, 2, 2)))


def test_verdicts_are_found_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "kernels.json"
    one, other = Verdicts(path), Verdicts(path)
    one.add("a", Verdict(None, {1, 24}))
    one.save()
    other.add("b", Verdict("wrong sums"))
    other.save()
    found = Verdicts(path)
    assert found.get("a") == Verdict(None, {1, 24})
    assert found.get("b") == Verdict("wrong sums")


@pytest.mark.parametrize(
    "text", ["", "[]", "[[", '{"a": 1}', '{"a": {"fault": 3, "batches": []}}', "\0"]
)
def test_damaged_verdicts_are_proven_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(text)
    assert len(Verdicts(path)) == 0


def test_verdicts_that_can_not_be_written_harm_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    verdicts = Verdicts(tmp_path / "file" / "kernels.json")
    verdicts.add("a", Verdict(None))
    verdicts.save()


@pytest.mark.slow
def test_another_environment_of_the_library_has_verdicts_of_its_own(tmp_path: Path) -> None:
    code = "from icsnn_deploy.backends.torch.verdicts import default_path; print(default_path())"

    def path(**variables: str) -> str:
        environment = {"PATH": "", "ICSNN_KERNEL_CACHE": str(tmp_path), **variables}
        found = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[4])},
        )
        return found.stdout.strip()

    assert path().startswith(str(tmp_path))
    assert path() == path()
    assert path() != path(ONEDNN_MAX_CPU_ISA="AVX2")
    assert path(ICSNN_KERNEL_CACHE="") == "None"


def test_a_nearly_silent_result_proves_no_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is wrong for large batches of full windows is found by random inputs."""

    def spoiled(x: Tensor, y: Tensor, weight: Tensor) -> None:
        if len(x) > 8:
            y += (x.float().mean() > 0.2).float()

    calls = spoil(monkeypatch, PackedKernel, spoiled)
    layer = Int8Convolution(convolution("conv", "input", (4, 3, 3, 3), 0))
    sparse = torch.zeros(20, 3, 6, 6, dtype=torch.uint8)
    sparse[0, 0, 0, 0] = 1
    assert layer(sparse) is None
    assert [shape[0] for shape in calls] == [1, 20, 20]
    assert layer(torch.ones(20, 3, 6, 6, dtype=torch.uint8)) is None


def test_a_failure_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory once says nothing of the kernel."""
    fails = [True]

    def spoiled(x: Tensor, y: Tensor, weight: Tensor) -> None:
        if fails[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    spoil(monkeypatch, PackedKernel, spoiled)
    layer = Int8Convolution(convolution("conv", "input", (4, 3, 3, 3), 0))
    ones = torch.ones(3, 3, 6, 6, dtype=torch.uint8)
    assert layer(ones) is None
    assert "can't allocate" in str(layer.proven.refused)
    fails[0] = False
    assert layer(ones) is not None
    assert layer.proven.refused is None


def test_autocast_changes_no_verdict() -> None:
    graph = network((3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_right(graph, TorchSimulator(graph), 2)
    simulator = TorchSimulator(graph)
    assert_right(graph, simulator, 2)
    assert simulator.kernels()["conv1"].kernel == "float32"


@pytest.mark.parametrize(("channels", "side"), [(4, 17), (20, 19), (3, 21)])
def test_windows_that_hold_thousands_of_weights_are_proven(channels: int, side: int) -> None:
    """The extreme weights of a proof stay below what float32 holds."""
    layer = Int8Convolution(convolution("conv", "input", (8, channels, side, side), 0))
    ones = torch.ones(2, channels, 24, 24, dtype=torch.uint8)
    assert layer(ones) is not None, layer.proven.refused


def test_a_fault_stays_whichever_proof_ends_last() -> None:
    verdict = Verdict(None, {1})
    verdict.settle(4, "wrong sums")
    verdict.settle(8, None)
    assert verdict.fault == "wrong sums"
    assert Verdict(None, {1, 8}).joined(verdict) == Verdict("wrong sums", {1, 4, 8})


@pytest.mark.parametrize("batches", ["[1e999]", '"12"', "[0]", "[true]", "[-3]", "7"])
def test_a_file_of_verdicts_that_makes_no_sense_is_ignored(batches: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(f'{{"key": {{"fault": null, "batches": {batches}}}}}')
    assert len(Verdicts(path)) == 0


def test_a_layer_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calibration and quantization make many simulators of one network."""
    spoil(monkeypatch, PackedKernel, as_with_amx)
    graph = network((1, 8))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            TorchSimulator(graph).run(images(2))
    assert len(caplog.records) == 1
