"""Padding by -inf before a max pooling is the padding of the pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Relu
from tests.support.traced import Body, check, images


def bordered(y: torch.Tensor, *widths: int) -> torch.Tensor:
    return F.pad(y, widths, value=-torch.inf)


PADDED: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "both ends": lambda m, x: F.max_pool2d(bordered(m.conv(x), 1, 1, 1, 1), 3, 2),
    "one end": lambda m, x: F.max_pool2d(bordered(m.conv(x), 0, 1, 0, 1), 3, 2),
    "more at one end": lambda m, x: F.max_pool2d(bordered(m.conv(x), 0, 1, 1, 2), 3, 2),
    "beside padding of the pooling": lambda m, x: F.max_pool2d(
        bordered(m.conv(x), 1, 0, 0, 1), 3, padding=1
    ),
    "of rectified values": lambda m, x: F.max_pool2d(bordered(m.relu(m.conv(x)), 0, 1, 0, 1), 3, 2),
    "one axis": lambda m, x: F.max_pool2d(bordered(m.conv(x), 0, 0, 1, 1), (3, 1), (2, 1)),
    "dilated": lambda m, x: F.max_pool2d(bordered(m.conv(x), 2, 1, 1, 2), 3, 1, dilation=2),
    "rounded up": lambda m, x: F.max_pool2d(
        bordered(m.conv(x), 1, 0, 1, 0), 3, 2, 0, ceil_mode=True
    ),
    "a signal": lambda m, x: F.max_pool1d(bordered(m.conv(x).flatten(2), 1, 1), 3, 2),
    "joined maps": lambda m, x: F.max_pool2d(
        bordered(torch.cat([m.conv(x), m.conv2(x)], 1), 1, 1, 1, 1), 3, 2
    ),
    "the largest of all": lambda m, x: bordered(m.conv(x), 1, 1, 1, 1).amax((2, 3)),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_by_infinity(name: str) -> None:
    check(Body(PADDED[name]).eval(), images(3, 3, 7, 8))


def test_it_takes_the_neurons_of_the_padding_that_it_is() -> None:
    def pooled(m: Body, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(bordered(m.conv(x), 1, 1, 1, 1), 3, 2)

    def plain(m: Body, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(m.conv(x), 3, 2, padding=1)

    found, wanted = (
        [graph.shape(relu.name) for relu in graph.nodes_of(Relu)]
        for graph in (trace(Body(f).eval(), images(2, 3, 7, 7)) for f in (pooled, plain))
    )
    assert found == wanted


def test_windows_of_padding_alone_are_refused() -> None:
    model = Body(lambda m, x: F.max_pool2d(bordered(m.conv(x), 3, 3, 3, 3), 3, 1)).eval()
    with pytest.raises(UnsupportedOperatorError, match="windows that hold padding of -inf alone"):
        trace(model, images(2, 3, 7, 7))


@pytest.mark.parametrize("layer", [nn.AvgPool2d(3, 1), nn.Conv2d(3, 2, 3)])
def test_other_layers_can_not_read_infinity(layer: nn.Module) -> None:
    model = nn.Sequential(nn.ConstantPad2d(1, -torch.inf), layer).eval()
    with pytest.raises(UnsupportedOperatorError, match="a constant that is not finite"):
        trace(model, images(2, 3, 7, 7))
