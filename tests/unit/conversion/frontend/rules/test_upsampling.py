"""Upsampling, transposed convolution and resizing: exact, with the layers that every file has."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend import axis_maps, selecting
from icsnn_deploy.conversion.frontend import images as images_of_layers
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Conv
from tests.support.traced import Body, Form, check, images


class Fine(Body):
    """A body with layers before and after an upsampling."""

    def __init__(self, forward: Form, up: nn.Module | None = None) -> None:
        super().__init__(forward)
        torch.manual_seed(0)
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.up = up or nn.Identity()
        self.after = nn.Identity() if up is None else nn.LazyConv2d(5, 3, padding=1)
        self.last = nn.Conv2d(5, 4, 2, stride=2)


def decoder(m: Any, x: torch.Tensor) -> Any:
    return m.last(torch.relu(m.after(torch.relu(m.up(torch.relu(m.before(x)))))))


def built(up: nn.Module, size: tuple[int, int] = (5, 6)) -> tuple[Fine, torch.Tensor]:
    x = images(2, 3, *size)
    model = Fine(decoder, up)
    with torch.no_grad():
        model(x)  # creates the lazy layer
    return model.eval(), x


MODES: dict[str, dict[str, Any]] = {
    "nearest": {"scale_factor": 2},
    "nearest by four": {"scale_factor": 4},
    "nearest uneven": {"size": (7, 13)},
    "nearest-exact": {"size": (7, 13), "mode": "nearest-exact"},
    "bilinear": {"scale_factor": 2, "mode": "bilinear"},
    "bilinear by three": {"scale_factor": 3, "mode": "bilinear"},
    "bilinear corners": {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
    "bilinear uneven": {"size": (8, 9), "mode": "bilinear"},
    "bicubic": {"scale_factor": 2, "mode": "bicubic"},
    "half": {"scale_factor": 0.5, "mode": "bilinear"},
    "area": {"size": (3, 4), "mode": "area"},
}


@pytest.mark.parametrize("name", MODES)
def test_resizing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        axis_maps, "_AT_ONCE", 300
    )  # a map is applied to some basis vectors at once

    class Resize(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(x, **MODES[name])

    check(*built(Resize()))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ((2, 4000), (2, 4001), "a map of 4,000 to 4,001 places"),
        ((2, 2), (3000, 2900), r"a map to 3,000 x 2,900 places\n.*up to 8,388,608 places"),
    ],
)
def test_a_map_between_too_many_places_is_rejected_before_its_matrix_is_made(
    before: tuple[int, int], after: tuple[int, int], message: str
) -> None:
    class Resize(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(x, size=after, mode="bilinear")

    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), Resize(), nn.Flatten())
    with pytest.raises(UnsupportedOperatorError, match=message):
        trace(model, torch.zeros(1, 1, *before))


@pytest.mark.parametrize(
    ("stride", "kernel", "padding"), itertools.product((1, 2, 3), (1, 2, 3, 4), (0, 1))
)
def test_transposed_convolution(stride: int, kernel: int, padding: int) -> None:
    for groups, dilation in ((1, 1), (4, 1), (2, 2)):
        up = nn.ConvTranspose2d(
            8, 8, kernel, stride, padding, stride - 1, groups=groups, dilation=dilation
        )
        if 5 - 1 + dilation * (kernel - 1) > 2 * padding:
            check(*built(up))


@pytest.mark.parametrize(
    "up", [nn.PixelShuffle(2), nn.PixelUnshuffle(1), nn.Upsample(scale_factor=2)]
)
def test_modules(up: nn.Module) -> None:
    check(*built(up))


def shuffled(m: Any, x: torch.Tensor) -> torch.Tensor:
    return F.pixel_shuffle(m.before(x), 2)


def test_pixel_shuffle_at_the_end_is_left_to_the_host() -> None:
    model = Fine(shuffled).eval()
    graph = check(model, images(2, 3, 5, 6))
    assert [node.kind for node in graph.nodes] == ["input", "conv", "output"]
    assert graph.output.parts[0].shape == (2, 10, 12)


def test_a_factor_of_two_takes_one_convolution_per_layer() -> None:
    graph = check(*built(nn.Upsample(scale_factor=2)))
    assert [node.name for node in graph.nodes_of(Conv)] == ["before", "after", "last"]
    assert {node.name: node.weight.shape[:2] for node in graph.nodes_of(Conv)}["after"] == (20, 8)


class UNet(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mode = mode
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 4), (4, 8), (8, 8), (8, 8))
        )
        self.ups = nn.ModuleList(nn.ConvTranspose2d(8, 8, 2, 2) for _ in range(3))
        self.joins = nn.ModuleList(nn.Conv2d(a, 8, 3, padding=1) for a in (16, 16, 12))
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, layer in enumerate(self.down):
            x = torch.relu(layer(x))
            if level < 3:
                skips.append(x)
                x = F.avg_pool2d(x, 2)
        for up, join, skip in zip(self.ups, self.joins, skips[::-1], strict=True):
            if self.mode == "transposed":
                x = up(x)
            else:
                x = F.interpolate(x, scale_factor=2, mode=self.mode)
            x = torch.relu(join(torch.cat([x, skip], 1)))
        result: torch.Tensor = self.head(x)
        return result


WIDE: dict[str, Any] = {
    "convolution": lambda m, x: m.after(F.interpolate(m.before(x), scale_factor=2)),
    "average": lambda m, x: F.avg_pool2d(F.interpolate(m.before(x), scale_factor=2), 3, 2, 1),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_layer_too_large_for_phases_reads_the_fine_image(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In four phases these layers would have 16 times as many weights."""
    model = Fine(WIDE[name])
    model.add_module("after", nn.Conv2d(8, 8, 3, padding=1))
    for module in (images_of_layers, selecting):
        monkeypatch.setattr(module, "MAX_WEIGHTS", 600, raising=False)
    graph = check(model.eval(), images(2, 3, 5, 6))
    assert max(node.weight.size for node in graph.nodes_of(Conv)) <= 600


@pytest.mark.parametrize("mode", ["transposed", "nearest", "bilinear"])
def test_unet_of_three_levels(mode: str) -> None:
    graph = check(UNet(mode).eval(), images(2, 3, 16, 24))
    assert sum(node.weight.size for node in graph.nodes_of(Conv)) < 10**6


def test_a_generator_from_a_vector() -> None:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.project = nn.Linear(10, 4 * 9)
            self.norm = nn.BatchNorm1d(36)
            self.up = nn.ConvTranspose2d(4, 4, 4, 2, 1)
            self.last = nn.ConvTranspose2d(4, 1, 4, 2, 1)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.norm(self.project(z))).view(-1, 4, 3, 3)
            return torch.tanh(self.last(torch.relu(self.up(x))))

    from icsnn_deploy.conversion.frontend.trace import trace

    graph = trace(Generator().eval(), images(2, 10))
    assert graph.output.parts == (("output", (1, 12, 12), "tanh"),)
