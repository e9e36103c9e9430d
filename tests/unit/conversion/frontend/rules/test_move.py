"""Operators that only move values: nodes are made where a layer reads them, nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Add, Conv, Relu
from tests.support.traced import Body, Form, check, images


class Moves(Body):
    """A body with layers for four, eight and twelve channels, and for tokens."""

    def __init__(self, forward: Form) -> None:
        super().__init__(forward)
        torch.manual_seed(0)
        self.widen = nn.Conv2d(3, 8, 3, padding=1)
        self.four = nn.Conv2d(4, 5, 3, padding=1)
        self.eight = nn.Conv2d(8, 5, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.sixteen = nn.Conv2d(16, 2, 1)
        self.grouped = nn.Conv2d(8, 6, 3, groups=2)
        self.tokens = nn.Linear(8, 6)
        self.along = nn.Conv1d(8, 4, 3)
        self.wide = nn.Conv2d(8, 3, (1, 3))
        self.matrix = nn.Parameter(torch.randn(4, 8))


def eight(m: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.relu(m.widen(x))


FORMS: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "chunk": lambda m, x: m.four(eight(m, x).chunk(2, 1)[1]),
    "split": lambda m, x: m.eight(torch.cat(torch.split(eight(m, x), [3, 5], 1)[::-1], 1)),
    "unbind and stack": lambda m, x: m.eight(torch.stack(eight(m, x).unbind(1)[::-1], 1)),
    "channel shuffle": lambda m, x: m.eight(
        torch.relu(eight(m, x).view(x.size(0), 2, 4, 6, 7).transpose(1, 2).flatten(1, 2))
    ),
    "nn.ChannelShuffle": lambda m, x: m.grouped(F.channel_shuffle(eight(m, x), 2)),
    "depthwise after a shuffle": lambda m, x: m.sixteen(
        torch.relu(m.depthwise(F.channel_shuffle(eight(m, x), 4)))
    ),
    "flip": lambda m, x: m.eight(eight(m, x).flip([2, 3])),
    "roll": lambda m, x: m.eight(eight(m, x).roll((1, -2), (2, 3))),
    "index": lambda m, x: m.eight(eight(m, x)[:, [1, 0, 3, 2, 7, 6, 5, 4]]),
    "index_select": lambda m, x: m.four(eight(m, x).index_select(1, torch.tensor([6, 0, 1, 1]))),
    "gather rows": lambda m, x: m.eight(eight(m, x)[:, :, [0, 0, 2, 5, 4]]),
    "select": lambda m, x: m.along(eight(m, x)[:, :, -1]),
    "one column": lambda m, x: m.along(eight(m, x)[..., 2]),
    "squeeze and unsqueeze": lambda m, x: m.wide(
        eight(m, x).mean(2, keepdim=True).squeeze(2).unsqueeze(2)
    ),
    "expand": lambda m, x: m.eight(eight(m, x).mean((2, 3), keepdim=True).expand(-1, -1, 3, 4)),
    "repeat": lambda m, x: m.eight(eight(m, x)[:, :4].repeat(1, 2, 1, 2)),
    "repeat_interleave": lambda m, x: m.eight(eight(m, x)[:, :4].repeat_interleave(2, 1)),
    "pad with a constant": lambda m, x: m.eight(F.pad(eight(m, x), (1, 0, 2, 1), value=0.7)),
    "reflect": lambda m, x: m.eight(F.pad(eight(m, x), (1, 2, 0, 1), mode="reflect")),
    "replicate": lambda m, x: m.eight(F.pad(eight(m, x), (1, 2, 0, 1), mode="replicate")),
    "circular": lambda m, x: m.eight(F.pad(eight(m, x), (1, 2, 0, 1), mode="circular")),
    "cat with a constant": lambda m, x: m.eight(
        torch.cat([eight(m, x)[:, :7], torch.zeros_like(m.widen(x))[:, :1] + 0.3], 1)
    ),
    "cat with coordinates": lambda m, x: m.eight(
        torch.cat(
            [eight(m, x)[:, 1:], torch.arange(42.0).view(1, 1, 6, 7) + torch.zeros(3, 1, 1, 1)], 1
        )
    ),
    "cat along rows": lambda m, x: m.eight(torch.cat([eight(m, x), m.widen(x)], 2)),
    "crop and pad back": lambda m, x: m.eight(F.pad(eight(m, x)[:, :, 1:-1], (0, 0, 1, 1))),
    "zeros_like": lambda m, x: m.eight(eight(m, x) + torch.zeros_like(eight(m, x)) + 1),
    "tokens": lambda m, x: torch.relu(m.tokens(eight(m, x).flatten(2).transpose(1, 2))).mean(1),
    "channels last": lambda m, x: m.tokens(eight(m, x).permute(0, 2, 3, 1)),
    "matrix on the left": lambda m, x: (m.matrix @ eight(m, x).flatten(2)).view(-1, 4, 6, 7),
    "signal of the rows": lambda m, x: m.along(torch.relu(eight(m, x).flatten(2))),
    "unfold": lambda m, x: F.unfold(m.widen(x), 2),
    "output apart": lambda m, x: (
        m.eight(eight(m, x)).view(x.size(0), 5, 1, 6, 7).permute(0, 2, 3, 4, 1)
    ),
    "sum of arrangements": lambda m, x: m.eight(eight(m, x) + eight(m, x).flip(1)),
    "broadcast sum": lambda m, x: m.eight(eight(m, x) + eight(m, x).mean((2, 3), keepdim=True)),
    "broadcast row": lambda m, x: m.eight(eight(m, x) + m.widen(x).mean(2, keepdim=True)),
}


@pytest.mark.parametrize("name", FORMS)
def test_moved_values_reach_the_layers(name: str) -> None:
    check(Moves(FORMS[name]).eval(), images(3, 3, 6, 7))


FREE: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "channel shuffle": FORMS["channel shuffle"],
    "split": FORMS["split"],
    "index": FORMS["index"],
    "depthwise after a shuffle": FORMS["depthwise after a shuffle"],
    "channels last": FORMS["channels last"],
}


@pytest.mark.parametrize("name", FREE)
def test_a_permutation_of_channels_takes_no_layer(name: str) -> None:
    graph = check(Moves(FREE[name]).eval(), images(2, 3, 6, 7))
    layers = {"widen", "eight", "depthwise", "sixteen", "tokens"}
    assert all(node.name in layers for node in graph.nodes_of(Conv))
    assert not graph.nodes_of(Add)


def test_a_layer_that_reads_a_half_reads_the_node_it_comes_from() -> None:
    graph = check(Moves(FORMS["chunk"]).eval(), images(2, 3, 6, 7))
    assert [node.name for node in graph.nodes_of(Conv)] == ["widen", "four"]
    assert graph.node("four").inputs == ("relu",)


def test_a_rectifier_after_a_repetition_is_computed_once_per_value() -> None:
    form: Callable[[Any, torch.Tensor], Any]
    form = lambda m, x: m.eight(torch.relu(m.widen(x).repeat_interleave(2, 2)))  # noqa: E731
    model = Moves(form).eval()
    graph = check(model, images(2, 3, 6, 7))
    (relu,) = graph.nodes_of(Relu)
    assert graph.shape(relu.name) == (8, 6, 7)


def test_an_input_that_is_rearranged_first_is_rearranged_by_the_host() -> None:
    model = Moves(lambda m, x: m.conv(x.permute(0, 3, 1, 2))).eval()
    graph = check(model, images(2, 6, 7, 3))
    assert graph.input.shape == (3, 6, 7)
    assert graph.input.parts[0].shape == (6, 7, 3)
    assert [node.kind for node in graph.nodes] == ["input", "conv", "output"]


MIXED: dict[str, Form] = {
    "flattened batch": lambda m, x: m.conv(x).flatten(0, 1),
    "batch moved": lambda m, x: m.conv(x).transpose(0, 1),
    "one sample": lambda m, x: m.conv(x)[:1],
    "batch flipped": lambda m, x: m.conv(x).flip(0),
}


@pytest.mark.parametrize("name", MIXED)
def test_samples_must_stay_apart(name: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"(mixes|moves) .*the samples"):
        trace(Body(MIXED[name]).eval(), images(2, 3, 6, 7))
