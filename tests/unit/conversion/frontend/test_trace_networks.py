"""Whole networks: names, dead branches, declared activations, exported programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import DeclaredActivation, trace, trace_exported
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Conv, Relu
from tests.support.traced import Body, SmallResNet, check, images, kinds, names, ready


def test_resnet_with_functional_relu_and_option_a() -> None:
    graph = check(ready(SmallResNet()), images(3, 3, 16, 16))
    assert len(graph.nodes_of(Relu)) == 7
    shortcuts = [n for n in graph.nodes_of(Conv) if n.name.endswith(".pad")]
    assert [n.weight.shape for n in shortcuts] == [(8, 4, 1, 1), (16, 8, 1, 1)]
    assert names(graph)[:4] == ["input", "conv1", "bn1", "relu"]
    assert names(graph)[-4:] == ["avg_pool2d", "view", "linear", "output"]
    assert [name for name in names(graph) if name.startswith("layer2")] == [
        "layer2.0.conv1",
        "layer2.0.bn1",
        "layer2.0.relu",
        "layer2.0.conv2",
        "layer2.0.bn2",
        "layer2.0.pad",
        "layer2.0.add",
        "layer2.0.relu_1",
    ]


def test_one_relu_module_at_several_places() -> None:
    model = Body(lambda m, x: m.relu(m.conv2(m.relu(m.conv(m.relu(x)))))).eval()
    assert names(check(model, images(2, 3, 4, 4)), Relu) == ["relu", "relu_1", "relu_2"]


def test_modules_named_input_and_output_give_way() -> None:
    model = nn.Sequential()
    model.add_module("input", nn.Conv2d(3, 4, 1))
    model.add_module("output", nn.ReLU())
    graph = check(model.eval(), images(2, 3, 4, 4))
    assert names(graph) == ["input", "input_1", "output_1", "output"]


def test_dead_branch_is_dropped() -> None:
    def forward(m: Body, x: torch.Tensor) -> Any:
        m.relu(m.conv2(x))
        return m.conv(x)

    assert names(check(Body(forward).eval(), images(2, 3, 4, 4))) == ["input", "conv", "output"]


class CutOff(nn.Module):
    """A classifier whose old head is still called, and fails to convert in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.old_head = nn.Sequential(nn.GELU(), Clip(0.5), nn.Softmax(1))
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        old = self.old_head(y)
        torch.tanh_(old)
        old += y.exp()
        self.last = old.flatten(1).argmax(1)
        logits: torch.Tensor = self.head(y.mean((2, 3)))
        return logits


def test_what_no_output_uses_is_not_rejected() -> None:
    graph = check(CutOff().eval(), images(2, 3, 6, 6))
    assert names(graph) == ["input", "body.0", "body.1", "mean", "mean.flatten", "head", "output"]


def test_an_in_place_call_on_a_view_of_what_is_used_is_live() -> None:
    def forward(m: Body, x: torch.Tensor) -> Any:
        y = m.conv(x)
        torch.relu_(y)  # its result is not used, the tensor that it changes is
        z = m.conv2(x)
        z.detach().tanh_()  # a view: what z holds afterwards is not its node's result
        return m.conv2(y) + z

    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(Body(forward).eval(), images(2, 3, 4, 4))
    assert caught.value.rejections[0].node == "tanh"
    model = Body(lambda m, x: (y := m.conv(x), torch.relu_(y), m.conv2(y))[-1]).eval()
    assert kinds(check(model, images(2, 3, 4, 4))) == ["conv", "relu", "conv"]


def test_optional_arguments_keep_their_defaults() -> None:
    class Optional(nn.Module):
        def forward(
            self, x: torch.Tensor, mask: torch.Tensor | None = None, *, slope: float = 2.0
        ) -> torch.Tensor:
            if mask is not None:
                x = x * mask
            return F.relu(x) * slope

    check(Optional().eval(), images(2, 3, 4, 4))


def test_subclass_is_lowered_only_if_it_inherits_forward() -> None:
    class Renamed(nn.Conv2d):
        pass

    class Standardized(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias, self.stride, self.padding)

    graph = check(nn.Sequential(Renamed(3, 4, 3), Standardized(4, 4, 3)).eval(), images(2, 3, 8, 8))
    assert kinds(graph) == ["conv", "conv"]


def test_weight_norm_is_computed() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    check(nn.Sequential(layer, nn.ReLU()).eval(), images(2, 3))


class Clip(nn.Module):
    """A clip with a trained bound, written so that torch.fx can't see through it."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(min=0).minimum(self.theta) if x.sum() > -1e9 else x


class Qcfs(nn.Module):
    def __init__(self, theta: float, steps: int) -> None:
        super().__init__()
        self.theta, self.steps = nn.Parameter(torch.tensor(theta)), steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = torch.floor(x * self.steps / self.theta + 0.5)
        return torch.clamp(level, 0, self.steps) * self.theta / self.steps


def test_declared_activations() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), Clip(0.75), nn.Conv2d(3, 3, 1), Qcfs(0.5, 4)).eval()
    declared = [
        DeclaredActivation(class_name="Clip", bound="theta"),
        DeclaredActivation(class_name=f"{__name__}.Qcfs", bound="theta", levels="steps"),
    ]
    x = images(3, 3, 8, 8)
    clip, qcfs = check(model, x, trace(model, x, activations=declared)).nodes_of(Relu)
    assert (clip.name, clip.upper, clip.levels) == ("1", 0.75, None)
    assert (qcfs.name, qcfs.upper, qcfs.levels) == ("3", 0.5, 4)


def test_undeclared_activations_are_not_guessed() -> None:
    model = nn.Sequential(Clip(0.75), Qcfs(0.5, 4)).eval()
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(model, images(2, 3))
    nodes = [rejection.node for rejection in caught.value.rejections]
    assert nodes == ["0", "1.floor"]


def test_declaration_that_fits_nothing() -> None:
    model = nn.Sequential(Clip(0.75)).eval()
    with pytest.raises(ConversionError, match="no module of this class"):
        trace(model, images(2, 3), activations=[DeclaredActivation(class_name="Klip", bound="t")])
    with pytest.raises(UnsupportedOperatorError, match="no attribute 'bound'"):
        trace(
            model, images(2, 3), activations=[DeclaredActivation(class_name="Clip", bound="bound")]
        )


def test_declaration_that_does_not_say_what_the_class_does() -> None:
    declared = DeclaredActivation(class_name="Qcfs", bound="theta")
    with pytest.raises(ConversionError, match="does not reproduce the model"):
        trace(nn.Sequential(Qcfs(0.5, 2)).eval(), images(4, 50), activations=[declared])


@pytest.mark.slow
@pytest.mark.parametrize(("dynamic", "decomposed"), [(False, False), (True, False), (True, True)])
def test_exported_program_gives_the_same_graph(dynamic: bool, decomposed: bool) -> None:
    model, x = ready(SmallResNet()), images(3, 3, 16, 16)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(model, (x,), dynamic_shapes=shapes)
    if decomposed:
        program = program.run_decompositions()
    graph = check(model, x, trace_exported(program, x[:2]))
    if not decomposed:
        assert graph.hash() == trace(model, x).hash()


def test_exported_program_in_place_and_pads() -> None:
    def forward(m: Body, x: torch.Tensor) -> Any:
        relu6: Any = m.relu6
        y = m.conv(F.pad(x, (1, 0, -1, 2)))
        torch.relu_(y)
        y += relu6(m.conv2(y))
        y = F.avg_pool2d(F.hardtanh(y - 0.5, 0, 1) * 2, 3, 2, 1)
        return m.linear(F.adaptive_avg_pool2d(y / 3, 1).squeeze(-1).squeeze(-1))

    model = Body(forward)
    model.relu6 = nn.ReLU6(inplace=True)
    x = images(2, 3, 8, 8)
    graph = check(model.eval(), x)
    exported = trace_exported(torch.export.export(model, (x,)), x)
    assert check(model, x, exported).hash() == graph.hash()


def test_exported_program_lists_its_rejections() -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.GELU(), nn.MaxPool2d(3, 2, 1), nn.ELU())
    model = nn.Sequential(*layers).eval()
    x = images(2, 3, 8, 8)
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace_exported(torch.export.export(model, (x,)), x)
    found = [(rejection.node, rejection.got) for rejection in caught.value.rejections]
    assert found == [("1", "gelu"), ("3", "elu")]
    declared = DeclaredActivation(class_name="Clip", bound="theta")
    with pytest.raises(ConversionError, match="no activation classes"):
        trace_exported(torch.export.export(model, (x,)), x, activations=[declared])
