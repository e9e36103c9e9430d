"""Piecewise-linear activations in every spelling, as modules, functions and aten operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.errors import UnsupportedOperatorError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, ChannelAffine, Relu
from tests.support.traced import Body, Form, check, images, kinds

X = images(3, 3, 5, 6)


def model(form: Form) -> nn.Module:
    torch.manual_seed(0)
    body = Body(form)
    body.register_buffer("slopes", torch.tensor([0.1, 0.0, -0.4]))
    return body.eval()


def prelu(slopes: list[float]) -> nn.Module:
    layer = nn.PReLU(len(slopes))
    layer.weight.data = torch.tensor(slopes, dtype=torch.float32)
    return layer


def populations(graph: Graph) -> int:
    return len(graph.nodes_of(Relu))


MODULES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), 2),
    "LeakyReLU in place": (lambda: nn.LeakyReLU(0.1, inplace=True), 2),
    "LeakyReLU of slope 0": (lambda: nn.LeakyReLU(0), 1),
    "LeakyReLU of slope 1": (lambda: nn.LeakyReLU(1), 0),
    "LeakyReLU, steep": (lambda: nn.LeakyReLU(3), 2),
    "LeakyReLU, falling": (lambda: nn.LeakyReLU(-0.5), 2),
    "PReLU": (lambda: prelu([0.3]), 2),
    "PReLU per channel": (lambda: prelu([0.3, 0, -0.2]), 2),
    "PReLU of slopes 0": (lambda: prelu([0, 0, 0]), 1),
    "PReLU of slopes 1": (lambda: prelu([1, 1, 1]), 0),
    "RReLU": (lambda: nn.RReLU(0.1, 0.3), 2),
    "Hardtanh": (lambda: nn.Hardtanh(-0.5, 0.7), 2),
    "Hardtanh above 0": (lambda: nn.Hardtanh(0.1, 0.7), 1),
    "Hardtanh below 0": (lambda: nn.Hardtanh(-0.7, -0.1), 1),
    "Hardsigmoid": (nn.Hardsigmoid, 1),
    "Threshold": (lambda: nn.Threshold(0.2, 0.2), 1),
    "Threshold below 0": (lambda: nn.Threshold(-0.2, -0.2), 2),
    "Softshrink": (lambda: nn.Softshrink(0.2), 2),
    "Hardshrink of nothing": (lambda: nn.Hardshrink(0), 0),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_equals_its_rectifiers(name: str) -> None:
    build, count = MODULES[name]
    torch.manual_seed(0)
    graph = check(nn.Sequential(nn.Conv2d(3, 3, 3), build()).eval(), X)
    assert populations(graph) == count


def test_no_term_without_a_rectifier_is_left() -> None:
    """Beside the rectifiers, the next layer would read the convolution itself."""
    for name, (build, count) in MODULES.items():
        graph = trace(nn.Sequential(nn.Conv2d(3, 3, 3), build()).eval(), X)
        readers = [node for node in graph.nodes if "0" in node.inputs]
        assert all(isinstance(node, (Relu, ChannelAffine)) for node in readers) or count == 0, name
        for add in graph.nodes_of(Add):
            assert "0" not in add.inputs, name


SPELLINGS: dict[str, tuple[Form, int]] = {
    "clamp with 0": (lambda m, x: m.conv(x).clamp_(0), 1),
    "maximum of zeros": (lambda m, x: torch.max(x, torch.zeros_like(x)), 1),
    "maximum of new zeros": (lambda m, x: torch.maximum(x.new_zeros(x.shape), x), 1),
    "maximum of a zero": (lambda m, x: torch.maximum(x, torch.zeros(1)), 1),
    "where": (lambda m, x: torch.where(x > 0, x, 0), 1),
    "where of zeros": (lambda m, x: torch.where(x >= 0, x, torch.zeros_like(x)), 1),
    "where of a tensor": (lambda m, x: torch.where(x > 0, x, torch.tensor(0.0)), 1),
    "where, turned": (lambda m, x: torch.where(x <= 0, 0, x), 1),
    "method where": (lambda m, x: x.where(x > 0, torch.zeros(1)), 1),
    "0 < x": (lambda m, x: torch.where(x > 0, x, 0), 1),
    "product": (lambda m, x: x * (x > 0), 1),
    "product, turned": (lambda m, x: (x > 0) * x, 1),
    "product with numbers": (lambda m, x: (x > 0).float() * x, 1),
    "product with its type": (lambda m, x: (x > 0).to(x.dtype) * x, 1),
    "product with type_as": (lambda m, x: x * torch.gt(x, 0).type_as(x), 1),
    "product with not": (lambda m, x: x * ~(x < 0), 1),
    "product with 1 - mask": (lambda m, x: x * (1 - (x < 0).float()), 1),
    "product in place": (lambda m, x: (lambda y: y.mul_(y > 0))(m.conv(x)), 1),
    "its own mask": (lambda m, x: (lambda y: y * (y > 0))(F.relu(x)), 1),
    "masked_fill": (lambda m, x: x.masked_fill(x < 0, 0), 1),
    "masked_fill in place": (lambda m, x: (lambda y: y.masked_fill_(y < 0, 0.0))(m.conv(x)), 1),
    "half of x + |x|": (lambda m, x: (x + abs(x)) / 2, 1),
    "halves of x and |x|": (lambda m, x: (lambda y: 0.5 * y + 0.5 * y.abs())(m.conv(x)), 1),
    "x less its negative part": (lambda m, x: x - x * (x < 0), 1),
    "abs by sign": (lambda m, x: x * x.sign(), 2),
    "abs": (lambda m, x: torch.abs(m.conv(x)), 2),
    "leaky by where": (lambda m, x: torch.where(x > 0, x, 0.1 * x), 2),
    "leaky by two masks": (lambda m, x: x * (x > 0) + 0.1 * x * (x <= 0), 2),
    "leaky by maximum": (lambda m, x: torch.maximum(x, 0.1 * x), 2),
    "leaky by clamps": (lambda m, x: x.clamp(min=0) + 0.1 * x.clamp(max=0), 2),
    "leaky per channel": (lambda m, x: F.prelu(m.conv(x), m.get_buffer("slopes")), 2),
    "softshrink by sign": (lambda m, x: x.sign() * F.relu(x.abs() - 0.2), 2),
    "softshrink by clamp": (lambda m, x: x - x.clamp(-0.2, 0.2), 2),
    "bounded by masks": (lambda m, x: x * (x > 0) * (x < 1) + 1.0 * (x >= 1), 1),
    "bounded by and": (lambda m, x: x * ((x > 0) & (x < 1)) + 1.0 * (x >= 1), 1),
    "bounded by or": (lambda m, x: x.masked_fill((x < 0) | (x > 1), 0) + 1.0 * (x > 1), 1),
    "maximum of a number": (lambda m, x: x * (x > 1) + (x <= 1) * 1.0, 1),
    "clamp per channel": (lambda m, x: m.conv(x).clamp(m.mean - 1, m.scale), 2),
    "clamp where low > high": (lambda m, x: x.clamp(0.5, 0.1), 0),
    "a constant": (lambda m, x: x.clamp(1, 1), 0),
    "a constant mask": (lambda m, x: torch.where(m.scale > 1, x, 0), 0),
    "full_like": (lambda m, x: torch.max(x, torch.full_like(x, 0.3)), 1),
    "ones_like": (lambda m, x: x * torch.ones_like(x), 0),
    "CReLU": (lambda m, x: (lambda y: torch.cat([F.relu(y), F.relu(-y)], 1))(m.conv(x)), 2),
    "of a concatenation": (
        lambda m, x: F.leaky_relu(torch.cat([m.conv(x), m.conv2(x)], 1), 0.1),
        4,
    ),
    "clamp of a concatenation": (
        lambda m, x: torch.cat([m.conv(x), m.conv2(x)], 1).clamp(max=torch.ones(1, 6, 1, 1)),
        4,
    ),
    "mask of a concatenation": (
        lambda m, x: (lambda y: y * (y > 0))(torch.cat([m.conv(x), x], 1)),
        2,
    ),
    "maximum": (lambda m, x: torch.maximum(m.conv(x), m.conv2(x)), 3),
    "minimum": (lambda m, x: torch.min(m.conv(x), m.conv2(x)), 3),
    "maximum of a rectifier": (lambda m, x: torch.maximum(m.conv(x), F.relu(m.conv2(x))), 2),
    "maximum of a leaky one": (lambda m, x: torch.max(F.leaky_relu(m.conv(x)), m.conv2(x)), 3),
    "minimum of rectifiers": (lambda m, x: torch.min(F.relu(m.conv(x)), F.relu(x)), 3),
    "maximum by where": (lambda m, x: (lambda y: torch.where(x > y, x, y))(m.conv(x)), 3),
    "minimum by where": (lambda m, x: (lambda y: torch.where(x > y, y, x))(m.conv(x)), 3),
    "clamp by a tensor": (lambda m, x: x.clamp(max=m.conv(x)), 3),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize(
    "form",
    [
        "module",
        pytest.param("program", marks=pytest.mark.slow),
        pytest.param("core program", marks=pytest.mark.slow),
    ],
)
def test_a_spelling_equals_its_rectifiers(name: str, form: str) -> None:
    function, count = SPELLINGS[name]
    body = model(function)
    if form == "module":
        graph = check(body, X)
    else:
        program = torch.export.export(body, (X,))
        if form == "core program":
            program = program.run_decompositions()
        graph = check(body, X, trace_exported(program, X))
    assert populations(graph) == count


REDUCED: dict[str, tuple[Form, list[tuple[str, float | None]]]] = {
    "ReLU of ReLU": (lambda m, x: F.relu(F.relu(x)), [("relu", None)]),
    "leaky of ReLU": (lambda m, x: F.leaky_relu(F.relu(x)), [("relu", None)]),
    "ReLU of leaky": (lambda m, x: F.relu(F.leaky_relu(x)), [("relu", None)]),
    "abs of ReLU": (lambda m, x: F.relu(x).abs(), [("relu", None)]),
    "clip of ReLU": (lambda m, x: F.relu(x).clamp(max=2), [("clamp", 2.0)]),
    "clip of a wider one": (lambda m, x: F.relu6(x).clamp(-1, 2), [("clamp", 2.0)]),
    "clip of a narrower one": (lambda m, x: x.clamp(0, 2).clamp(-1, 6), [("clamp", 2.0)]),
    "ReLU of Hardtanh": (lambda m, x: F.relu(F.hardtanh(x)), [("relu", 1.0)]),
    "Hardtanh of ReLU6": (lambda m, x: F.hardtanh(F.relu6(x)), [("hardtanh", 1.0)]),
}


@pytest.mark.parametrize("name", REDUCED)
def test_an_activation_of_another_takes_as_few_rectifiers_as_needed(name: str) -> None:
    form, expected = REDUCED[name]
    graph = check(model(form), X)
    assert [(node.name, node.upper) for node in graph.nodes_of(Relu)] == expected
    assert len(graph.nodes) == 3


def test_what_is_never_negative_needs_no_second_rectifier() -> None:
    graph = check(model(lambda m, x: F.leaky_relu(F.relu(x) + F.relu(-x))), X)
    assert populations(graph) == 3


def test_an_activation_is_never_negative_where_its_values_are_not() -> None:
    check(model(lambda m, x: F.max_pool2d(F.hardsigmoid(x), 3, 2, 1)), X)
    check(model(lambda m, x: F.max_pool2d(m.conv(x).abs(), 3, 2, 1)), X)
    low, high = torch.tensor([0.1, -0.5, -1]), torch.tensor([0.6, -0.1, 1])
    low, high = low.reshape(3, 1, 1), high.reshape(3, 1, 1)
    check(model(lambda m, x: F.max_pool2d(F.relu(F.relu(x).clamp(low, high)), 3, 2, 1)), X)


def test_per_channel_parameters_stay_small() -> None:
    graph = check(nn.Sequential(prelu([0.1, 0.2, 0.3])).eval(), X)
    shapes = {node.scale.shape for node in graph.nodes_of(ChannelAffine)}
    assert shapes == {(3, 1, 1), (1, 1, 1)}
    graph = check(model(lambda m, x: x.clamp(max=torch.linspace(-1, 1, 6))), X)
    assert (3, 5, 6) in {node.shift.shape for node in graph.nodes_of(ChannelAffine)}


def test_a_rectifier_is_a_single_node_of_the_modules_name() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Hardtanh(0, 2), nn.ReLU()).eval(), X)
    assert kinds(graph) == ["conv", "relu"]
    assert graph.nodes_of(Relu)[0].name == "1"


def test_the_bound_of_half_precision_is_no_clip_of_float32() -> None:
    limit = float(np.finfo(np.float32).max)
    graph = check(model(lambda m, x: torch.relu(x.clamp(-limit, limit))), X)
    assert [(node.name, node.upper) for node in graph.nodes_of(Relu)] == [("relu", None)]


REFUSED: dict[str, tuple[Form, str, str]] = {
    "Hardshrink": (lambda m, x: F.hardshrink(x), "hardshrink", "jumps from 0 to 0.5"),
    "Threshold": (lambda m, x: F.threshold(x, 1, 0), "_threshold", "jumps from 0 to 1"),
    "mask": (lambda m, x: (x > 0).float(), "gt", "the result of gt, which jumps at 0"),
    "mask in a layer": (lambda m, x: m.conv((x > 0).float()), "gt", "read by a layer"),
    "mask in a mean": (lambda m, x: (x > 0).float().mean([2, 3]), "gt", "read by a layer"),
    "sign": (lambda m, x: m.conv(x.sign()), "sign", "which jumps at 0"),
    "jump": (lambda m, x: m.conv(x * (x > 1)), "mul", "the result of mul, which jumps at 1"),
    "where jumps": (lambda m, x: torch.where(x > 1, x, 0), "where", "which jumps at 1"),
    "mask of another": (lambda m, x: m.conv(x) * (x > 0), "mul", "a product of two tensors"),
    "where of another": (
        lambda m, x: torch.where(m.conv(x) > 0, x, 0),
        "where",
        "the one compared",
    ),
    "square": (lambda m, x: x * x.abs(), "mul", "a product of two tensors"),
    "bound per sample": (lambda m, x: x.clamp(max=images(3, 1, 1, 1)), "clamp", "an upper bound"),
    "no number": (lambda m, x: x.clamp(max=float("nan")), "clamp", "an upper bound"),
    "random slopes": (lambda m, x: F.rrelu(x, training=True), "rrelu", "random slopes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_continuous_or_not_linear_is_refused(name: str) -> None:
    form, node, message = REFUSED[name]
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(model(form), X)
    (found,) = caught.value.rejections
    assert found.node == node
    assert message in found.got
    assert found.remedy


def test_an_unused_mask_is_no_obstacle() -> None:
    def forward(m: Body, x: torch.Tensor) -> Any:
        active = x > 0
        shape = active.shape
        return m.conv(x).reshape(shape)

    check(model(forward), X)
