"""What a network accepts as input, and samples as spikes over time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, encode_rate, to_input_units
from icsnn_deploy.graph.neuron import Array, if_step
from icsnn_deploy.graph.nodes import Encoding, InputDtype
from tests.support.graphs import residual_network


def taking(dtype: InputDtype = "float32", encoding: Encoding = "direct") -> Graph:
    """A network of 4 steps whose input has shape (2, 6, 6)."""
    graph = residual_network(time_steps=4)
    return graph.replace(replace(graph.input, dtype=dtype, encoding=encoding))


# check_inputs


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int64", "bool"])
def test_real_numbers_become_float32(dtype: str) -> None:
    found = check_inputs(taking(), np.ones((3, 2, 6, 6), dtype))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones((3, 2, 6, 6)))


def test_input_of_the_right_type_is_not_copied() -> None:
    x = np.ones((3, 2, 6, 6), np.float32)
    assert np.shares_memory(check_inputs(taking(), x), x)


@pytest.mark.parametrize("shape", [(2, 6, 6), (3, 2, 6), (3, 2, 6, 5), (4, 3, 2, 6, 6), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"input of shape \(.*\): \[B, 2, 6, 6\] is needed"):
        check_inputs(taking(), np.zeros(shape))


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_spikes_over_time_need_an_axis_of_the_right_length(encoding: Encoding) -> None:
    graph = taking(encoding=encoding)
    assert check_inputs(graph, np.zeros((4, 3, 2, 6, 6))).shape == (4, 3, 2, 6, 6)
    with pytest.raises(DataError, match=r"\[T, B, 2, 6, 6\] is needed"):
        check_inputs(graph, np.zeros((3, 2, 6, 6)))
    with pytest.raises(DataError, match="input of 5 steps: the network runs 4"):
        check_inputs(graph, np.zeros((5, 3, 2, 6, 6)))


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_counts_are_no_spikes(encoding: Encoding) -> None:
    """An integer network's certificate is for 0 and 1."""
    graph = taking("int8", encoding=encoding)
    spikes = np.ones((4, 3, 2, 6, 6), np.int8)
    np.testing.assert_array_equal(check_inputs(graph, spikes), spikes)
    for value in (-1, 2):
        with pytest.raises(DataError, match=f"{encoding} encoding takes spikes, 0 or 1"):
            check_inputs(graph, value * spikes)


LIMITS = [("uint8", 0, 255), ("int8", -128, 127), ("int16", -32768, 32767)]


@pytest.mark.parametrize(("dtype", "least", "most"), LIMITS)
def test_integers_that_fit_are_taken(dtype: InputDtype, least: int, most: int) -> None:
    x = np.zeros((1, 2, 6, 6), np.int64)
    x[0, 0, 0, :2] = least, most
    found = check_inputs(taking(dtype), x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize(("dtype", "least", "most"), LIMITS)
def test_integers_that_do_not_fit_are_refused(dtype: InputDtype, least: int, most: int) -> None:
    for value in (least - 1, most + 1):
        x = np.zeros((1, 2, 6, 6), np.int64)
        x[0, 1, 2, 3] = value
        with pytest.raises(DataError, match=f"{dtype} holds {least} to {most}"):
            check_inputs(taking(dtype), x)


def test_the_largest_unsigned_integer_does_not_wrap() -> None:
    with pytest.raises(DataError, match="input values 18446744073709551615"):
        check_inputs(taking("int16"), np.full((1, 2, 6, 6), 2**64 - 1, np.uint64))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_floats_are_refused_where_integers_are_needed(dtype: InputDtype) -> None:
    with pytest.raises(DataError, match=f"of type float32: integers that fit {dtype} needed"):
        check_inputs(taking(dtype), np.zeros((1, 2, 6, 6), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e300])
@pytest.mark.filterwarnings("error")
def test_values_that_float32_does_not_hold_are_refused(value: float) -> None:
    x = np.zeros((1, 2, 6, 6))
    x[0, 1, 2, 3] = value
    with pytest.raises(DataError, match="NaN or infinity, or values beyond float32"):
        check_inputs(taking(), x)


@pytest.mark.parametrize("dtype", ["complex64", "object", "U3"])
def test_what_is_not_a_real_number_is_refused(dtype: str) -> None:
    with pytest.raises(DataError, match="real numbers are needed"):
        check_inputs(taking(), np.ones((1, 2, 6, 6), dtype))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_no_samples_are_fine(dtype: InputDtype) -> None:
    assert check_inputs(taking(dtype), np.zeros((0, 2, 6, 6), np.uint8)).shape == (0, 2, 6, 6)


# encode_rate


def test_deterministic_spikes_by_hand() -> None:
    spikes = encode_rate(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]]), 4)
    assert spikes.dtype == np.uint8
    assert spikes[:, 0].T.tolist() == [
        [0, 0, 0, 0],
        [0, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 1, 0, 1],
        [1, 1, 1, 1],
    ]


@given(st.lists(st.integers(0, 64), min_size=1, max_size=8), st.integers(1, 20))
def test_deterministic_spikes_are_those_of_a_neuron(counts: list[int], time_steps: int) -> None:
    x = np.array(counts) / 64
    v: Array = np.full(len(x), 0.5)
    expected = []
    for _ in range(time_steps):
        s, _, v = if_step(v, x, np.ones(1))
        expected.append(s)
    np.testing.assert_array_equal(encode_rate(x[None], time_steps)[:, 0], expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 50))
def test_the_rate_is_the_sample(values: list[float], time_steps: int) -> None:
    spikes = encode_rate(np.array([values]), time_steps)
    assert spikes.shape == (time_steps, 1, len(values))
    assert spikes.max() <= 1
    error = np.abs(spikes.mean(axis=0) - values)
    assert error.max() <= 0.5 / time_steps + 1e-12


def test_drawn_spikes_depend_on_the_seed_alone() -> None:
    x = np.full((3, 4, 5), 0.5)
    one, same, other = (encode_rate(x, 6, seed=seed) for seed in (1, 1, 2))
    assert one.shape == (6, 3, 4, 5)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_drawn_spikes_have_the_rate_of_the_sample() -> None:
    x = np.array([[0.0, 0.1, 0.5, 0.9, 1.0]])
    spikes = encode_rate(x, 10_000, seed=0)
    np.testing.assert_allclose(spikes.mean(axis=0), x, atol=0.02)
    assert spikes[:, 0, 0].sum() == 0
    assert spikes[:, 0, 4].sum() == 10_000


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_rates_outside_0_to_1_are_refused(value: float, seed: int | None) -> None:
    with pytest.raises(DataError, match=r"rate encoding of values .*: \[0, 1\] is needed"):
        encode_rate(np.array([[0.5, value]]), 4, seed=seed)


def test_no_samples_make_no_spikes() -> None:
    assert encode_rate(np.zeros((0, 3)), 4).shape == (4, 0, 3)


# to_input_units


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_integer_stands_for_what_is_not_finite(value: float) -> None:
    x = np.zeros((3, 2, 6, 6), np.float32)
    x[1, 0, 2, 3] = value
    with pytest.raises(DataError, match="no integer stands for"):
        to_input_units(taking("uint8"), x)
