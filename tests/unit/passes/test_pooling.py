"""Sums over windows: what average pooling is without its division, and how one is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import evaluate
from icsnn_deploy.graph.nodes import AvgPool, Conv, Linear, Node
from icsnn_deploy.passes.pooling import is_window_sum, window_sum
from tests.support.building import make


@pytest.mark.parametrize("kernel", [(3,), (2, 3)])
def test_it_is_the_mean_times_the_window(kernel: tuple[int, ...]) -> None:
    pool = AvgPool(
        name="pool",
        inputs=("a",),
        kernel=kernel,
        stride=(2,) * len(kernel),
        padding=((0, 1),) * len(kernel),
    )
    conv = window_sum(pool, 5)
    x = np.random.default_rng(0).integers(-9, 9, (2, 5, *(7,) * len(kernel))).astype(float)
    assert (conv.name, conv.inputs) == ("pool", ("a",))
    assert conv.weight.dtype == conv.bias.dtype == np.int8
    np.testing.assert_allclose(evaluate(conv, x), evaluate(pool, x) * np.prod(kernel), rtol=1e-12)
    assert is_window_sum(conv)


WHOLE = make(Conv, weight=np.ones((2, 1, 3, 3)), groups=2)


def test_floats_count_as_well() -> None:
    assert isinstance(WHOLE, Conv)
    assert WHOLE.weight.dtype == np.float32
    assert is_window_sum(WHOLE)


@pytest.mark.parametrize(
    "node",
    [
        make(Conv),  # of all channels
        make(Conv, weight=np.ones((4, 1, 3, 3)), bias=np.zeros(4), groups=2),  # two of each
        make(Conv, weight=np.full((2, 1, 3, 3), 2.0), groups=2),
        replace(WHOLE, bias=np.array([0.0, 1.0])),
        make(AvgPool),
        make(Linear, weight=np.ones((1, 1)), bias=np.zeros(1)),
    ],
)
def test_what_is_none(node: Node) -> None:
    assert not is_window_sum(node)
