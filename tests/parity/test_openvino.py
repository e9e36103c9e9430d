"""A third runtime, written by others, gives the int64 reference's spikes."""

from __future__ import annotations

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
from icsnn_deploy.graph.nodes import Input, Output
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.parity.compare import Tolerance, compare
from tests.support.graphs import conv, residual_network, samples, spiking


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


def test_what_it_runs_wrongly_is_refused_before_it_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "Core", None)
    graph = integer_network(0, 2)
    export(graph, tmp_path / "step.onnx", "onnx-step")
    with pytest.raises(ExportError, match="give it the unrolled one"):
        OpenVinoSimulator(tmp_path / "step.onnx")


def test_a_pointwise_convolution_with_stride_and_padding_is_refused(tmp_path: Path) -> None:
    """It gave results of another shape, or of the same shape and wrong."""
    rng = np.random.default_rng(0)
    nodes = (
        Input(name="input", shape=(2, 6, 6)),
        conv("first", "input", rng, (2, 2)),
        spiking("if", "first", rng, (2, 6, 6)),
        conv("pointwise", "if", rng, (2, 3), (1, 1), stride=2, padding=1),
        Output(name="output", inputs=("pointwise",)),
    )
    export(Graph(nodes=nodes, time_steps=2), tmp_path / "network.onnx", "onnx")
    with pytest.raises(ExportError, match="computes 'pointwise/y' wrongly"):
        OpenVinoSimulator(tmp_path / "network.onnx")


def test_a_missing_device_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(0, 1), path, "onnx")
    with pytest.raises(BackendUnavailableError, match="no device 'TPU'"):
        OpenVinoSimulator(path, device="TPU")
