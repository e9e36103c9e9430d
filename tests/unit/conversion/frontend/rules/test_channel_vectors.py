"""Vectors of channels from a global pooling that come back to maps, and sums of channel groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Conv, Flatten, Linear
from tests.support.traced import Body, Form, check, images


class Gates(Body):
    """A body with layers for six channels and for vectors of them."""

    def __init__(self, forward: Form) -> None:
        super().__init__(forward)
        torch.manual_seed(0)
        self.widen = nn.Conv2d(3, 6, 3, padding=1)
        self.six = nn.Conv2d(6, 6, 3, padding=1)
        self.gates = nn.Linear(6, 24)
        self.states = nn.Linear(6, 24)
        self.narrow = nn.Linear(6, 3)
        self.joined = nn.Conv2d(12, 4, 3)


def maps(m: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(m.widen(x))


def vector(y: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(y, 1).view(y.size(0), -1)


def over_space(v: torch.Tensor) -> torch.Tensor:
    return v.unsqueeze(-1).unsqueeze(-1)


def one_gate(m: Any, x: torch.Tensor) -> Any:
    y = maps(m, x)
    _, second, _, _ = m.gates(vector(y)).chunk(4, 1)
    return m.six(y + over_space(torch.relu(second)))


def state_of_two(m: Any, x: torch.Tensor) -> Any:
    """An attention module with a state that a second call reads."""
    y = maps(m, x)
    none = torch.zeros_like(vector(y))
    first, second, third, _ = (m.gates(vector(y)) + m.states(none)).chunk(4, 1)
    state = F.hardtanh(first) + F.relu(second)
    y = torch.relu(m.six(y + over_space(state + 0.5 * third)))
    first, second, *_ = (m.gates(vector(y)) + m.states(state)).chunk(4, 1)
    return m.six(y - over_space(F.leaky_relu(first) + second))


VECTORS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "a chunk": one_gate,
    "chunks with a state": state_of_two,
    "joined with maps": lambda m, x: (
        lambda y: m.joined(torch.cat([y, over_space(m.gates(vector(y))[:, 6:12]).expand_as(y)], 1))
    )(maps(m, x)),
    "every other channel": lambda m, x: (
        lambda y: y[:, ::2] + over_space(torch.relu(m.gates(vector(y))[:, ::8]))
    )(maps(m, x)),
    "scaled per channel": lambda m, x: (
        lambda y: m.six(y + over_space(torch.arange(6.0) * m.gates(vector(y))[:, 3:9] + 1))
    )(maps(m, x)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_from_a_pooling_reaches_every_position(name: str) -> None:
    graph = check(Gates(VECTORS[name]).eval(), images(3, 3, 5, 6))
    assert not graph.nodes_of(Flatten, Linear)


def recurrent(m: Any, x: torch.Tensor) -> Any:
    """Two calls of an attention whose gates are products (DIANet)."""
    y = maps(m, x)
    hidden = cell = torch.zeros_like(vector(y))
    for _ in range(2):
        i, f, c, o = (m.gates(vector(y)) + m.states(hidden)).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(c)
        hidden = torch.sigmoid(o) * torch.sigmoid(cell)
        y = torch.relu(m.six(y * over_space(hidden)))
    return m.narrow(vector(y))


def test_an_attention_with_a_state_is_approximated() -> None:
    x = images(64, 3, 5, 6)
    graph = trace(Gates(recurrent).eval(), x[:2], approximate=Approximation(knots=8, samples=x))
    record: Any = graph.provenance[APPROXIMATED]
    (errors,) = record["outputs"].values()
    assert errors["rms"] < 0.02


# Convolutions along the channels


class ChannelConvolution(nn.Module):
    """Efficient channel attention, with a sum in place of its product."""

    def __init__(self, channels: int, kernel: int = 5, *, mode: str = "constant") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.along = nn.Conv1d(1, 1, kernel)
        self.head = nn.Conv2d(channels, 3, 1)
        self.mode, self.width = mode, kernel // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        v = F.pad(y.mean((2, 3)).view(x.size(0), 1, -1), (self.width, self.width), mode=self.mode)
        v = F.hardtanh(self.along(v)).view(x.size(0), -1, 1, 1)
        scores: torch.Tensor = self.head(y + v.expand_as(y))
        return scores


@pytest.mark.parametrize("mode", ["constant", "circular"])
@pytest.mark.parametrize("channels", [8, 257, 512])
def test_a_convolution_along_the_channels_is_a_matrix_of_them(channels: int, mode: str) -> None:
    graph = check(ChannelConvolution(channels, mode=mode).eval(), images(2, 3, 4, 4))
    along = graph.node("along")
    assert isinstance(along, Conv)
    assert graph.shape("along")[1:] == (1, 1)
    assert (along.weight != 0).sum() <= 5 * len(along.weight)
    if channels > 256:
        assert along.weight.size <= (channels + 4) ** 2


@pytest.mark.parametrize(
    "along",
    [
        nn.Conv1d(1, 1, 4, stride=2),
        nn.Conv1d(1, 1, 3, padding=2, dilation=2),
        nn.ConvTranspose1d(1, 1, 3, stride=2, padding=1),
    ],
)
@pytest.mark.parametrize("channels", [300, 301])
def test_convolutions_along_the_channels(channels: int, along: nn.Module) -> None:
    pooled = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (1, channels)))
    model = nn.Sequential(nn.Conv2d(3, channels, 2), *pooled, along, nn.ReLU())
    check(model.eval(), images(2, 3, 3, 3))


def test_too_many_channels_are_refused() -> None:
    model = ChannelConvolution(4096).eval()
    with pytest.raises(
        UnsupportedOperatorError, match=r"4096 separate places(?s:.*)smaller images"
    ):
        trace(model, images(2, 3, 2, 2))


def test_a_long_signal_from_a_vector_stays_a_signal() -> None:
    """Convolutions of many channels of it would take its length squared times as many weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 300, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Unflatten(1, (1, 300)),
        nn.Conv1d(1, 4, 3),
        nn.ReLU(),
        nn.Conv1d(4, 4, 3),
    )
    graph = check(model.eval(), images(2, 3, 4, 4))
    assert graph.shape("7") in ((4, 296), (4, 296, 1), (4, 1, 296))


# Sums of channel groups


class Squeeze(Body):
    """A body with layers for four and eight channels."""

    def __init__(self, forward: Form) -> None:
        super().__init__(forward)
        torch.manual_seed(0)
        self.coarse = nn.Conv2d(3, 8, 4, 4)
        self.same = nn.Conv2d(8, 8, 3, padding=1)
        self.fine = nn.Conv2d(3, 4, 1)
        self.twelve = nn.Conv2d(12, 4, 3, padding=1)


def upsampled(m: Any, x: torch.Tensor) -> torch.Tensor:
    """An image that was upsampled twice, with a layer between, and joined with a fine one."""
    y = F.interpolate(torch.relu(m.coarse(x)), scale_factor=2)
    y = F.interpolate(m.same(y), scale_factor=2)
    return torch.cat([m.fine(x), y], 1)


def groups(y: torch.Tensor, count: int) -> torch.Tensor:
    return y.view(y.size(0), -1, count, *y.shape[2:])


SUMS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "sum": lambda m, x: groups(upsampled(m, x), 2).sum(2),
    "mean": lambda m, x: groups(upsampled(m, x), 4).mean(2),
    "sum and a shortcut": lambda m, x: (lambda y: m.twelve(y)[:, :3] + groups(y, 4).sum(2))(
        upsampled(m, x)
    ),
    "groups that reach over two nodes": lambda m, x: groups(upsampled(m, x), 6).sum(2),
    "flipped": lambda m, x: groups(upsampled(m, x).flip([1, 3]), 2).sum(2),
    "groups that share channels": lambda m, x: (
        lambda y: groups(torch.cat([y, y[:, [0, 2, 0, 2]]], 1), 2).sum(2)
    )(upsampled(m, x)),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_channel_groups(name: str) -> None:
    check(Squeeze(SUMS[name]).eval(), images(3, 3, 8, 8))


def test_a_sum_of_channel_groups_is_computed_in_the_layout_of_its_channels() -> None:
    graph = check(Squeeze(SUMS["sum"]).eval(), images(3, 3, 8, 8))
    largest = max(node.weight.size for node in graph.nodes_of(Conv, Linear))
    assert largest <= (4 * 8) * (4 * 8) * 9
