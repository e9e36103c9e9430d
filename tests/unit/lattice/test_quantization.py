"""Saving conversions and quantizations, and what a quantization can start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError, DataError, LatticeError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.golden import golden_bytes
from icsnn_deploy.sources.options import ImageSize
from tests.support.graphs import residual_network, samples, with_hard_reset
from tests.support.traced import small_model

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 6), np.uint8)
NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def conversion() -> Conversion:
    recipe = Recipe(name="opi", time_steps=4)
    return convert(small_model(), PIXELS, recipe, normalization=NORMALIZATION)


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(bundle.path.iterdir())}


def test_a_saved_conversion_is_the_bundle_of_its_parts(
    conversion: Conversion, tmp_path: Path
) -> None:
    saved = conversion.save(tmp_path / "saved", PIXELS[:2])
    by_hand = create_bundle(
        tmp_path / "by hand",
        network=conversion.network,
        ann=conversion.ann,
        samples=PIXELS[:2],
        report=conversion.report.to_json(),
        normalization=NORMALIZATION,
    )
    assert contents(saved) == contents(by_hand)
    with pytest.raises(BundleError, match="exists already"):
        conversion.save(tmp_path / "saved", None)
    replaced = conversion.save(tmp_path / "saved", None, overwrite=True)
    assert "samples.safetensors" not in contents(replaced)


def test_a_conversion_and_its_bundle_quantize_to_the_same_files(
    conversion: Conversion, tmp_path: Path
) -> None:
    bundle = conversion.save(tmp_path / "float", PIXELS[:2])
    by_parts = quantize(conversion.network, PIXELS, conversion.ann)
    found = []
    sources: tuple[Conversion | Bundle, ...] = (conversion, bundle)
    for number, source in enumerate(sources):
        result = quantize(source, PIXELS)
        assert result.network.hash() == by_parts.network.hash()
        found.append(contents(result.save(tmp_path / str(number))))
    assert found[0] == found[1]
    inputs = to_input_units(by_parts.network, PIXELS[:8])
    by_hand = create_bundle(
        tmp_path / "by hand",
        network=by_parts.network,
        ann=conversion.ann,
        samples=inputs,
        report={**bundle.report(), "lattice": by_parts.to_json()},
        normalization=NORMALIZATION,
        golden=golden_bytes(by_parts.network, inputs),
    )
    assert contents(by_hand) == found[0]


def test_samples_to_save_are_converted_to_input_units(tmp_path: Path) -> None:
    network = residual_network()
    x = samples(network, 12)
    result = quantize(network, x)
    saved = result.save(tmp_path / "b", x[8:10])
    np.testing.assert_array_equal(saved.samples(), to_input_units(result.network, x[8:10]))
    kept = result.save(tmp_path / "c").samples()
    np.testing.assert_array_equal(kept, to_input_units(result.network, x[:8]))


def test_a_conversion_and_its_bundle_keep_how_images_and_events_are_read(
    conversion: Conversion, tmp_path: Path
) -> None:
    """A conversion is told when it is saved, and so is its quantization; a bundle knows."""
    size = ImageSize(resize=8, crop=(6, 6))
    bundle = conversion.save(tmp_path / "float", event_bins="count", image_size=size)
    told = quantize(conversion, PIXELS).save(tmp_path / "0", event_bins="count", image_size=size)
    known = quantize(bundle, PIXELS)
    assert (told.event_bins, told.image_size) == ("count", size)
    assert contents(told) == contents(known.save(tmp_path / "1"))
    other = known.save(tmp_path / "2", event_bins="duration", image_size=ImageSize(resize=6))
    assert (other.event_bins, other.image_size) == ("duration", ImageSize(resize=6))


def without_ann(encoding: Encoding, *, hard: bool = False) -> Graph:
    """A network that is rounded alone: no ANN comes with it, or it resets to a value."""
    network = residual_network()
    network = with_hard_reset(network) if hard else network
    return network.replace(replace(network.input, encoding=encoding))


RATES = np.random.default_rng(0).random((12, 2, 6, 6), dtype=np.float32)
SPIKES = (np.random.default_rng(1).random((8, 12, 2, 6, 6)) < 0.3).astype(np.uint8)  # [T, N, ...]
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "limit": (RATES, {}),
    "channels last": (np.moveaxis(RATES, 1, 3), {"channels_last": True}),
    "loader": (DataLoader(TensorDataset(torch.from_numpy(RATES)), batch_size=2), {}),
    "dict batches": ([{"x": RATES[:2]}, {"x": RATES[2:]}], {"input_key": "x"}),
}


@pytest.mark.parametrize("encoding", ["direct", "rate"])
@pytest.mark.parametrize("form", FORMS)
def test_a_network_that_is_only_rounded_takes_samples_in_every_form(
    form: str, encoding: Encoding
) -> None:
    network = without_ann(encoding, hard=form == "limit")
    given, options = FORMS[form]
    found = quantize(network, given, samples=3, **options)
    wanted = quantize(network, RATES[:3])
    assert found.network.hash() == wanted.network.hash()
    np.testing.assert_array_equal(found.samples, wanted.samples)
    assert wanted.samples.shape[network.input.batch_axis] == 3


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_a_limit_counts_the_samples_of_spikes_and_not_their_steps(encoding: Encoding) -> None:
    found = quantize(without_ann(encoding), SPIKES, samples=3)
    np.testing.assert_array_equal(found.samples, SPIKES[:, :3])
    swapped = quantize(without_ann(encoding), np.moveaxis(SPIKES, 2, 4), channels_last=True)
    np.testing.assert_array_equal(swapped.samples, SPIKES[:, :8])


@pytest.mark.parametrize("encoding", ["direct", "rate"])
def test_no_samples_are_refused(encoding: Encoding) -> None:
    with pytest.raises(DataError, match=r"calibration data of shape \(0, 2, 6, 6\)"):
        quantize(without_ann(encoding), RATES[:0])


def test_an_ann_beside_a_conversion_is_refused(conversion: Conversion) -> None:
    with pytest.raises(LatticeError, match="ann: given beside a Conversion, which has its own"):
        quantize(conversion, PIXELS, conversion.ann)
