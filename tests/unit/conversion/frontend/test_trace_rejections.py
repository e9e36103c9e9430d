"""What can't be lowered is said, all of it at once, with its place and what to do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import ConversionError, Rejection, UnsupportedOperatorError
from tests.support.traced import Body, Form, images


def rejections(model: nn.Module, x: torch.Tensor) -> tuple[Rejection, ...]:
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(model, x)
    return caught.value.rejections


def test_all_rejections_of_a_network_at_once() -> None:
    layers: list[nn.Module] = []
    channels = 3
    for width in (4, 4, 0, 8, 8, 0, 16, 16, 16, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.LPPool2d(2, 2))
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(*layers))
    model.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    model.add_module("classifier", nn.Sequential(nn.Flatten(), nn.Linear(16, 10)))
    found = rejections(model.eval(), images(2, 3, 32, 32))
    assert [r.node for r in found] == [f"features.{n}" for n in (4, 9, 16)]
    assert {r.got for r in found} == {"LPPool2d"}
    assert "AvgPool" in found[0].allowed
    assert "retrain" in found[0].remedy


MODULES = {
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "ELU": nn.ELU(),
    "Hardswish": nn.Hardswish(),
    "LayerNorm": nn.LayerNorm([3, 8, 8]),
    "GroupNorm": nn.GroupNorm(3, 3),
    "LPPool2d": nn.LPPool2d(2, 2),
    "MaxPool3d": nn.MaxPool3d(2),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_without_equivalent(name: str) -> None:
    (found,) = rejections(
        nn.Sequential(nn.Conv2d(3, 3, 1), MODULES[name]).eval(), images(2, 3, 8, 8)
    )
    assert (found.node, found.got) == ("1", name)
    assert found.allowed
    assert found.remedy


class First(nn.Module):
    def forward(self, x: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return x[0]


ARGUMENTS: dict[str, tuple[nn.Module, str]] = {
    "no statistics": (nn.BatchNorm2d(3, track_running_stats=False), "no running statistics"),
    "threshold": (nn.Threshold(0.5, 0), "threshold 0.5, value 0, where it jumps from 0 to 0.5"),
    "hardshrink": (nn.Hardshrink(0.5), "lambd=0.5, where it jumps"),
    "indices": (nn.Sequential(nn.MaxPool2d(2, return_indices=True), First()), "return_indices"),
    "flattened batch": (nn.Flatten(0), "mixes or moves the samples"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_module_with_an_argument_that_is_not_allowed(name: str) -> None:
    module, message = ARGUMENTS[name]
    (found,) = rejections(nn.Sequential(nn.Conv2d(3, 3, 1), module).eval(), images(2, 3, 8, 8))
    assert found.node in ("1", "1.0")
    assert message in found.got


FUNCTIONS: dict[str, Form] = {
    "gelu": lambda m, x: F.gelu(x),
    "lp_pool2d": lambda m, x: F.lp_pool2d(x, 2, 2),
    "mul": lambda m, x: x * torch.relu(x),
    "matmul": lambda m, x: x @ x,
    "slice_batch": lambda m, x: x[:1],
    "exp": lambda m, x: x.exp(),
    "mean_all": lambda m, x: x.mean(),
    "clamp": lambda m, x: torch.clamp(x, x - 1, m.conv(x)),
    "floor": lambda m, x: x.floor(),
    "dropout": lambda m, x: F.dropout(x),
    "div": lambda m, x: 1 / x,
    "to": lambda m, x: x.half(),
    "item": lambda m, x: x * x.sum().item(),
}


REMEDIES: dict[str, tuple[Form, str]] = {
    "floor": (lambda m, x: x.floor(), "--activation CLASS:BOUND:LEVELS"),
    "sigmoid": (lambda m, x: m.conv(x.sigmoid()), "a clip of the same range"),
    "equal": (lambda m, x: x.eq(0), "Write it as a rectifier"),
    "indices": (
        lambda m, x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0],
        "Pool without indices.",
    ),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_what_to_do_instead(name: str) -> None:
    form, remedy = REMEDIES[name]
    (found,) = rejections(Body(form).eval(), images(2, 3, 6, 6))
    assert remedy in found.remedy


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_without_equivalent(name: str) -> None:
    found = rejections(Body(FUNCTIONS[name]).eval(), images(2, 3, 6, 6))
    assert found[-1].node.split("_")[0] == name.split("_")[0] or name in ("item", "to")


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return F.relu(x)
        return x


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = Branching()
        self.pool = nn.LPPool2d(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.pool(self.act(x))) + F.gelu(self.pool(x))


def test_everything_is_listed_once_and_control_flow_does_not_end_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Block(), nn.Flatten(), nn.Linear(48, 4), nn.GELU())
    found = rejections(model.eval(), images(2, 3, 8, 8))
    assert [r.node for r in found] == ["1.act", "1.pool", "1.gelu", "1.gelu_1", "4"]
    assert "Branching, which can't be traced" in found[0].got
    assert "test_trace_rejections.py:" in found[0].got


def test_lstm_and_attention_do_not_stop_the_list() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x, _ = self.lstm(x)
            x, _ = self.attention(x, x, x)
            return F.gelu(x)

    found = rejections(Sequence().eval(), images(2, 5, 4))
    assert [r.got for r in found] == ["LSTM", "MultiheadAttention", "gelu"]


def test_control_flow_of_the_model_itself() -> None:
    (found,) = rejections(Branching().eval(), images(2, 3))
    assert found.node == "Branching"
    assert "test_trace_rejections.py:" in found.got


def test_training_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ConversionError, match=r"1 \(BatchNorm2d\).*model\.eval\(\)"):
        trace(model, images(2, 3, 8, 8))


def test_an_input_that_is_missing() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

    with pytest.raises(ConversionError, match=r"takes the inputs x, y.*argument: 'y'"):
        trace(Two().eval(), images(2, 3))
    with pytest.raises(ConversionError, match="tensors that depend on the input"):
        trace(Body(lambda m, x: m.conv.weight).eval(), images(2, 3, 4, 4))


def test_wrong_example() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    with pytest.raises(ConversionError, match=r"fails at 0 .*\(2, 5, 8, 8\).*calibration data"):
        trace(model, images(2, 5, 8, 8))
    with pytest.raises(ConversionError, match="a batch"):
        trace(model, images(3))


def test_complex_model() -> None:
    model = nn.Sequential(nn.Linear(3, 4, dtype=torch.complex64)).eval()
    with pytest.raises(ConversionError, match="complex64"):
        trace(model, images(2, 3))


def test_batch_size_in_the_values() -> None:
    model = Body(lambda m, x: m.conv(x) / x.size(0)).eval()
    with pytest.raises(ConversionError, match="does not reproduce the model"):
        trace(model, images(4, 3, 4, 4))


def test_a_maximum_over_padding_alone_is_no_zero() -> None:
    model = nn.Sequential(nn.ReLU(), nn.MaxPool1d(2, 1, padding=1, dilation=2)).eval()
    with pytest.raises(ConversionError, match="the model gives -inf on the example"):
        trace(model, images(2, 3, 1))
