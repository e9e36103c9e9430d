"""How the ONNX Runtime simulator behaves around the numbers: providers, limits, wrong inputs."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from icsnn_deploy.backends.onnx import simulator as onnx_file
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.errors import BackendUnavailableError, DataError, ExportError
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout, OnnxOptions
from icsnn_deploy.exporters.onnx.write import write
from tests.support.graphs import residual_network, samples


def simulator(
    folder: Path, layout: Layout = "unrolled", time_steps: int = 2
) -> OnnxRuntimeSimulator:
    path = folder / "net.onnx"
    write(residual_network(time_steps=time_steps), path, OnnxOptions(layout=layout))
    return OnnxRuntimeSimulator(path, threads=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_in_parts(tmp_path: Path, layout: Layout) -> None:
    whole = simulator(tmp_path, layout, time_steps=3)
    parts = OnnxRuntimeSimulator(whole.file.path, batch_size=3)
    inputs = samples(residual_network(), 7)
    record = Record(potentials=frozenset({"stem.if"}))
    first, second = whole.run(inputs, record), parts.run(inputs, record)
    np.testing.assert_array_equal(first.logits, second.logits)
    for name, spikes in first.spikes.items():
        np.testing.assert_array_equal(spikes, second.spikes[name])
    np.testing.assert_array_equal(first.potentials["stem.if"], second.potentials["stem.if"])
    with pytest.raises(DataError, match="batch_size 0"):
        OnnxRuntimeSimulator(whole.file.path, batch_size=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_tensors_make_small_batches(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of [T N, ...] in a folded file, [N, ...] else."""
    graph = residual_network()
    largest = 4 * max(math.prod(graph.shape(node.name)) for node in graph.nodes)
    at_once = 3 if layout in ("folded", "scan") else 1
    whole = simulator(tmp_path, layout, time_steps=3)
    assert whole.file.sample_bytes == largest * at_once
    monkeypatch.setattr(onnx_file, "MAX_TENSOR_BYTES", 2 * largest * at_once)
    parts = OnnxRuntimeSimulator(whole.file.path)
    assert (whole.batch_size, parts.batch_size) == (32, 2)
    inputs = samples(graph, 5)
    np.testing.assert_array_equal(whole.run(inputs).logits, parts.run(inputs).logits)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_batch(tmp_path: Path, layout: Layout) -> None:
    empty = simulator(tmp_path, layout).run(np.zeros((0, 2, 6, 6), np.float32))
    assert empty.logits.shape == (0, 10)
    assert empty.spikes["stem.if"].shape == (2, 0, 4, 6, 6)


def test_logits_t_of_a_file_without_it(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="logits_t=True"):
        simulator(tmp_path).run(samples(residual_network(), 1), Record(logits_t=True))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 2, 6, 7)), np.zeros((2, 6, 6)), np.full((1, 2, 6, 6), np.nan)],
    ids=["shape", "rank", "nan"],
)
def test_inputs_that_do_not_fit(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(DataError):
        simulator(tmp_path).run(wrong)


@pytest.mark.parametrize("provider", ["NoSuchExecutionProvider", "CUDAExecutionProvider"])
def test_a_missing_provider_is_never_the_cpu(
    tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = simulator(tmp_path).file.path
    only_cpu = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: only_cpu)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'icsnn-deploy\[gpu\]'"):
        OnnxRuntimeSimulator(path, provider=provider)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_listed_but_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the GPU wheel does on a machine without a GPU."""
    path = simulator(tmp_path).file.path
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BackendUnavailableError, match="CUDAExecutionProvider"):
        OnnxRuntimeSimulator(path, provider="CUDAExecutionProvider")


def test_a_missing_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = simulator(tmp_path).file.path
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'icsnn-deploy\[cpu\]'"):
        OnnxRuntimeSimulator(path)


def test_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = Record(potentials=frozenset({"stem.if"}))
    for layout in LAYOUTS:
        simulator(tmp_path, layout).run(samples(residual_network(), 1), record)
    assert capfd.readouterr() == ("", "")


def test_time_limit(tmp_path: Path) -> None:
    path = simulator(tmp_path, time_steps=64).file.path
    limited = OnnxRuntimeSimulator(path, threads=1, time_limit_s=0.02, batch_size=4096)
    with pytest.raises(ExportError, match="not done within"):
        limited.run(np.repeat(samples(residual_network(), 1), 4096, axis=0))
