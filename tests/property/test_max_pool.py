"""Max pooling as a tree of rectifiers, for any window, 1-D and 2-D."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.graph.nodes import Add, Relu
from icsnn_deploy.passes.compose import compose


@st.composite
def max_pools(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A max pooling and the spatial shape of its input."""
    axes = draw(st.sampled_from([1, 2]))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, dilation = each(1, 5), each(1, 2)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    lengths = tuple(r + draw(st.integers(0, 7)) for r in reach)
    pool = nn.MaxPool1d if axes == 1 else nn.MaxPool2d
    ceil_mode = draw(st.booleans())
    return pool(kernel, each(1, 4), padding, dilation, ceil_mode=ceil_mode), lengths


def batch(lengths: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(2, 3, *lengths, generator=torch.Generator().manual_seed(seed))


def assert_same(model: nn.Module, x: torch.Tensor) -> None:
    """The traced network, and the same composed, give what torch gives."""
    with torch.no_grad():
        expected = model(x).numpy()
    graph = trace(model, x)
    for network in (graph, compose(graph)):
        found = TorchANN(network).run(x.numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(max_pools(), st.integers(0, 2**16))
def test_max_pooling_of_what_is_never_negative(
    pool: tuple[nn.Module, tuple[int, ...]], seed: int
) -> None:
    module, lengths = pool
    assert_same(nn.Sequential(nn.ReLU(), module).eval(), batch(lengths, seed))


@settings(max_examples=15, deadline=None)
@given(max_pools(), st.integers(0, 2**16))
def test_max_pooling_between_a_layer_and_its_rectifier(
    pool: tuple[nn.Module, tuple[int, ...]], seed: int
) -> None:
    module, lengths = pool
    torch.manual_seed(seed)
    conv = nn.Conv1d(3, 4, 1) if len(lengths) == 1 else nn.Conv2d(3, 4, 1)
    assert_same(nn.Sequential(conv, module, nn.ReLU6()).eval(), batch(lengths, seed))


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout()])
def test_between_a_layer_and_its_rectifier_in_every_form(between: nn.Module) -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, 1), between, nn.ReLU())
    model, x = nn.Sequential(*layers).eval(), batch((7, 6), 0)
    program = torch.export.export(model, (x,))
    with torch.no_grad():
        expected = model(x).numpy()
    for graph in (
        trace(model, x),
        trace_exported(program, x),
        trace_exported(program.run_decompositions(), x),
    ):
        found = TorchANN(graph).run(x.numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(max_pools(), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2**16))
def test_a_convolution_takes_the_picks_into_itself(
    pool: tuple[nn.Module, tuple[int, ...]], kernel: int, stride: int, padding: int, seed: int
) -> None:
    module, lengths = pool
    torch.manual_seed(seed)
    x = batch(lengths, seed)
    results = module(x).shape[2:]
    assume(all(length + 2 * padding >= kernel for length in results))
    conv = nn.Conv1d if len(lengths) == 1 else nn.Conv2d
    assert_same(nn.Sequential(nn.ReLU(), module, conv(3, 2, kernel, stride, padding)).eval(), x)


@settings(max_examples=15, deadline=None)
@given(max_pools(), st.integers(0, 2**16))
def test_no_tree_takes_more_neurons_than_a_value_less_than_the_window(
    pool: tuple[nn.Module, tuple[int, ...]], seed: int
) -> None:
    module, lengths = pool
    graph = trace(nn.Sequential(nn.ReLU(), module).eval(), batch(lengths, seed))
    sizes: Any = module.kernel_size
    window = math.prod(sizes)
    neurons = sum(math.prod(graph.shape(node.name)) for node in graph.nodes_of(Relu)[1:])
    assert neurons <= (window - 1) * math.prod(graph.shape(graph.output.name))


def test_two_by_two_takes_three_neurons_an_output_in_two_populations() -> None:
    graph = trace(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)).eval(), batch((8, 6), 0))
    shapes = [graph.shape(node.name) for node in graph.nodes_of(Relu)[1:]]
    assert sum(map(math.prod, shapes)) == 3 * 3 * 4 * 3
    assert len(shapes) == 2
    assert [node.name for node in graph.nodes_of(Add)][-1] == "1"


def test_three_by_three_at_stride_two_goes_axis_after_axis() -> None:
    """Six neurons an output where the whole window at once takes eight."""
    graph = trace(nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)).eval(), batch((16, 16), 0))
    neurons = sum(math.prod(graph.shape(node.name)) for node in graph.nodes_of(Relu)[1:])
    assert neurons == 6 * 3 * 8 * 8


def test_a_long_window_at_stride_one_shares_its_halves() -> None:
    graph = trace(nn.Sequential(nn.ReLU(), nn.MaxPool1d(9, 1)).eval(), batch((40,), 0))
    assert len(graph.nodes_of(Relu)[1:]) == 4  # windows of 2 or 3, then 5, then 9


@st.composite
def long_windows(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Global poolings, and poolings of long windows without common elements."""
    axes = draw(st.sampled_from([1, 2]))
    pool = nn.MaxPool1d if axes == 1 else nn.MaxPool2d
    kernel = tuple(draw(st.integers(1, 40 if axes == 1 else 17)) for _ in range(axes))
    padding = tuple(draw(st.integers(0, min(k // 2, 3))) for k in kernel)
    counts = [draw(st.sampled_from([1, 1, 2, 3])) for _ in kernel]
    lengths = [
        max(1, k * n - 2 * p) + draw(st.integers(0, k - 1))
        for k, n, p in zip(kernel, counts, padding, strict=True)
    ]
    ceil_mode = draw(st.booleans())
    return pool(kernel, None, padding, ceil_mode=ceil_mode), tuple(lengths)


@settings(max_examples=25, deadline=None)
@given(long_windows(), st.integers(0, 2**16))
def test_long_windows(pool: tuple[nn.Module, tuple[int, ...]], seed: int) -> None:
    module, lengths = pool
    x = batch(lengths, seed)
    assume(all(module(x).shape))
    assert_same(nn.Sequential(nn.ReLU(), module).eval(), x)
    padding: Any = module.padding
    if not any(padding) and not module.ceil_mode:  # values of any sign
        assert_same(nn.Sequential(module).eval(), x)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("lengths", "most"),
    [((512,), 9), ((511,), 9), ((513,), 10), ((30, 30), 10), ((7, 7), 6), ((1, 64), 6)],
)
def test_global_pooling_takes_log2_of_the_positions_in_populations(
    lengths: tuple[int, ...], most: int, signed: bool
) -> None:
    pool = nn.AdaptiveMaxPool1d(1) if len(lengths) == 1 else nn.AdaptiveMaxPool2d(1)
    model = nn.Sequential(pool) if signed else nn.Sequential(nn.ReLU(), pool)
    graph = trace(model.eval(), batch(lengths, 0))
    relus = graph.nodes_of(Relu)[0 if signed else 1 :]
    neurons = sum(math.prod(graph.shape(node.name)) for node in relus) / 3
    values = math.prod(lengths)
    odd = any(length & (length - 1) for length in lengths)
    if signed and odd:
        assert len(relus) <= 2 * most
        assert neurons < 2 * values
    else:
        assert len(relus) <= most
        assert neurons <= (values - 1) * (1 + 0.2 * odd)
    assert_same(model, batch(lengths, 1))


def test_a_traced_global_pooling_of_512_positions_is_fast() -> None:
    """It had taken a population for each pair, and seconds per hundred of them."""
    graph = trace(nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool1d(1)).eval(), batch((512,), 0))
    assert len(graph.nodes) < 60


def test_adaptive_max_pooling() -> None:
    assert_same(nn.Sequential(nn.AdaptiveMaxPool2d((2, 1))).eval(), batch((4, 3), 0))
    assert_same(nn.Sequential(nn.AdaptiveMaxPool1d(2)).eval(), batch((6,), 0))


def test_what_does_nothing_may_stand_before_the_rectifier() -> None:
    between = (nn.Dropout(), nn.Identity())
    layers = (nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1), *between, nn.ReLU6())
    assert_same(nn.Sequential(*layers).eval(), batch((9, 8), 0))
