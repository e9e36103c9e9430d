"""Small networks with piecewise-linear activations certify at 8 bits and give the same spikes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import QuantileThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from tests.support.random_expressions import Expression, Joined

RECIPE = Recipe(
    name="one",
    time_steps=8,
    methods=(Method(threshold=QuantileThreshold(p=0.99), v_init=Half()),),
)


def prelu() -> nn.Module:
    layer = nn.PReLU(6)
    layer.weight.data = torch.linspace(-0.3, 1, 6)
    return layer


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "LeakyReLU": lambda: nn.LeakyReLU(0.1),
    "PReLU": prelu,
    "RReLU": nn.RReLU,
    "abs": lambda: Expression("x.abs()"),
    "Hardtanh": nn.Hardtanh,
    "Hardsigmoid": nn.Hardsigmoid,
    "Softshrink": lambda: nn.Softshrink(0.1),
    "clamp": lambda: Expression("x.clamp(min=-0.3)"),
    "where": lambda: Expression("torch.where(x > 0, x, 0.2 * x)"),
}


def assert_certified(model: nn.Module) -> None:
    """Every spike of the integer network agrees between the reference and PyTorch."""
    images = np.random.default_rng(0).standard_normal((16, 3, 10, 10), dtype=np.float32)
    result = quantize(convert(model, images, RECIPE), images, options=LatticeOptions(batch_size=8))
    assert result.certificate.float32
    assert set(result.bits.values()) == {8}
    x = to_input_units(result.network, images[:6])
    expected = ReferenceSimulator(result.network).run(x)
    found = TorchSimulator(result.network).run(x)
    assert sum(int(spikes.sum()) for spikes in expected.spikes.values()) > 0
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    np.testing.assert_array_equal(found.logits, expected.logits)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_spike_of_a_network_with_the_activation(name: str) -> None:
    activation = ACTIVATIONS[name]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        activation(),
        nn.Conv2d(6, 6, 3, padding=1),
        activation(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(150, 5),
    )
    assert_certified(model.eval())


@pytest.mark.parametrize("text", ["torch.maximum(a, b)", "torch.min(a, b)"])
def test_every_spike_of_a_maxout_network(text: str) -> None:
    """Written as b + relu(a - b), where the next layer reads b itself, it took 2 bits."""
    torch.manual_seed(0)

    def maxout(channels: int) -> nn.Module:
        branches = [nn.Conv2d(channels, 6, 3, padding=1) for _ in range(2)]
        return Joined(branches[0], branches[1], text)

    layers = (maxout(3), maxout(6), nn.AvgPool2d(2), maxout(6), nn.Flatten(), nn.Linear(150, 5))
    assert_certified(nn.Sequential(*layers).eval())


def test_every_spike_of_activations_of_the_image_itself() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        Expression("torch.cat([x.abs(), F.leaky_relu(x, 0.2)], 1)"),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Hardtanh(),
        nn.Flatten(),
        nn.Linear(600, 5),
    )
    assert_certified(model.eval())
