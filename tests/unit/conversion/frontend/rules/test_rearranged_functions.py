"""Functions of tensors that were cropped, padded or moved before: masks, maxima, constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import ChannelAffine
from tests.support.traced import Body, Form, check, images


class WithSlopes(Body):
    """A body with a PReLU."""

    def __init__(self, forward: Form) -> None:
        super().__init__(forward)
        self.prelu = nn.PReLU(3)


FORMS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "where of padded": lambda m, x: (lambda y: torch.where(y < 0, 0.3 * y, y))(
        F.pad(m.conv(x), [1, 1, 0, 2])
    ),
    "mask of padded with a constant": lambda m, x: (lambda y: y * (y > 0))(
        F.pad(m.conv(x), [1, 1], value=-0.5)
    ),
    "mask of padded with a positive constant": lambda m, x: (lambda y: y * (y > 0) + 1)(
        F.pad(m.conv(x), [1, 1], value=0.5)
    ),
    "where of a selected channel": lambda m, x: (lambda y: torch.where(y > 0, y, 0.1 * y))(
        torch.relu(m.conv(x))[:, 1]
    ),
    "where of joined and plain": lambda m, x: (
        lambda y: (lambda a, b: torch.where(a > b, a, b))(m.conv2(y), y.relu())
    )(torch.cat([m.conv(x)[:, 1:], x[:, :1]], 1)),
    "maximum and its mean": lambda m, x: torch.maximum(m.conv(x), x.mean([2, 3], keepdim=True)),
    "mean of channels and minimum": lambda m, x: torch.min(x.mean(1, keepdim=True), m.conv(x)),
    "bounds of one value": lambda m, x: (
        m.linear(m.conv(x).mean([2, 3]))
        .unsqueeze(2)
        .clamp(torch.full((1, 1, 1), -0.2), torch.full((1,), 0.4))
    ),
    "module with weights on padding": lambda m, x: m.prelu(F.pad(m.conv(x), [1, 1], value=-0.5)),
    "slopes per channel of a transposed tensor": lambda m, x: m.prelu(m.conv(x)[:, 0].mT[:, :3]),
    "largest by name": lambda m, x: m.conv(x).max(2).values + x.min(2)[0],
}


@pytest.mark.parametrize("name", FORMS)
def test_functions_of_rearranged_tensors(name: str) -> None:
    torch.manual_seed(0)
    check(WithSlopes(FORMS[name]).eval(), images(3, 3, 5, 6))


def test_a_constant_added_to_one_channel_keeps_the_values() -> None:
    """The parameters of channels that are not read must not stand for those that are."""
    shift = torch.arange(5.0)[:, None]
    graph = check(Body(lambda m, x: x[:, 2] + shift).eval(), images(3, 3, 5, 6))
    (added,) = graph.nodes_of(ChannelAffine)
    assert np.array_equal(added.scale, np.ones((1, 1, 1)))


def test_a_selected_view_of_itself_is_the_same_tensor() -> None:
    check(
        Body(lambda m, x: m.conv(x)[:, 1].reshape(x.size(0), 5, 6).flatten(1)).eval(),
        images(3, 3, 5, 6),
    )


def test_named_results_that_are_not_computed_are_rejected() -> None:
    with pytest.raises(UnsupportedOperatorError, match="result indices used"):
        trace(Body(lambda m, x: m.conv(x).max(2).indices * 1.0).eval(), images(3, 3, 5, 6))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_dilated_windows_over_signed_values_may_be_padded(ceil_mode: bool) -> None:
    pool = nn.MaxPool2d(3, (2, 1), 1, dilation=(2, 1), ceil_mode=ceil_mode)
    check(nn.Sequential(pool).eval(), images(3, 2, 8, 6) - 2)


def test_dilated_windows_beyond_the_input_are_rejected() -> None:
    pool = nn.MaxPool1d(2, 1, 1, dilation=3)
    with pytest.raises(UnsupportedOperatorError, match="windows that hold no value"):
        trace(nn.Sequential(pool).eval(), images(3, 2, 2) - 2)
