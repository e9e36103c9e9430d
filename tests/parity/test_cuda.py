"""On an NVIDIA GPU: integer networks are bit-identical with TF32 on and off; auto calibrates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.early_exit import run_until_sure
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.write import OnnxOptions, write
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples
from tests.support.traced import small_model

pytestmark = pytest.mark.cuda


def integer_network() -> Graph:
    network = residual_network(time_steps=16)
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    bits = even_widths(prepared, 8)
    return round_to_lattice(prepared, {}, bits, per_layer=False).graph


def assert_identical(got: Recording, expected: Recording) -> None:
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_array_equal(got.logits, expected.logits.astype(np.float32))


@pytest.mark.parametrize("tf32", [False, True])
def test_torch(tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    graph = integer_network()
    assert certify(graph).tf32
    x = to_input_units(graph, samples(graph, 20))
    got = TorchSimulator(graph, device="cuda", tf32=tf32).run(x)
    assert_identical(got, ReferenceSimulator(graph).run(x))


def test_cuda_graphs() -> None:
    graph = integer_network()
    x = to_input_units(graph, samples(graph, 60))
    simulator = TorchSimulator(graph, device="cuda", cuda_graphs=True)
    for part in np.split(x, 3):  # as it is, captured, replayed
        got = simulator.classify(part)
        np.testing.assert_array_equal(got, TorchSimulator(graph).classify(part))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onnxruntime(layout: Layout, tmp_path: Path) -> None:
    graph = integer_network()
    path = tmp_path / "network.onnx"
    write(graph, path, OnnxOptions(layout=layout))
    x = to_input_units(graph, samples(graph, 20))
    got = OnnxRuntimeSimulator(path, provider="CUDAExecutionProvider").run(x)
    assert_identical(got, ReferenceSimulator(graph).run(x))


def test_early_exit() -> None:
    graph = integer_network()
    x = to_input_units(graph, samples(graph, 20))
    there, here = (
        run_until_sure(TorchSimulator(graph, device=device), x, 0.3, unit=0.0015)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_array_equal(there.logits, here.logits)
    np.testing.assert_array_equal(there.steps, here.steps)
    assert here.steps.min() < here.steps.max()


def test_auto_calibrates_on_the_gpu_as_on_the_processor() -> None:
    calibration = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)
    recipe = Recipe(name="auto", effort="quick", time_steps=4)
    there, here = (
        convert(small_model(), calibration, recipe, device=device).report
        for device in ("cuda", "cpu")
    )
    assert [c.method for c in there.candidates] == [c.method for c in here.candidates]
    # Sums in another order move thresholds by rounding errors, and a spike or two with them.
    assert there.chosen.divergence == pytest.approx(here.chosen.divergence, rel=0.2, abs=0.01)
