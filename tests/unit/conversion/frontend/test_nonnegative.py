"""What is read off a graph as never negative."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.graph.nodes import (
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Relu,
)
from tests.support.building import make

WEIGHT, BIAS = np.ones((2, 2, 1, 1)), np.zeros(2)
COLUMN = np.ones((2, 1, 1))


def nodes(*more: Node) -> dict[str, Node]:
    """An input, a rectifier of it, and more."""
    start = (make(Input, name="input"), make(Relu, name="a", inputs=("input",)))
    return {node.name: node for node in (*start, *more)}


KEEPS: dict[str, Node] = {
    "sum": make(Add, inputs=("a", "a")),
    "mean": make(AvgPool),
    "flatten": make(Flatten),
    "convolution": make(Conv, weight=WEIGHT, bias=BIAS),
    "linear": make(Linear, weight=np.ones((2, 3)), bias=BIAS),
    "scale": make(ChannelAffine, scale=COLUMN, shift=COLUMN * 0),
}
BREAKS: dict[str, Node] = {
    "one summand": make(Add, inputs=("a", "input")),
    "weight": make(Conv, weight=WEIGHT * [[[[1]], [[-1e-6]]]], bias=BIAS),
    "bias": make(Conv, weight=WEIGHT, bias=BIAS - [0, 1e-6]),
    "linear": make(Linear, weight=np.array([[1.0, 0, -1]]), bias=np.zeros(1)),
    "factor": make(ChannelAffine, scale=-COLUMN, shift=COLUMN * 0),
    "shift": make(ChannelAffine, scale=COLUMN, shift=-COLUMN),
}


@pytest.mark.parametrize("name", KEEPS)
def test_never_negative_behind_a_rectifier(name: str) -> None:
    assert is_nonnegative(nodes(KEEPS[name]), "n")


@pytest.mark.parametrize("name", BREAKS)
def test_may_be_negative(name: str) -> None:
    assert not is_nonnegative(nodes(BREAKS[name]), "n")


def test_an_input_may_be_negative_and_so_may_what_only_keeps_its_sign() -> None:
    assert not is_nonnegative(nodes(), "input")
    chain = nodes(
        make(AvgPool, name="b", inputs=("input",)), make(Add, name="n", inputs=("a", "b"))
    )
    assert not is_nonnegative(chain, "n")
    assert is_nonnegative(nodes(make(Relu, name="n", inputs=("input",))), "n")


def test_what_stands_in_for_a_rejected_call_is_not_rejected_again() -> None:
    assert is_nonnegative(nodes(make(Add, inputs=("a", "gelu (rejected)"))), "n")
