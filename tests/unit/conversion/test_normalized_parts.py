"""A normalization in front of an input that is arranged differently from the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.ann_graph import _normalized
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.nodes import Part
from tests.support.graphs import residual_network, with_parts
from tests.unit.lattice.test_quantize import ann_of

PIXELS = Normalization(mean=(0.5, 0.25, 0.75), std=(0.5, 0.75, 0.25))


def test_each_pixel_gets_the_normalization_of_its_own_channel() -> None:
    """An image [3, 4, 6] in an input [2, 6, 6], in any order, with places that stay 0."""
    rng = np.random.default_rng(0)
    index = rng.permutation(np.append(np.arange(70), [-1, -1])).reshape(2, 6, 6)
    ann = ann_of(residual_network())
    ann = ann.replace(replace(ann.input, parts=(Part("image", (3, 4, 6)),), index=index))
    pixels = rng.integers(0, 256, (3, 3, 4, 6)).astype(np.uint8)
    expected = run_ann(ann, pack_inputs(ann, {"image": PIXELS.apply(pixels)}))
    found = _normalized(ann, PIXELS)
    assert found.input.dtype == "uint8"
    got = run_ann(found, pack_inputs(found, {"image": pixels}))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_several_inputs_take_no_normalization() -> None:
    with pytest.raises(DataError, match="the model takes left, right; leave it out"):
        _normalized(with_parts(ann_of(residual_network())), PIXELS)
