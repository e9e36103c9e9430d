"""A third runtime, written by others, gives the int64 reference's spikes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest

from icsnn_deploy.backends.onnx.openvino import OpenVinoSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import BackendUnavailableError, ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.onnx.contract import TIMED_LAYOUTS, Layout, OnnxOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import IF, Input, Output
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.parity.compare import compare
from icsnn_deploy.parity.judge import Tolerance
from tests.support.graphs import conv, residual_network, samples


def integer_network(seed: int, time_steps: int) -> Graph:
    network = residual_network(seed, time_steps)
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    bits = even_widths(prepared, 8)
    return round_to_lattice(prepared, {}, bits, per_layer=False).graph


@pytest.mark.parametrize(
    ("seed", "time_steps", "layout"),
    # Compiling a file that grows with T is slow.
    [
        *((seed, steps, layout) for seed, steps in ((0, 1), (1, 7)) for layout in TIMED_LAYOUTS),
        (2, 64, "scan"),
    ],
)
def test_integer_networks_are_bit_identical(
    seed: int, time_steps: int, layout: Layout, tmp_path: Path
) -> None:
    graph = integer_network(seed, time_steps)
    path = tmp_path / "network.onnx"
    export(graph, path, "onnx", OnnxOptions(layout=layout))
    x = to_input_units(graph, samples(graph, 5))
    expected = ReferenceSimulator(graph).run(x)
    got = OpenVinoSimulator(path).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    found = compare(expected, got, graph, tolerance=Tolerance(exact=True))
    assert found.verdict == "pass", found.reason
    assert found.max_abs_logit_difference == 0


def pointwise_network(kind: type = np.float32) -> Graph:
    """A 1x1 convolution with stride and padding after a population."""
    rng = np.random.default_rng(0)
    first, last = rng.integers(-9, 10, (2, 2, 3, 3)), rng.integers(-9, 10, (3, 2, 1, 1))
    one = np.ones((1, 1, 1))
    integer = kind is not np.float32
    nodes = (
        Input(name="input", shape=(2, 6, 6), dtype="uint8" if integer else "float32"),
        replace(
            conv("first", "input", rng, (2, 2)), weight=first.astype(kind), bias=np.zeros(2, kind)
        ),
        IF(
            name="if",
            inputs=("first",),
            v_threshold=(one * 9).astype(kind),
            v_init=(one * 4.5).astype(np.float32),
        ),
        replace(
            conv("pointwise", "if", rng, (2, 3), (1, 1), stride=2, padding=1),
            weight=last.astype(kind),
            bias=np.array([1, 2, 3], kind),
        ),
        Output(name="output", inputs=("pointwise",)),
    )
    return Graph(nodes=nodes, time_steps=2)


def test_float_networks_that_it_breaks_are_refused_before_they_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "Core", None)
    export(residual_network(0, 2), tmp_path / "step.onnx", "onnx-step")
    with pytest.raises(ExportError, match="give it the unrolled one"):
        OpenVinoSimulator(tmp_path / "step.onnx")
    export(pointwise_network(), tmp_path / "network.onnx", "onnx")
    with pytest.raises(ExportError, match="computes 'pointwise/y' wrongly"):
        OpenVinoSimulator(tmp_path / "network.onnx")


def test_an_integer_network_that_it_breaks_fails_its_proof(tmp_path: Path) -> None:
    """No list of shapes is asked: a version that is right will be used."""
    graph = pointwise_network(np.int32)
    assert graph.is_integer
    export(graph, tmp_path / "network.onnx", "onnx")
    with pytest.raises(ExportError, match=r"network.onnx: openvino computes 'logits' wrongly"):
        OpenVinoSimulator(tmp_path / "network.onnx")


def test_without_a_proof_known_faults_are_refused(tmp_path: Path) -> None:
    export(pointwise_network(np.int32), tmp_path / "network.onnx", "onnx")
    with pytest.raises(ExportError, match="computes 'pointwise/y' wrongly"):
        OpenVinoSimulator(tmp_path / "network.onnx", prove=False)


def test_a_one_step_file_of_an_integer_network_is_right_or_refused(tmp_path: Path) -> None:
    """Its fault shows on some processors alone."""
    graph = integer_network(0, 3)
    export(graph, tmp_path / "step.onnx", "onnx-step")
    x = to_input_units(graph, samples(graph, 5))
    try:
        got = OpenVinoSimulator(tmp_path / "step.onnx").run(x)
    except ExportError:
        with pytest.raises(ExportError, match="wrongly"):
            OpenVinoSimulator(tmp_path / "step.onnx").run(x)
        return
    for name, spikes in ReferenceSimulator(graph).run(x).spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)


def test_a_signal_is_harmless_after_a_network_was_freed_in_another_thread(tmp_path: Path) -> None:
    network = integer_network(0, 1)
    export(network, tmp_path / "network.onnx", "onnx")
    opened = [OpenVinoSimulator(tmp_path / "network.onnx")]
    opened[0].run(to_input_units(network, samples(network, 2)))
    thread = threading.Thread(target=opened.clear)
    thread.start()
    thread.join()
    with pytest.raises(InterruptedError), alarm(0.05):
        time.sleep(5)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises InterruptedError after some seconds."""

    def arrived(number: int, frame: object) -> None:
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, arrived)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_a_missing_device_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(0, 1), path, "onnx")
    with pytest.raises(BackendUnavailableError, match="no device 'TPU'"):
        OpenVinoSimulator(path, device="TPU")
