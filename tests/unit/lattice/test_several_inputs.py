"""Several inputs of a model share one integer unit."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output, Part
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize


def network() -> Graph:
    rng = np.random.default_rng(0)
    one = np.ones(1, np.float32)
    parts = (Part("image", (6,)), Part("age", (1,)))
    return Graph(
        nodes=(
            Input(name="input", shape=(7,), parts=parts, index=np.arange(7)),
            Linear(name="l1", inputs=("input",), weight=rng.normal(size=(8, 7)), bias=np.zeros(8)),
            IF(name="if", inputs=("l1",), v_threshold=one, v_init=one / 2),
            Linear(name="l2", inputs=("if",), weight=rng.normal(size=(3, 8)), bias=np.zeros(3)),
            Output(name="output", inputs=("l2",)),
        ),
        time_steps=4,
    )


def samples(age: float) -> Array:
    rng = np.random.default_rng(1)
    values = {
        "image": rng.normal(size=(32, 6)).astype(np.float32),
        "age": (age * rng.uniform(0.5, 1, (32, 1))).astype(np.float32),
    }
    return pack_inputs(network(), values)


def test_an_input_of_less_than_a_few_integer_steps_is_refused() -> None:
    """Rounded to zero, it would be lost without a word."""
    with pytest.raises(LatticeError, match=r"input 'age': .* give --input-bits 16"):
        quantize(network(), samples(0.01))
    found = quantize(network(), samples(0.01), options=LatticeOptions(input_bits=16))
    assert found.network.is_integer
    with pytest.raises(LatticeError, match=r"to similar ranges$"):
        quantize(network(), samples(1e-6), options=LatticeOptions(input_bits=16))


@pytest.mark.parametrize("age", [0.0, 1.0])
def test_inputs_of_similar_ranges_and_inputs_that_are_zero_are_taken(age: float) -> None:
    assert quantize(network(), samples(age)).network.is_integer
