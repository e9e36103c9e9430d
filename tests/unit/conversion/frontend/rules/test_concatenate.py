"""Concatenation along the channels: taken apart by what comes behind it, else put together."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.graph.nodes import Conv, Relu
from icsnn_deploy.passes.compose import compose
from tests.support.traced import Body, check, images, names, ready


class Model(Body):
    """A model with layers for six and nine channels."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__(forward)
        self.six = nn.Conv2d(6, 4, 3, padding=1)
        self.nine = nn.Conv2d(9, 4, 1)
        self.grouped = nn.Conv2d(6, 6, 3, groups=2)
        self.bn = nn.BatchNorm2d(6)
        self.head = nn.Linear(6 * 36, 5)


def pair(m: Model, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([m.conv(x), torch.relu(m.conv2(x))], 1)


APART = {
    "slice": lambda m, x: m.conv(pair(m, x)[:, 1:4]),
    "conv": lambda m, x: m.six(pair(m, x)),
    "rectifier": lambda m, x: m.six(F.relu(pair(m, x))),
    "in place": lambda m, x: m.six(torch.relu_(pair(m, x))),
    "normalization": lambda m, x: m.six(F.relu6(m.bn(pair(m, x)))),
    "average": lambda m, x: m.six(F.avg_pool2d(pair(m, x), 3, 2, 1)),
    "max": lambda m, x: m.six(F.max_pool2d(F.relu(pair(m, x)), 3, 2, 1)),
    "linear": lambda m, x: m.head(torch.flatten(pair(m, x), 1)),
    "several": lambda m, x: m.nine(torch.cat((pair(m, x), x), dim=-3)),
    "mean": lambda m, x: m.linear(torch.cat([x.mean([2, 3])[:, :1], x.mean([2, 3])[:, 1:]], 1)),
}
WHOLE = {
    "groups": lambda m, x: m.grouped(pair(m, x)),
    "sum": lambda m, x: m.six(pair(m, x) + torch.cat([x, x], 1)),
    "output": lambda m, x: pair(m, x),
}


def model_of(form: Callable[[Model, torch.Tensor], torch.Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return ready(Model(form))


@pytest.mark.parametrize("name", APART)
def test_taken_apart(name: str) -> None:
    graph = check(model_of(APART[name]), images(2, 3, 6, 6))
    assert not [node for node in names(graph) if ".part" in node or node.startswith("cat")]


@pytest.mark.parametrize("name", WHOLE)
def test_put_together(name: str) -> None:
    graph = check(model_of(WHOLE[name]), images(2, 3, 6, 6))
    assert [node for node in names(graph) if ".part" in node]
    check(model_of(WHOLE[name]), images(2, 3, 6, 6), compose(graph))


def test_the_weights_are_split_and_the_bias_counts_once() -> None:
    graph = check(model_of(APART["conv"]), images(2, 3, 6, 6))
    first, second = [node for node in graph.nodes_of(Conv) if node.name.startswith("six")]
    assert first.weight.shape == second.weight.shape == (4, 3, 3, 3)
    assert first.bias.any()
    assert not second.bias.any()


def test_a_rectifier_becomes_one_of_each_part() -> None:
    graph = check(model_of(APART["rectifier"]), images(2, 3, 6, 6))
    assert [graph.shape(name) for name in names(graph, Relu)] == [(3, 6, 6), (3, 6, 6)]


def test_vectors() -> None:
    def forward(m: Model, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, torch.relu(x)], 1)
        return F.linear(F.relu(y), m.six.weight.flatten(1)[:, :6])

    check(model_of(forward), images(2, 3))


def test_what_is_taken_apart_is_never_built() -> None:
    """A one-hot matrix of 9,216 by 18,432 for each part would take 680 MB."""

    def forward(m: Model, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.cat([m.conv(x), F.relu(x)], 1).flatten(1), torch.ones(2, 18432))

    model, x = model_of(forward), images(2, 3, 48, 64)
    tracemalloc.start()
    trace(model, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_part_that_may_be_negative_makes_the_whole_so() -> None:
    def forward(m: Model, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([F.relu(x), m.conv(x)], 1)
        return F.max_pool2d(y + y, 3, 2, 1)

    graph = check(model_of(forward), images(2, 3, 6, 6))
    assert any("border" in node.name for node in graph.nodes)


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("name", ["normalization", "max"])
def test_an_exported_program_is_taken_apart_too(name: str, decomposed: bool) -> None:
    model, x = model_of(APART[name]), images(2, 3, 6, 6)
    program = torch.export.export(model, (x,))
    program = program.run_decompositions() if decomposed else program
    graph = check(model, x, trace_exported(program, x))
    assert not [node for node in names(graph) if ".part" in node]
