"""A traced graph is compared with the model, relative to what each output spans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs, bind_example
from icsnn_deploy.conversion.frontend.self_check import apply_host_op, check_same, reference_runs
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Input, Linear, Output, Part
from tests.support.traced import images, ready


def network(scale: float = 1.0, shift: float = 0.0) -> nn.Sequential:
    torch.manual_seed(2)
    head = nn.Linear(6, 4)
    with torch.no_grad():
        head.weight.mul_(scale)
        head.bias.mul_(scale).add_(shift)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), head).eval()


def with_scaled_output(graph: Graph, factor: float) -> Graph:
    """The graph with its last weights off by a factor."""
    head = graph.node("2")
    assert isinstance(head, Linear)
    return graph.replace(replace(head, weight=head.weight * np.float32(factor)))


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 1e6])
def test_a_difference_counts_relative_to_the_outputs(scale: float) -> None:
    """Outputs below 1e-3 are checked like any others."""
    model, x = network(scale), images(4, 5)
    graph = trace(model, x)
    runs = reference_runs(model, bind_example(model, x))
    check_same(graph, runs)
    with pytest.raises(ConversionError, match=r"largest difference .*e?.* allowed"):
        check_same(with_scaled_output(graph, 1.0001), runs)


def test_what_float32_can_not_hold_is_allowed() -> None:
    """Outputs that differ little from one another are as exact as float32 weights can be."""
    model, x = network(1e-3, shift=1000.0), images(4, 5)
    check_same(trace(model, x), reference_runs(model, bind_example(model, x)))


def test_a_difference_that_the_example_does_not_show_is_found() -> None:
    x = torch.zeros(4, 5)
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 4)).eval()
    graph = with_scaled_output(trace(model, x), 1.5)
    with pytest.raises(ConversionError, match="does not reproduce the model: largest difference"):
        check_same(graph, reference_runs(model, bind_example(model, x)))


class Amplifying(nn.Module):
    """For inputs beyond 1 a difference of large values, which float32 does not hold exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beyond = torch.relu(x.abs() - 1)
        result: torch.Tensor = self.linear(x + beyond * 3e5 / 7 - beyond * (3e5 / 7))
        return result


def test_each_batch_may_differ_by_the_rounding_of_the_model_on_it() -> None:
    """The random samples reach beyond the example, where the model itself is less exact."""
    torch.manual_seed(0)
    model, x = Amplifying().eval(), images(4, 5).sign()[:2]
    runs = reference_runs(model, bind_example(model, x))
    example, random = (run.rounding["output"] for run in runs)
    assert example < 1e-6 < 1e-4 < random
    graph = trace(model, x)
    calm, wild = (replace(run, outputs={"output": run.outputs["output"] + random}) for run in runs)
    check_same(graph, [wild])
    with pytest.raises(ConversionError, match="does not reproduce the model"):
        check_same(graph, [calm])


def test_small_outputs_that_a_hook_changes_come_out_right() -> None:
    """torch.fx does not see the hook; its 12 % went unnoticed where outputs are small."""
    model = network(1e-5)
    model[2].register_forward_hook(lambda m, args, y: 1.12 * y)
    x = images(4, 5)
    check_same(trace(model, x), reference_runs(model, bind_example(model, x)))


class SinglePrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            raise TypeError(f"float32 is needed, not {x.dtype}")
        return torch.relu(self.linear(x))


def test_a_model_of_float32_alone_is_checked_in_float32() -> None:
    model, x = SinglePrecision().eval(), images(4, 5)
    runs = reference_runs(model, bind_example(model, x))
    assert not any(run.is_double for run in runs)
    assert next(model.parameters()).dtype == torch.float32
    check_same(trace(model, x), runs)


def test_the_model_runs_on_its_samples_and_on_a_random_one_alone() -> None:
    model, x = network(), images(2, 5)
    runs = reference_runs(model, bind_example(model, x))
    assert [(len(run.inputs), run.is_example, run.is_double) for run in runs] == [
        (2, True, True),
        (1, False, True),
    ]


# Several outputs


def two_outputs(host_op: str = "") -> Graph:
    """y = W x with both outputs in one: "logits" of 3 values and "value" of 1."""
    weight = np.arange(16, dtype=np.float32).reshape(4, 4) - 7
    parts = (Part("logits", (3,), host_op), Part("value", (1,)))
    return Graph(
        nodes=(
            Input(name="input", shape=(4,)),
            Linear(name="head", inputs=("input",), weight=weight, bias=np.ones(4, np.float32)),
            Output(name="output", inputs=("head",), parts=parts, index=np.arange(4)),
        )
    )


class Heads(nn.Module):
    def __init__(self, logits: Callable[[Any], Any], value: Callable[[Any], Any]) -> None:
        super().__init__()
        weight = torch.arange(16.0).reshape(4, 4) - 7
        self.weight = nn.Parameter(weight)
        self.logits, self.value = logits, value

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = x @ self.weight.t() + 1
        return {"logits": self.logits(y[:, :3]), "value": self.value(y[:, 3:])}


def same(x: Any) -> Any:
    return x


def runs_of(model: nn.Module) -> list[Any]:
    return reference_runs(model.eval(), bind_example(model, images(2, 4)))


def test_each_output_is_compared_by_its_name_and_on_its_own_scale() -> None:
    check_same(two_outputs(), runs_of(Heads(same, same)))
    with pytest.raises(ConversionError, match="model: output 'value': largest difference"):
        check_same(two_outputs(), runs_of(Heads(same, lambda y: y * 1.001)))
    wrong = runs_of(Heads(lambda y: y[:, :2], lambda y: y + 1))
    with pytest.raises(ConversionError) as caught:
        check_same(two_outputs(), wrong)
    assert "output 'logits': output of shape (2, 3) instead of (2, 2)" in str(caught.value)
    assert "output 'value': largest difference 1" in str(caught.value)


def test_a_small_output_beside_a_large_one_is_checked() -> None:
    graph = two_outputs()
    head = graph.node("head")
    assert isinstance(head, Linear)
    scale = np.array([1, 1, 1, 1e-7], np.float32)
    small = graph.replace(
        replace(head, weight=head.weight * scale[:, None], bias=head.bias * scale)
    )
    check_same(small, runs_of(Heads(same, lambda y: y * np.float32(1e-7).item())))
    with pytest.raises(ConversionError, match="output 'value'"):
        check_same(small, runs_of(Heads(same, lambda y: y * 1.01e-7)))


def test_outputs_of_other_names_are_refused() -> None:
    runs = [
        replace(run, outputs=dict(zip("ab", run.outputs.values(), strict=True)))
        for run in runs_of(Heads(same, same))
    ]
    with pytest.raises(ConversionError, match="gives the outputs logits, value instead of a, b"):
        check_same(two_outputs(), runs)


HOST_OPS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda y: y.softmax(1),
    "log_softmax": lambda y: y.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "argmax": lambda y: y.argmax(1),
}


@pytest.mark.parametrize("host_op", HOST_OPS)
def test_what_the_host_does_is_applied_before_the_comparison(host_op: str) -> None:
    model = Heads(HOST_OPS[host_op], same)
    check_same(two_outputs(host_op), runs_of(model))
    with pytest.raises(ConversionError, match="output 'logits'"):
        check_same(two_outputs(), runs_of(model))


def test_an_operation_that_the_host_does_not_know() -> None:
    with pytest.raises(ConversionError, match="host operation 'gelu': there are argmax, log_"):
        apply_host_op("gelu", np.zeros((1, 2)))


# Several inputs


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a.flatten(1) + b


def test_several_inputs_are_packed() -> None:
    index = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    weight = np.hstack([np.eye(4), np.eye(4)]).astype(np.float32)
    parts = (Part("a", (2, 2)), Part("b", (4,)))
    graph = Graph(
        nodes=(
            Input(name="input", shape=(8,), index=index, parts=parts),
            Linear(name="sum", inputs=("input",), weight=weight, bias=np.zeros(4, np.float32)),
            Output(name="output", inputs=("sum",)),
        )
    )
    inputs = bind_example(Sum(), {"b": images(3, 4), "a": images(3, 2, 2, seed=1)})
    check_same(graph, reference_runs(Sum(), inputs))
    swapped = graph.replace(replace(graph.input, index=index[::-1].copy()))
    with pytest.raises(ConversionError, match="does not reproduce"):
        check_same(swapped, reference_runs(Sum(), inputs))


def test_outputs_that_are_not_finite_are_refused() -> None:
    model = Heads(lambda y: y / 0, same)
    with pytest.raises(ConversionError, match=r"gives -?inf in output 'logits' on the example"):
        check_same(two_outputs(), runs_of(model))


def test_only_the_example_has_to_be_finite() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) + torch.where(x < 0, torch.nan, 0.0)

    x = images(2, 5).abs()
    runs = reference_runs(Root(), ExampleInputs(tensors={"x": x}, positional=("x",), keywords={}))
    assert np.isnan(runs[1].outputs["output"]).any()
    check_same(trace(ready(nn.Sequential(nn.ReLU())), x), runs)


class _Returns(nn.Module):
    def __init__(self, made: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 6)
        self._made = made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._made(self.fc(x))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda y: y.to("meta"), "strided tensor on device meta"),
        (lambda y: y.to_sparse(), "sparse_coo tensor on device cpu"),
        (lambda y: torch.nested.nested_tensor([y[0], y[0, :3]]), "nested tensor on device cpu"),
        (
            lambda y: torch.quantize_per_tensor(y.float(), 0.1, 0, torch.qint8),
            "quantized tensor on device cpu",
        ),
    ],
)
def test_an_output_without_values_to_compare_is_refused(
    made: Callable[[torch.Tensor], torch.Tensor], kind: str
) -> None:
    with pytest.raises(ConversionError, match=f"output 'output' of the model: {kind}"):
        trace(_Returns(made).eval(), images(4, 5))
