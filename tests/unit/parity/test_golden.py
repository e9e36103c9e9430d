"""Golden spikes: written, read, and reproduced by the NumPy-only example."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import BundleError, LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.parity.golden import golden_bytes, read_golden
from icsnn_deploy.passes.split_first_layer import split_first_layer
from tests.support.graphs import residual_network, samples

EXAMPLE = Path(__file__).parents[3] / "examples" / "check_golden.py"


def integer_network() -> Graph:
    network = residual_network()
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    bits = even_widths(prepared, 8)
    return round_to_lattice(prepared, {}, bits, per_layer=False).graph


def inputs_of(network: Graph) -> Array:
    return to_input_units(network, samples(network, 3))


def bundle_of(folder: Path) -> Bundle:
    network = integer_network()
    x = inputs_of(network)
    return create_bundle(
        folder, network=network, ann=network, samples=x, report={}, golden=golden_bytes(network, x)
    )


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_golden", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_golden_spikes_are_the_references(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "b")
    network = bundle.network()
    x, recording = read_golden(bundle.file("golden.safetensors"), network)
    expected = ReferenceSimulator(network).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(recording.spikes[name], spikes)
    np.testing.assert_array_equal(recording.logits, expected.logits)


def test_the_numpy_script_reproduces_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(tmp_path / "b")
    assert example().main(str(bundle.path)) == 0
    neurons = 4 * 36 * 3
    assert capsys.readouterr().out == f"0 of {neurons * 3 * 8:,} spikes differ, logits equal\n"


def test_golden_spikes_of_a_network_that_takes_spikes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three samples at eight steps: the inputs are counted on their second axis."""
    network = split_first_layer(integer_network()).chip
    x = np.random.default_rng(0).integers(0, 2, (8, 3, 4, 6, 6), np.uint8)
    golden = golden_bytes(network, x)
    bundle = create_bundle(
        tmp_path / "b", network=network, ann=None, samples=x, report={}, golden=golden
    )
    inputs, recording = read_golden(bundle.file("golden.safetensors"), network)
    np.testing.assert_array_equal(inputs, x)
    for name, spikes in ReferenceSimulator(network).run(x).spikes.items():
        np.testing.assert_array_equal(recording.spikes[name], spikes)
    assert example().main(str(bundle.path)) == 0
    assert capsys.readouterr().out == f"0 of {4 * 36 * 2 * 3 * 8:,} spikes differ, logits equal\n"


def test_the_numpy_script_finds_one_wrong_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(tmp_path / "b")
    path = bundle.path / "golden.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # the last byte holds spikes of one sample at the last step
    path.write_bytes(bytes(data))
    assert example().main(str(bundle.path)) == 1
    assert capsys.readouterr().out.startswith("1 of ")


def test_the_script_imports_nothing_of_ours() -> None:
    text = EXAMPLE.read_text()
    assert "icsnn_deploy" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(code) <= 63  # to be read in one go


def test_a_float_network_has_no_golden_spikes() -> None:
    network = residual_network()
    with pytest.raises(LatticeError, match="integer network"):
        golden_bytes(network, samples(network, 2))


def test_golden_spikes_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    network = integer_network()
    path.write_bytes(golden_bytes(network, inputs_of(network)))
    longer = residual_network(time_steps=9)
    with pytest.raises(BundleError, match="not golden spikes of this network"):
        read_golden(path, longer)
