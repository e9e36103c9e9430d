"""Each form of each operator, against the PyTorch model it comes from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Relu
from tests.support.traced import Body, Form, check, images, kinds, ready

MODULES = {
    "conv": nn.Conv2d(3, 4, 3),
    "conv without bias": nn.Conv2d(3, 4, 3, bias=False),
    "conv strided, dilated": nn.Conv2d(3, 4, 3, stride=(2, 1), dilation=(1, 2), padding=(2, 1)),
    "conv grouped": nn.Conv2d(3, 6, 3, groups=3, padding=1),
    "conv same": nn.Conv2d(3, 4, (3, 2), padding="same"),
    "conv same dilated": nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)),
    "conv valid": nn.Conv2d(3, 4, 3, padding="valid"),
    "batch norm": nn.BatchNorm2d(3),
    "batch norm without affine": nn.BatchNorm2d(3, affine=False),
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(0, 0.7),
    "threshold": nn.Threshold(0, 0),
    "avg pool": nn.AvgPool2d(2),
    "avg pool padded": nn.AvgPool2d(3, stride=2, padding=1),
    "avg pool ceil": nn.AvgPool2d(2, ceil_mode=True),
    "avg pool divisor": nn.AvgPool2d(2, divisor_override=4),
    "avg pool without pad": nn.AvgPool2d(2, count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool2d((4, 2)),
    "adaptive partial": nn.AdaptiveAvgPool2d((None, 1)),
    "adaptive global": nn.AdaptiveAvgPool2d(1),
    "flatten": nn.Flatten(),
    "zero pad": nn.ZeroPad2d((1, 0, 2, 1)),
    "crop": nn.ZeroPad2d((-1, 1, 0, -2)),
    "constant pad": nn.ConstantPad2d(1, 0.0),
    "dropout": nn.Dropout(0.5),
    "dropout2d": nn.Dropout2d(0.5, inplace=True),
    "identity": nn.Identity(),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_equals_its_trace(name: str) -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 3, 1), MODULES[name]))
    check(model, images(3, 3, 8, 8))


ONE_AXIS = {
    "conv": nn.Conv1d(3, 4, 3, padding=1, stride=2),
    "conv same": nn.Conv1d(3, 4, 4, padding="same"),
    "batch norm": nn.BatchNorm1d(3),
    "avg pool": nn.AvgPool1d(2, padding=1),
    "adaptive": nn.AdaptiveAvgPool1d(2),
    "zero pad": nn.ZeroPad1d((2, 1)),
}


@pytest.mark.parametrize("name", ONE_AXIS)
def test_module_over_one_axis_equals_its_trace(name: str) -> None:
    check(ready(nn.Sequential(nn.Conv1d(3, 3, 1), ONE_AXIS[name])), images(2, 3, 8))


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Linear(5, 4, bias=False), nn.BatchNorm1d(5)])
def test_module_on_vectors_equals_its_trace(layer: nn.Module) -> None:
    check(ready(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), layer)), images(3, 6))


ACTIVATIONS: dict[str, Form] = {
    "F.relu": lambda m, x: F.relu(x),
    "F.relu inplace": lambda m, x: F.relu(m.conv(x), inplace=True),
    "F.relu_": lambda m, x: F.relu_(m.conv(x)),
    "torch.relu": lambda m, x: torch.relu(x),
    "torch.relu_": lambda m, x: torch.relu_(m.conv(x)),
    "Tensor.relu": lambda m, x: x.relu(),
    "Tensor.relu_": lambda m, x: m.conv(x).relu_(),
    "clamp min": lambda m, x: torch.clamp(x, min=0),
    "clamp_min": lambda m, x: x.clamp_min(0),
    "maximum": lambda m, x: torch.maximum(x, torch.tensor(0.0)),
    "threshold": lambda m, x: F.threshold(x, 0, 0),
}
CLIPS: dict[str, Form] = {
    "F.hardtanh": lambda m, x: F.hardtanh(x, 0, 0.5),
    "F.hardtanh keywords": lambda m, x: F.hardtanh(x, min_val=0.0, max_val=0.5),
    "torch.clamp": lambda m, x: torch.clamp(x, 0, 0.5),
    "torch.clamp keywords": lambda m, x: torch.clamp(input=x, max=0.5, min=0),
    "torch.clip": lambda m, x: torch.clip(x, 0, 0.5),
    "Tensor.clamp": lambda m, x: x.clamp(0.0, 0.5),
    "Tensor.clamp_": lambda m, x: m.conv(x).clamp_(0, 0.5),
    "clamp of relu": lambda m, x: F.relu(x).clamp(max=0.5),
    "clamp_max of relu": lambda m, x: F.relu(x).clamp_max(0.5),
    "minimum of relu": lambda m, x: torch.minimum(F.relu(x), torch.tensor(0.5)),
    "relu of clamp": lambda m, x: F.relu(x.clamp(0, 0.5)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rectifier_is_one_relu(name: str) -> None:
    graph = check(Body(ACTIVATIONS[name]).eval(), images(2, 3, 4, 4))
    (relu,) = graph.nodes_of(Relu)
    assert relu.upper is None


@pytest.mark.parametrize("name", CLIPS)
def test_clip_is_one_bounded_relu(name: str) -> None:
    graph = check(Body(CLIPS[name]).eval(), images(2, 3, 4, 4))
    (relu,) = graph.nodes_of(Relu)
    assert relu.upper == 0.5


def test_relu6_is_bounded_by_six() -> None:
    graph = check(Body(lambda m, x: F.relu6(20 * x)).eval(), images(2, 3, 4, 4))
    assert graph.nodes_of(Relu)[0].upper == 6


ARITHMETIC: dict[str, Form] = {
    "x + y": lambda m, x: m.conv(x) + m.conv2(x),
    "x += y": lambda m, x: _plus_equals(m.conv(x), x),
    "torch.add": lambda m, x: torch.add(m.conv(x), x, alpha=0.5),
    "Tensor.add": lambda m, x: m.conv(x).add(x),
    "Tensor.add_": lambda m, x: m.conv(x).add_(x, alpha=2),
    "x - y": lambda m, x: m.conv(x) - x,
    "torch.sub": lambda m, x: torch.sub(m.conv(x), x, alpha=3),
    "x + x": lambda m, x: x + x,
    "three": lambda m, x: m.conv(x) + m.conv2(x) + x,
    "x + c": lambda m, x: x + 0.5,
    "c + x": lambda m, x: 0.5 + x,
    "c - x": lambda m, x: 0.5 - x,
    "-x": lambda m, x: -x,
    "2 x": lambda m, x: 2 * x,
    "x / 4": lambda m, x: x / 4,
    "x *= c": lambda m, x: _times_equals(m.conv(x)),
    "per channel": lambda m, x: x * m.scale,
    "constant first": lambda m, x: m.scale * x,
    "computed constant": lambda m, x: x * (m.scale.exp() + 1),
    "normalization": lambda m, x: (x - m.mean) / m.scale,
    "add constant with alpha": lambda m, x: torch.add(x, m.scale, alpha=2),
    "constant plus alpha x": lambda m, x: torch.add(m.mean, x, alpha=2),
    "per column": lambda m, x: x * torch.arange(1, 9),
    "per neuron": lambda m, x: x + torch.arange(192.0).reshape(3, 8, 8) / 100,
    "F.conv2d": lambda m, x: F.conv2d(x, m.conv.weight, m.conv.bias, 2, padding=1),
    "F.conv2d no bias": lambda m, x: F.conv2d(input=x, weight=m.conv.weight, dilation=2),
    "F.batch_norm": lambda m, x: F.batch_norm(x, m.mean.flatten(), m.scale.flatten()),
    "F.linear": lambda m, x: F.linear(x.mean((2, 3)), m.linear.weight, m.linear.bias),
    "matmul": lambda m, x: x.mean((2, 3)) @ m.linear.weight.t(),
}


def _plus_equals(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x += y
    return x


def _times_equals(x: torch.Tensor) -> torch.Tensor:
    x *= 3
    x /= 2
    x -= 1
    return x


@pytest.mark.parametrize("name", ARITHMETIC)
def test_affine_form_equals_its_trace(name: str) -> None:
    graph = check(Body(ARITHMETIC[name]).eval(), images(3, 3, 8, 8))
    assert not graph.nodes_of(Relu)


def test_batch_norm_stays_a_scale_per_channel() -> None:
    graph = check(ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), images(2, 3, 8, 8))
    assert kinds(graph) == ["conv", "scale"]
    assert graph.nodes_of(ChannelAffine)[0].scale.shape == (4, 1, 1)


def test_padding_joins_the_convolution_after_it() -> None:
    model = nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(3, 4, 3, padding=1)).eval()
    graph = check(model, images(2, 3, 8, 8))
    assert kinds(graph) == ["conv"]
    assert graph.nodes_of(Conv)[0].padding == ((3, 1), (1, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_are_cast(dtype: torch.dtype) -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())).to(dtype)
    graph = trace(model, images(2, 3, 8, 8).to(dtype))
    assert graph.nodes_of(Conv)[0].weight.dtype == "float32"
    assert next(model.parameters()).dtype == dtype
