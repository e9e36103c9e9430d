"""Signed sums that would not certify travel as spikes; all other networks stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import MSEThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.conversion.signed_paths import certifiable
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.nodes import IF, Conv, Relu
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.passes.split_signed import split_signed

RECIPE = Recipe(
    name="one", time_steps=8, methods=(Method(threshold=MSEThreshold(), v_init=Half()),)
)


class Maxout(nn.Module):
    """max(a, b) of two convolutions, as docs/guide/networks.md writes it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.b = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.a(x), self.b(x)
        result: torch.Tensor = b + functional.relu(a - b)
        return result


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


def convolutions(count: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count)]


def maxout(layers: int) -> nn.Module:
    return nn.Sequential(Maxout(3, 16), *(Maxout(16, 16) for _ in range(layers - 1)), *head(16))


def in_a_row(count: int) -> nn.Module:
    first = nn.Conv2d(3, 16, 3, padding=1)
    return nn.Sequential(first, *convolutions(count - 1, 16), nn.ReLU(), *head(16))


def images(count: int = 32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 8, 8), dtype=np.float32)


NETWORKS = {
    "one maxout": lambda: maxout(1),
    "three maxouts": lambda: maxout(3),
    "two in a row": lambda: in_a_row(2),
    "five in a row": lambda: in_a_row(5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_signed_paths_certify_with_8_bits(name: str) -> None:
    torch.manual_seed(0)
    model, x = NETWORKS[name]().eval(), images()
    conversion = convert(model, x, RECIPE)
    with torch.no_grad():
        expected = model(torch.from_numpy(x[:4])).numpy()
    np.testing.assert_allclose(run_ann(conversion.ann, x[:4]), expected, atol=1e-5)
    result = quantize(conversion, x)
    assert set(result.bits.values()) == {8}
    # As close to the ANN as the float network, or closer, apart from rounding.
    assert result.divergence[result.kept] < 2 * result.divergence["float"] + 1e-3


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), *head(4)),
        (
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 3),
            nn.ReLU(),
            *head(4),
        ),
        (nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), *head(4)),
    ],
    ids=["rectified", "composed", "max pooling"],
)
def test_a_network_that_certifies_stays_as_it_is(layers: tuple[nn.Module, ...]) -> None:
    torch.manual_seed(0)
    ann = trace(nn.Sequential(*layers).eval(), torch.from_numpy(images(2)))
    assert certifiable(ann, 8, CalibrationContext.of(images(), batch_size=8)) is ann


def test_a_normalization_of_pixels_is_no_connection() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), *head(16)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8)).astype(np.uint8)
    normalization = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    ann = convert(model, pixels, RECIPE, normalization=normalization).ann
    assert len(ann.nodes_of(Relu)) == 1


def test_a_pair_is_shared_by_all_that_take_the_same_sum() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = convolutions(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return torch.relu(self.a(y)) + torch.relu(self.b(y))

    torch.manual_seed(0)
    model, x = Fork().eval(), torch.from_numpy(images(2))
    ann = trace(model, x)
    split = split_signed(ann, {"a": ("first",), "b": ("first",)})
    assert len(split.nodes_of(Relu)) == len(ann.nodes_of(Relu)) + 2
    with torch.no_grad():
        np.testing.assert_allclose(run_ann(split, x.numpy()), model(x).numpy(), atol=1e-6)


SUMS: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [
    lambda y, r: y + y,
    lambda y, r: (y + r) + y,
    lambda y, r: (y + r) + (y + r),
]


@pytest.mark.parametrize("number", range(len(SUMS)))
def test_a_summand_that_occurs_twice_counts_twice(number: int) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = convolutions(3, 3)
            self.head = nn.Sequential(*head(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            r = torch.relu(self.first(x))
            total = SUMS[number](self.second(r), r)
            result: torch.Tensor = self.head(torch.relu(self.third(total) + r))
            return result

    torch.manual_seed(0)
    model, x = Twice().eval(), images()
    ann = trace(model, torch.from_numpy(x[:2]))
    split = certifiable(ann, 8, CalibrationContext.of(x, batch_size=8))
    assert len(split.nodes_of(Relu)) > len(ann.nodes_of(Relu))
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_ann(split, x), expected, atol=1e-6)


class BesideSpikes(nn.Module):
    """A signed convolution and its rectified result in one sum, behind another linear layer."""

    def __init__(self, *, images: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.both = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Identity() if images else nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
        self.score = nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.first(torch.relu(x))
        joined = torch.cat([y, torch.relu(y)], 1)
        return self.head(self.both(joined)), self.score(joined)


@pytest.mark.parametrize("images_out", [False, True])
def test_sums_before_other_linear_layers_are_found(images_out: bool) -> None:
    """Not only those that a population or the output takes, or whose summands are composed."""
    torch.manual_seed(0)
    model, x = BesideSpikes(images=images_out).eval(), images()
    conversion = convert(model, x, RECIPE, task={"0": "regression", "1": "regression"})
    result = quantize(conversion, x)
    assert set(result.bits.values()) == {8}
    assert result.divergence[result.kept] < 2 * result.divergence["float"] + 0.02


def test_the_upsampled_path_of_a_u_net_keeps_its_weights() -> None:
    """Beside the spikes of the skip connection, all of them were rounded to zero."""

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.join = convolutions(1, 3)[0], nn.Conv2d(6, 8, 3, padding=1)
            self.down = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
            self.up = nn.ConvTranspose2d(6, 3, 2, 2)
            self.norm, self.out = nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skip = torch.relu(self.enter(x))
            joined = torch.cat([skip, self.up(self.down(skip))], 1)
            result: torch.Tensor = self.out(torch.relu(self.norm(self.join(joined))))
            return result

    torch.manual_seed(0)
    result = quantize(convert(UNet().eval(), images(), RECIPE), images())
    network = result.network
    (deep,) = (node.name for node in network.nodes_of(IF) if node.name.startswith("down"))
    seen = [deep]
    for node in network.nodes:  # everything behind the deep population
        if set(node.inputs) & set(seen):
            seen.append(node.name)
            if isinstance(node, Conv):
                assert np.abs(node.weight).max() >= 16, node.name


def test_a_constant_beside_spikes_is_no_summand_of_the_ann() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 3, padding=1)
            self.head = nn.Sequential(*head(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.maximum(x, torch.tensor([0.5, 0.25, -0.25]).reshape(3, 1, 1))
            result: torch.Tensor = self.head(torch.relu(self.convolution(y)))
            return result

    torch.manual_seed(0)
    model, x = Constant().eval(), images()
    conversion = convert(model, x, RECIPE)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_ann(conversion.ann, x), expected, atol=1e-5)


def test_the_remedy_names_the_chain_and_no_narrower_weights() -> None:
    """A network from elsewhere, which was not converted by a pass that would insert rectifiers."""
    torch.manual_seed(0)
    ann = trace(in_a_row(5).eval(), torch.from_numpy(images(2)))
    one = np.ones((1, 1, 1), np.float32)
    (relu,) = ann.nodes_of(Relu)
    network = to_spiking(ann, {relu.name: PopulationParameters(v_threshold=one, v_init=one / 2)}, 8)
    with pytest.raises(LatticeError) as caught:
        quantize(network, images())
    message = str(caught.value)
    assert "0 -> 1 -> 2 -> 3 -> 4 follow each other without a population" in message
    assert "bits less" not in message


class Residual(nn.Module):
    """Two convolutions in a row beside a shortcut; a channel of the first one has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Sequential(*head(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(x)
        result: torch.Tensor = self.head(torch.relu(self.second(self.first(y)) + y))
        return result


@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize("exponent", [-30, 30])
def test_a_channel_without_weights_decides_nothing_in_any_unit(bias: float, exponent: int) -> None:
    torch.manual_seed(0)
    ones = Residual().eval()
    with torch.no_grad():
        for values, value in ((ones.first.weight, 0.0), (ones.first.bias, bias)):
            assert values is not None
            values[1] = value
        others = copy.deepcopy(ones)
        for values in others.first.parameters():
            values.mul_(2.0**exponent)
        others.second.weight.mul_(2.0**-exponent)
    found = []
    for model in (ones, others):
        ann = trace(model, torch.from_numpy(images(2)))
        split = certifiable(ann, 8, CalibrationContext.of(images(), batch_size=8))
        found.append(sorted(node.name for node in split.nodes_of(Relu)))
    assert len(found[0]) > 2
    assert found[1] == found[0]
