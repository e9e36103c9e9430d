"""Models at the edges: each converts right, or is refused with its reason and never a traceback."""

from __future__ import annotations

import builtins
import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from tests.support.traced import Body, Form, check, images

REFUSED: dict[str, tuple[Form, str]] = {
    "a size that depends on the data": (
        lambda m, x: -m.conv(x) if len(x[x > 2]) > 0 else m.conv(x),
        "depends on values of the data",
    ),
    "a count of values": (
        lambda m, x: m.conv(x) * (x > 2).nonzero().shape[0],
        "",
    ),
    "softmax over the batch": (lambda m, x: m.conv(x).softmax(0), "softmax"),
    "calls after mixed samples": (
        lambda m, x: torch.relu(m.conv(x).flatten(0, 1).view(x.size(0), -1)),
        "the samples",
    ),
    "a sigmoid beside other values": (
        lambda m, x: torch.cat([m.conv(x)[:, :1].sigmoid(), x], 1),
        "igmoid",
    ),
    "a padded sigmoid": (lambda m, x: F.pad(m.conv(x).sigmoid(), (1, 1)), "igmoid"),
    "padding with minus infinity": (
        lambda m, x: F.avg_pool2d(F.pad(m.conv(x), (0, 1, 0, 1), value=-float("inf")), 2),
        "not finite",
    ),
    "argmax that keeps its axis": (lambda m, x: m.conv(x).argmax(1, keepdim=True), "argmax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_reason(name: str) -> None:
    form, reason = REFUSED[name]
    with pytest.raises((UnsupportedOperatorError, ConversionError), match=reason):
        trace(Body(form).eval(), images(2, 3, 6, 7))


def test_an_output_without_values_is_refused() -> None:
    with pytest.raises(ConversionError, match="holds no values"):
        trace(Body(lambda m, x: (m.conv(x), x[:, 3:])).eval(), images(2, 3, 6, 7))


CONVERTED: dict[str, Form] = {
    "a rectified empty slice": lambda m, x: torch.cat([x[:, 3:].relu(), m.conv(x)], 1),
    "padding alone, rectified": lambda m, x: F.pad(x[:, :1, :1], (0, 0, -1, 1)).relu() + x,
    "the largest channel of a padded image": lambda m, x: F.pad(m.conv(x), (1, 1), value=0.3).amax(
        1
    ),
    "a square image, transposed": lambda m, x: m.conv(x).relu().flip(-1),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_converted(name: str) -> None:
    check(Body(CONVERTED[name]).eval(), images(2, 3, 6, 6))


def test_a_square_input_is_never_rearranged_in_its_own_shape() -> None:
    for form in (lambda m, x: m.conv(x.transpose(2, 3)), lambda m, x: m.conv(x.flip(2))):
        try:
            graph = trace(Body(form).eval(), images(2, 3, 6, 6))
        except UnsupportedOperatorError:
            continue
        assert graph.input.index is None


SUMS: dict[str, Form] = {
    "positions": lambda m, x: m.linear(m.conv(x).sum((2, 3))),
    "channels": lambda m, x: m.conv(x).sum(1, keepdim=True),
    "difference": lambda m, x: m.conv(x) - m.conv2(x),
}


@pytest.mark.parametrize("name", SUMS)
def test_factors_of_sums_are_real_numbers(name: str) -> None:
    """Integer parameters would stand for a node of the integer lattice."""
    graph = check(Body(SUMS[name]).eval(), images(2, 3, 6, 6))
    types = {value.dtype.name for node in graph.nodes for value in node.arrays().values()}
    assert types == {"float32"}


def test_softmax2d_is_left_to_the_host() -> None:
    graph = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax2d()).eval(), images(2, 3, 4, 4))
    assert graph.output.parts[0].host_op == "softmax"


def test_traces_in_threads_leave_builtins_as_they_were() -> None:
    before, failures = builtins.isinstance, list[Any]()

    def run() -> None:
        try:
            trace(Body(lambda m, x: m.conv2(torch.relu(m.conv(x)))).eval(), images(2, 3, 6, 6))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert builtins.isinstance is before


def test_modules_that_other_threads_run_are_not_traced() -> None:
    """A thread runs a model of its own while this one is inside a trace."""
    other, batch = nn.Conv2d(3, 4, 1).eval(), images(2, 3, 6, 6)
    expected, found = other(batch), list[Any]()

    def run() -> None:
        try:
            found.append(other(batch))
        except Exception as error:
            found.append(error)

    class Waits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> Any:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            return self.conv(x)

    graph = trace(Waits().eval(), batch)
    assert len(graph.nodes) == 3
    assert all(isinstance(one, torch.Tensor) and torch.equal(one, expected) for one in found)


def test_slopes_that_are_not_finite_are_rejected() -> None:
    model = Body(lambda m, x: F.prelu(m.conv(x), torch.tensor([1e38 * 10]))).eval()
    with pytest.raises(UnsupportedOperatorError, match="a slope that is not finite"):
        trace(model, images(2, 3, 6, 6))


def test_layers_over_samples_along_another_axis_are_rejected() -> None:
    model = Body(lambda m, x: F.linear(x.flatten(1).t(), torch.ones(5, 2))).eval()
    with pytest.raises(UnsupportedOperatorError, match="samples lie along axis 1"):
        trace(model, images(2, 3, 4, 5))


class _OddTruth(nn.Module):
    def __bool__(self) -> bool:
        return 3  # type: ignore[return-value]


def test_whether_a_module_is_true_is_not_asked() -> None:
    with pytest.raises(ConversionError, match="forward") as raised:
        trace(nn.ModuleList([_OddTruth()]).eval(), images(2, 3, 6, 7))
    assert "__bool__" not in str(raised.value)


def test_a_program_whose_description_does_not_fit_is_refused() -> None:
    x = images(2, 3, 6, 7)
    program = torch.export.export(nn.Conv2d(3, 4, 3).eval(), (x,))
    program.graph_signature.input_specs[0].target = 3
    with pytest.raises(ConversionError, match=r"exported program can't be run \(AttributeError"):
        trace_exported(program, x)
