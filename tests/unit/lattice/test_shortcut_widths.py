"""A shortcut too wide for a target narrows the branch that it joins."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from tests.parity.test_encodings import Residual, frames


def test_a_residual_network_on_spikes_fits_speck() -> None:
    speck = find_target("speck")
    conversion = convert(
        Residual().eval(), frames(), Recipe(name="fast", time_steps=5), encoding="rate"
    )
    options = LatticeOptions.for_target(speck, bits=None, per_layer=False, input_bits=8)
    plain = quantize(conversion, frames(), options=options)
    fitting = quantize(conversion, frames(), options=options, profile=speck)
    wide = [m.node for m in check(plain.network, speck).misfits if m.what == "weight width"]
    assert wide == ["relu.amplitude"]
    assert check(fitting.network, speck).ok, check(fitting.network, speck).misfits
    assert fitting.bits["conv2"] < plain.bits["conv2"]
    assert np.abs(fitting.network.node("relu.amplitude").arrays()["scale"]).max() <= 127
