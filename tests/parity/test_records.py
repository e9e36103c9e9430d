"""Every backend writes down what it is asked for: all of it, and nothing else."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends import open_backend
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.recording import Record, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.exporters.onnx.write import write
from tests.support.evaluating import NETWORK, build
from tests.support.graphs import samples

X = samples(NETWORK, 5, seed=3)
BACKENDS = {  # and whether it gives the logits of each step
    "reference": True,
    "torch": True,
    "torch-float64": True,
    "onnxruntime": False,
    "onnxruntime-step": True,
    "onnx-reference": False,
    "openvino": False,
    "nir": True,
    "nir-portable": True,
    "nir-relay": True,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    formats = ("onnx", "onnx-step", "nir", "nir-portable", "nir-relay")
    return build(tmp_path_factory.mktemp("records") / "bundle", NETWORK, *formats)


def assert_gives_what_is_asked(simulator: Simulator) -> None:
    everything = ReferenceSimulator(NETWORK).run(X)
    for spikes, counts, first_spikes in product((False, True), repeat=3):
        record = Record(spikes=spikes, counts=counts, first_spikes=first_spikes)
        found = simulator.run(X, record)
        for wanted, got, expected in (
            (spikes, found.spikes, everything.spikes),
            (counts, found.counts, everything.spike_counts()),
            (first_spikes, found.first_spikes, everything.first_spike_times()),
        ):
            assert list(got) == (list(expected) if wanted else [])
            for name, array in got.items():
                assert array.dtype == expected[name].dtype
                np.testing.assert_array_equal(array, expected[name])
        assert found.logits_t is None
        assert found.potentials == {}


@pytest.mark.parametrize("spec", BACKENDS)
def test_what_spikes_tell(bundle: Bundle, spec: str) -> None:
    assert_gives_what_is_asked(open_backend(bundle, spec))


def test_parts_of_a_batch(bundle: Bundle) -> None:
    assert_gives_what_is_asked(OnnxRuntimeSimulator(bundle.export("onnx"), batch_size=2))


def assert_gives_logits_t(simulator: Simulator) -> None:
    record = Record(spikes=False, logits_t=True)
    expected = ReferenceSimulator(NETWORK).run(X, record).logits_t
    found = simulator.run(X, record)
    assert found.logits_t is not None
    assert expected is not None
    np.testing.assert_allclose(found.logits_t, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.logits_t[-1], found.logits)


@pytest.mark.parametrize(("spec", "given"), BACKENDS.items())
def test_a_backend_says_whether_it_gives_logits_over_time(
    bundle: Bundle, spec: str, given: bool
) -> None:
    simulator = open_backend(bundle, spec)
    assert simulator.gives_logits_t is given
    if given:
        assert_gives_logits_t(simulator)


def test_a_file_may_hold_logits_over_time(tmp_path: Path, bundle: Bundle) -> None:
    write(NETWORK, tmp_path / "net.onnx", OnnxOptions(logits_t=True))
    simulator = OnnxRuntimeSimulator(tmp_path / "net.onnx")
    assert simulator.gives_logits_t
    assert_gives_logits_t(simulator)
    without = OnnxRuntimeSimulator(bundle.export("onnx"))
    with pytest.raises(ExportError, match="holds no logits_t"):
        without.run(X, Record(logits_t=True))
