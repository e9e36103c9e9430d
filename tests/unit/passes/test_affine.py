"""Two affine nodes as one, against the two in a row; all numbers are exact."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.backends.reference import evaluate
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import AvgPool, ChannelAffine, Conv, Linear
from icsnn_deploy.passes.affine import (
    dense,
    is_per_channel,
    moved_after,
    pure_scale,
    scale_inputs,
    scale_outputs,
)
from icsnn_deploy.passes.convolutions import dense_weight, depthwise
from tests.support.building import make
from tests.support.graphs import conv, dyadic

RNG = np.random.default_rng(0)


def scale(channels: int, axes: int = 2) -> ChannelAffine:
    shape = (channels, *(1,) * axes)
    return ChannelAffine(
        name="scale", inputs=("x",), scale=dyadic(RNG, *shape), shift=dyadic(RNG, *shape)
    )


@pytest.mark.parametrize(
    ("shape", "answer"),
    [((1, 1, 1), True), ((4, 1, 1), True), ((4,), True), ((4, 1, 2), False), ((1, 3), False)],
)
def test_one_value_per_channel_is_alike_in_space(shape: tuple[int, ...], answer: bool) -> None:
    assert is_per_channel(np.ones(shape)) == answer


def test_scaled_outputs_of_a_grouped_convolution() -> None:
    first, after = conv("conv", "x", RNG, (4, 6), groups=2, stride=2), scale(6)
    x = dyadic(RNG, 2, 4, 5, 5)
    found = scale_outputs(first, after)
    assert (found.name, found.inputs) == ("conv", ("x",))
    np.testing.assert_array_equal(evaluate(found, x), evaluate(after, evaluate(first, x)))


def test_scaled_inputs_of_a_grouped_convolution() -> None:
    first, second = scale(4), conv("conv", "scale", RNG, (4, 6), groups=2, padding=0)
    x = dyadic(RNG, 2, 4, 5, 5)
    found = scale_inputs(second, first)
    assert (found.name, found.inputs) == ("conv", ("x",))
    np.testing.assert_array_equal(evaluate(found, x), evaluate(second, evaluate(first, x)))


def test_scaled_inputs_and_outputs_of_a_matrix() -> None:
    linear = make(Linear, weight=dyadic(RNG, 3, 4), bias=dyadic(RNG, 3))
    assert isinstance(linear, Linear)
    before, after, x = scale(4, 0), scale(3, 0), dyadic(RNG, 2, 4)
    np.testing.assert_array_equal(
        evaluate(scale_outputs(scale_inputs(linear, before), after), x),
        evaluate(after, evaluate(linear, evaluate(before, x))),
    )


@pytest.mark.parametrize("axes", [0, 1, 2])
def test_a_scale_as_a_dense_connection(axes: int) -> None:
    shape = (3, *(5,) * axes)
    node, x = scale(3, axes), dyadic(RNG, 2, *shape)
    found = dense(node, shape)
    assert isinstance(found, Conv if axes else Linear)
    assert found.weight.shape[:2] == (3, 3)
    np.testing.assert_array_equal(evaluate(found, x), evaluate(node, x))


def test_a_dense_weight_is_zero_between_groups() -> None:
    grouped = conv("conv", "x", RNG, (4, 6), groups=2, padding=0)
    found = dense_weight(grouped)
    assert found.shape == (6, 4, 3, 3)
    assert not found[:3, 2:].any()
    assert not found[3:, :2].any()
    x = dyadic(RNG, 1, 4, 3, 3)
    total = (found * x).sum(axis=(1, 2, 3)) + grouped.bias
    np.testing.assert_array_equal(evaluate(grouped, x).ravel(), total)


def test_a_depthwise_convolution_weighs_and_pads_each_channel() -> None:
    node = pure_scale("n", "x", np.full((1, 1), 2))
    found = depthwise(node, np.array([2.0, 4.0]), np.array([1.0, 0.0]), ((1, 0),))
    assert (found.name, found.inputs) == ("n", ("x",))
    result = evaluate(found, np.array([[[1.0], [3.0]]]))
    np.testing.assert_array_equal(result, [[[1, 3], [0, 12]]])


def pool(padding: int) -> AvgPool:
    pair = (padding, padding)
    return AvgPool(name="pool", inputs=("n",), kernel=(2, 2), stride=(1, 1), padding=(pair, pair))


@pytest.mark.parametrize(
    ("shift", "padding", "across", "moves"),
    [(0, 1, False, True), (1, 0, False, True), (1, 1, False, False), (1, 1, True, True)],
)
def test_a_shift_moves_behind_padded_pooling_only_when_told(
    shift: int, padding: int, across: bool, moves: bool
) -> None:
    one: Array = np.ones((1, 1, 1))
    node = ChannelAffine(name="n", inputs=("x",), scale=2 * one, shift=shift * one)
    found = moved_after(pool(padding), node, (2, 4, 4), across_padding=across)
    assert found is (node if moves else None)
