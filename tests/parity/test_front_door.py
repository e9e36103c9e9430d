"""Networks of many structures, from PyTorch to the written files, spike for spike.

Conversion and files of a network are made once; the NIR readers answer for all files in one start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.arrangement import output_parts
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.quantization import Quantization
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.readers.environment import find_environment
from icsnn_deploy.readers.launch import Request, run_requests
from tests.support.front_door import NETWORKS, converted, samples_of

NO_OPENVINO = {"m5", "pointnet"}
"""OpenVINO takes no signals."""

READERS = {"norse": "readers", "sinabs": "sinabs", "spikingjelly": "readers"}
"""The environment of each; SpikingJelly takes signals, too."""

SIGNALS = ("m5", "pointnet")
LAVA = ("ds-cnn", "gan discriminator")


@dataclass(frozen=True)
class Built:
    bundle: Bundle
    quantization: Quantization


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("front_door")


@cache
def built(name: str, folder: Path) -> Built:
    """The network's bundle with its exports."""
    images = samples_of(NETWORKS[name], 6)
    conversion, result = converted(NETWORKS[name], images)
    bundle = create_bundle(
        folder / name.replace(" ", "_"),
        network=result.network,
        ann=conversion.ann,
        samples=to_input_units(result.network, images[:2]),
        report=conversion.report.to_json(),
    )
    return Built(export_into(bundle, "nir", "onnx", "nir-portable"), result)


def bundle_inputs(bundle: Bundle) -> Array:
    return to_input_units(bundle.network(), bundle.samples())


@pytest.mark.parametrize("name", NETWORKS)
def test_no_spike_of_the_written_files_differs(name: str, folder: Path) -> None:
    made = built(name, folder)
    assert made.quantization.certificate.float32
    assert max(made.quantization.bits.values()) == 8
    backends = ["torch", "onnxruntime", "nir"] + ["openvino"] * (name not in NO_OPENVINO)
    report = verify(made.bundle, backends)
    assert report.verdict == "pass"
    for comparison in report.comparisons:
        assert comparison.spikes_compared > 0
        assert comparison.spike_mismatches == 0
        assert comparison.max_abs_logit_difference == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_neurons_neither_rest_nor_fire_always(name: str, folder: Path) -> None:
    """Equal spikes mean nothing where there are none."""
    bundle = built(name, folder).bundle
    spikes = ReferenceSimulator(bundle.network()).run(bundle_inputs(bundle)).spikes
    rate = np.mean(np.concatenate([each.ravel() for each in spikes.values()]))
    assert 0.01 < rate < 0.9


def test_both_heads_of_the_detector_are_outputs(folder: Path) -> None:
    parts = output_parts(built("tiny yolo v3", folder).bundle.network())
    assert [part.shape for part in parts] == [(21, 2, 2), (21, 4, 4)]


def networks_for(reader: str) -> list[str]:
    return [name for name in NETWORKS if reader == "spikingjelly" or name not in SIGNALS]


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_no_spike_differs_in_readers_of_nir(reader: str, folder: Path) -> None:
    bundles = [built(name, folder).bundle for name in networks_for(reader)]
    requests = [
        Request(reader=reader, file=bundle.export("nir-portable"), inputs=bundle_inputs(bundle))
        for bundle in bundles
    ]
    found = run_requests(find_environment(READERS[reader]).python, requests)
    for bundle, recording in zip(bundles, found, strict=True):
        expected = ReferenceSimulator(bundle.network()).run(bundle_inputs(bundle))
        assert list(recording.spikes) == list(expected.spikes)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(recording.spikes[name], spikes, f"{bundle.path}: {name}")
        np.testing.assert_array_equal(recording.logits, expected.logits, str(bundle.path))


@pytest.mark.parametrize("name", LAVA)
def test_no_spike_differs_in_the_fixed_point_processes_of_lava(name: str, folder: Path) -> None:
    report = verify(built(name, folder).bundle, ["lava-fixed"])
    assert report.verdict == "pass"
    assert [found.spike_mismatches for found in report.comparisons] == [0]
