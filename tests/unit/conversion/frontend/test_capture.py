"""What torch.fx can trace with the sizes of the example, and torch.export after it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import fx, nn

from icsnn_deploy.conversion.frontend.capture import capture
from icsnn_deploy.conversion.frontend.example_inputs import Example, bind_example
from icsnn_deploy.conversion.frontend.example_run import record
from icsnn_deploy.conversion.frontend.operators import call_path
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation, trace
from icsnn_deploy.conversion.frontend.working_copy import working_copy
from icsnn_deploy.errors import UnsupportedOperatorError
from tests.support.traced import Body, Form, check, images, names

Pair = namedtuple("Pair", "left right")


@dataclass
class Scores:
    coarse: Any
    fine: Any


def captured(
    model: nn.Module, example: Example, is_declared: Callable[[nn.Module], bool] = lambda m: False
) -> tuple[fx.GraphModule, dict[str, str]]:
    """The calls of the model, after a check that they give what it gives."""
    work = working_copy(model)
    inputs = bind_example(work, example)
    module, failed = capture(work, inputs, is_declared)
    record(module, *inputs.tensors.values())
    expected = named_leaves(inputs.call(model))
    found = named_leaves(module(*inputs.tensors.values()))
    assert len(found) == len(expected)
    for got, wanted in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(got, wanted)
    return module, failed


def is_exported(module: fx.GraphModule) -> bool:
    return any(isinstance(node.target, torch._ops.OpOverload) for node in module.graph.nodes)


def _raises_on_shapes(m: Body, x: torch.Tensor) -> Any:
    if x.shape[2] != 8 or x.dim() != 4 or len(x.shape) != 4:
        raise ValueError(f"images of 8 x 8 are needed, not {tuple(x.shape)}")
    assert x.size(1) == 3, "three channels"
    assert x.dtype == torch.float32
    return m.conv(x)


def _loops(m: Body, x: torch.Tensor) -> Any:
    y = m.conv(x)
    for channel in range(y.shape[1]):
        y = y + x[:, channel : channel + 1]
    for _ in range(len(x)):
        y = m.relu(y)
    return y


def _same_padding(m: Body, x: torch.Tensor) -> Any:
    height, width = x.size()[-2:]
    pad = max((height - 1) // 2 * 2 + 3 - height, 0)
    if pad > 0:
        x = F.pad(x, [pad // 2, pad - pad // 2, 0, int(width) % 2])
    return m.conv(x)


def _unpacks(m: Body, x: torch.Tensor) -> Any:
    first, *others = m.conv(x).split(1, 1)
    return torch.cat([*others, first], 1)


def _checks_a_parameter(m: Body, x: torch.Tensor) -> Any:
    return m.conv(x) if m.scale.sum() > 0 else x


def _has_no_such_attribute(m: Body, x: torch.Tensor) -> Any:
    return x if hasattr(x, "names_of_channels") else m.conv(x)


SIZES: dict[str, Form] = {
    "raises": _raises_on_shapes,
    "loops": _loops,
    "padding": _same_padding,
    "unpacking": _unpacks,
    "numpy": lambda m, x: m.conv(x).view(-1, int(np.prod(x.shape[1:]))),
    "smallest": lambda m, x: F.avg_pool2d(m.conv(x), min(x.shape[2], x.shape[3]) // 2),
    "parameter": _checks_a_parameter,
    "tensor": lambda m, x: m.conv(x) if isinstance(x, torch.Tensor) else x[0],
    "attribute": _has_no_such_attribute,
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("nested", [False, True])
def test_forward_may_look_at_sizes_and_keeps_the_paths_of_modules(name: str, nested: bool) -> None:
    model: nn.Module = Body(SIZES[name]).eval()
    module, failed = captured(nn.Sequential(model) if nested else model, images(2, 3, 8, 8))
    assert not failed
    assert not is_exported(module)
    called = [node.target for node in module.graph.nodes if node.op == "call_module"]
    assert ("0.conv" if nested else "conv") in called


def test_the_error_of_a_shape_check_is_that_of_the_model() -> None:
    with pytest.raises(Exception, match=r"images of 8 x 8 are needed, not \(2, 3, 6, 6\)"):
        trace(Body(_raises_on_shapes).eval(), images(2, 3, 6, 6))


def stops_fx(x: torch.Tensor) -> float:
    """1, by way of an array of sizes, in which NumPy does not take a proxy."""
    return float(np.ones([1]) @ np.sqrt([x.shape[1] * 1.0])) ** 0


def _of_numpy(m: Body, x: torch.Tensor) -> Any:
    return m.relu(m.conv(x)) * stops_fx(x)


def _asks_for_a_type(m: Body, x: torch.Tensor) -> Any:
    if type(x) is not torch.Tensor and not is_fake(x):
        raise TypeError(type(x))
    return m.relu(m.conv(x))


def is_fake(x: object) -> bool:
    return "Fake" in type(x).__name__ or "Functional" in type(x).__name__


EXPORTED: dict[str, Form] = {"type": _asks_for_a_type, "numpy": _of_numpy}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_what_fx_can_not_trace_is_exported(name: str) -> None:
    module, failed = captured(Body(EXPORTED[name]).eval(), images(2, 3, 8, 8))
    assert not failed
    assert is_exported(module)
    paths = {call_path(node, node.name) for node in module.graph.nodes if node.op != "placeholder"}
    assert "conv" in paths


@pytest.mark.slow
def test_a_submodule_is_exported_alone_and_the_rest_is_traced() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Body(_of_numpy), nn.ReLU()).eval()
    module, failed = captured(model, images(2, 3, 8, 8))
    assert not failed
    assert [n.target for n in module.graph.nodes if n.op == "call_module"] == ["0", "2"]
    graph = check(Body(_of_numpy).eval(), images(2, 3, 8, 8))
    assert "conv" in names(graph)
    assert "1.conv" in names(trace(model, images(2, 3, 8, 8)))


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x) if x.sum() > 0 else x


@pytest.mark.slow
def test_both_reasons_are_given_where_both_fail(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(Branching().eval(), images(2, 3))
    (found,) = caught.value.rejections
    assert found.node == "Branching"
    assert "depends on values of the data" in found.got
    assert "test_capture.py:" in found.got
    assert "by torch.export: Could not guard on data-dependent expression" in found.got
    assert capfd.readouterr() == ("", "")


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.unused = nn.GELU(), nn.Softplus()
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.act(x)) if x.sum() > -1e9 else x


@pytest.mark.slow
@pytest.mark.parametrize(("wrap", "prefix"), [(False, ""), (True, "1.")])
def test_layers_inside_what_can_not_be_traced_are_listed_too(wrap: bool, prefix: str) -> None:
    model = nn.Sequential(nn.SiLU(), Gated()) if wrap else Gated()
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(model.eval(), images(2, 3))
    found = [(one.node, one.got.split(",")[0]) for one in caught.value.rejections]
    first = [("0", "SiLU"), ("1", "Gated")] if wrap else [("Gated", "Gated.forward")]
    assert found == [*first, (f"{prefix}act", "GELU")]


def test_a_declared_activation_is_not_taken_apart_by_exporting() -> None:
    class Clip(nn.Module):
        bound = 1.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(0, 1) if x.sum() > -1e9 else x

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = Clip()

        def forward(self, x: torch.Tensor) -> Any:
            return self.act(x) * stops_fx(x)

    declared = [DeclaredActivation(class_name="Clip", bound="bound")]
    assert trace(nn.Sequential(nn.Linear(3, 3), Clip()).eval(), images(2, 3), activations=declared)
    with pytest.raises(UnsupportedOperatorError, match="it would take the declared act apart"):
        trace(Around().eval(), images(2, 3), activations=declared)


STRUCTURES: dict[str, tuple[Form, list[str]]] = {
    "tensor": (lambda m, x: m.conv(x), ["output"]),
    "tuple": (lambda m, x: (m.conv(x), x), ["0", "1"]),
    "one": (lambda m, x: {"out": m.conv(x), "aux": None}, ["output"]),
    "dict": (lambda m, x: {"out": m.conv(x), "aux": [x, m.conv2(x)]}, ["out", "aux.0", "aux.1"]),
    "named tuple": (lambda m, x: Pair(m.conv(x), x), ["left", "right"]),
    "dataclass": (lambda m, x: Scores(m.conv(x), x), ["coarse", "fine"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_are_one_value_or_a_dict_by_name(name: str) -> None:
    form, expected = STRUCTURES[name]
    module, _ = captured(Body(form).eval(), images(2, 3, 4, 4))
    assert list(named_leaves(module(images(2, 3, 4, 4)))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_of_an_exported_model_have_the_same_names(name: str) -> None:
    form, expected = STRUCTURES[name]

    def forward(m: Body, x: torch.Tensor) -> Any:
        return form(m, x * stops_fx(x))

    module, _ = captured(Body(forward).eval(), images(2, 3, 4, 4))
    assert is_exported(module)
    assert list(named_leaves(module(images(2, 3, 4, 4)))) == expected


class Two(nn.Module):
    def __init__(self, *, by_export: bool) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)
        self.by_export = by_export

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: Any = None, *, d: Any = None) -> Any:
        total = torch.relu(self.left(a)) + self.right(b)
        if self.by_export:
            total = total * stops_fx(a)
        return total if d is None else total + d


@pytest.mark.slow
@pytest.mark.parametrize("by_export", [False, True])
def test_placeholders_of_several_inputs_have_their_names(by_export: bool) -> None:
    model = Two(by_export=by_export).eval()
    a, b, d = images(2, 3), images(2, 5), images(2, 4)
    for example, expected in (((a, b), ["a", "b"]), ({"d": d, "b": b, "a": a}, ["a", "b", "d"])):
        module, _ = captured(model, example)
        found = [n.target for n in module.graph.nodes if n.op == "placeholder"]
        assert found == expected
        assert is_exported(module) == by_export


# Hooks


def scaled(module: nn.Module, args: Any, result: torch.Tensor) -> torch.Tensor:
    return result * 1.12


def shifted(module: nn.Module, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return args[0] + 0.25


@pytest.mark.parametrize("place", ["", "0", "1", "1.conv"])
@pytest.mark.parametrize("kind", ["after", "before", "keywords"])
def test_hooks_are_traced_wherever_they_are(place: str, kind: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Body(lambda m, x: m.relu(m.conv(x)))).eval()
    target = model.get_submodule(place)
    if kind == "after":
        target.register_forward_hook(scaled)
    elif kind == "before":
        target.register_forward_pre_hook(shifted)
    else:
        target.register_forward_hook(lambda m, args, kw, y: y - 0.5, with_kwargs=True)
        target.register_forward_pre_hook(lambda m, args, kw: ((args[0] * 2,), kw), with_kwargs=True)
    plain = trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()).eval(), images(2, 3, 4, 4))
    graph = check(model, images(2, 3, 4, 4))
    assert len(graph.nodes) > len(plain.nodes)
    assert target._forward_hooks or target._forward_pre_hooks  # the model is not changed


@pytest.mark.slow
def test_a_hook_that_can_not_be_traced_names_its_module() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    model[1].register_forward_hook(lambda m, args, y: y * 2 if y.sum() > -1e9 else y)
    with pytest.raises(
        UnsupportedOperatorError, match=r"(?s)1 .*ReLU, which can't be traced.*values"
    ):
        trace(model, images(2, 3))


def test_a_hook_that_only_looks_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval()
    expected = trace(model, images(2, 3)).hash()
    kept: list[Any] = []
    model[0].register_forward_hook(lambda m, args, y: kept.append(y.detach().cpu()))
    assert trace(model, images(2, 3)).hash() == expected
