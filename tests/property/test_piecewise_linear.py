"""Piecewise-linear functions: algebra, rectifiers, and activations of any parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.piecewise_linear import (
    PiecewiseLinear,
    chosen,
    combined,
    larger,
    product,
    total,
)
from icsnn_deploy.conversion.frontend.rectifier_sum import rectifier_sum
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.neuron import Array
from tests.support.traced import Body, Form, images

CHANNELS = 3
PLACES = np.linspace(-9.03, 9.07, 1811)[:, None]  # [N, 1], at no kink


@st.composite
def functions(draw: st.DrawFn, kinks: int = 4, *, continuous: bool = True) -> PiecewiseLinear:
    """A function of few kinks, per layer or per channel, some channels with fewer than others."""
    count = draw(st.integers(0, kinks))
    channels = draw(st.sampled_from([1, CHANNELS]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = np.sort(rng.integers(-12, 13, (count, channels)) / 2.0, axis=0)
    places[rng.random(places.shape) < 0.1] = np.inf
    places = np.sort(places, axis=0)
    slopes = rng.choice([-1.5, -1, -0.25, 0, 0, 0.1, 1, 2], (count + 1, channels))
    intercepts = rng.choice([-2.0, 0, 0, 0.5, 1], (count + 1, channels))
    if continuous:
        for k in range(count):
            at = np.where(np.isfinite(places[k]), places[k], 0)
            intercepts[k + 1] = intercepts[k] + (slopes[k] - slopes[k + 1]) * at
    return PiecewiseLinear.of(list(places), list(slopes), list(intercepts))


def values(f: PiecewiseLinear, x: Array = PLACES) -> Array:
    return np.broadcast_to(f(x), (len(x), CHANNELS))


def assert_same(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@given(functions(), functions())
def test_sums_larger_values_and_functions_of_functions(
    f: PiecewiseLinear, g: PiecewiseLinear
) -> None:
    assert_same(values(total(f, g)), values(f) + values(g))
    assert_same(values(larger(f, g)), np.maximum(values(f), values(g)))
    inner = f.after(g)
    assert inner is not None
    assert_same(values(inner), f(g(PLACES) + np.zeros(CHANNELS)))


@given(functions(2, continuous=False), functions(), functions())
def test_masks_and_what_they_select(
    jumping: PiecewiseLinear, f: PiecewiseLinear, g: PiecewiseLinear
) -> None:
    step = combined(lambda a: (0 * a[0], np.sign(a[1])), jumping)
    masked = product(f, step)
    assert masked is not None
    assert_same(values(masked), values(f) * values(step))
    assert_same(values(chosen(step, f, g)), np.where(values(step) != 0, values(f), values(g)))


@given(functions())
def test_a_product_is_quadratic_unless_one_is_a_step(f: PiecewiseLinear) -> None:
    identity = PiecewiseLinear.linear(1.0).widened(1)
    assert (product(f, identity) is None) == (not f.is_step)


@given(functions(continuous=False))
def test_a_function_that_jumps_is_told_from_one_that_does_not(f: PiecewiseLinear) -> None:
    finite = np.isfinite(f.kinks)
    at = np.where(finite, f.kinks, 0)
    around = np.where(finite, f(at + 1e-7) - f(at - 1e-7), 0)
    jumps = bool((np.abs(around) > 1e-5).any())
    assert (f.jump() is not None) == jumps


@given(functions(), st.integers(-6, 3), st.integers(1, 6))
def test_between_two_limits_a_restricted_function_is_the_same(
    f: PiecewiseLinear, low: int, width: int
) -> None:
    high = low + width
    found = f.restricted(np.array([float(low)]), np.array([float(high)]))
    inside = PLACES[(PLACES[:, 0] > low) & (PLACES[:, 0] < high)]
    assert_same(values(found, inside), values(f, inside))
    assert len(found.kinks) <= len(f.kinks)
    finite = found.kinks[np.isfinite(found.kinks)]
    assert ((finite > low) & (finite < high)).all()


@given(functions())
def test_limits_are_the_least_and_the_largest_value(f: PiecewiseLinear) -> None:
    far = np.concatenate([PLACES, f.kinks[np.isfinite(f.kinks)].reshape(-1, 1), [[-1e9], [1e9]]])
    found = values(f, far)
    low, high = (np.broadcast_to(limit[0], (CHANNELS,)) for limit in f.limits())
    for limit, value in ((low, found.min(axis=0)), (high, found.max(axis=0))):
        bounded = np.isfinite(limit)
        assert_same(value[bounded], limit[bounded])
        assert (np.abs(value[~bounded]) > 1e7).all()


@settings(max_examples=300)
@given(functions())
def test_rectifiers_add_up_to_the_function(f: PiecewiseLinear) -> None:
    parts = rectifier_sum(f)
    found = np.zeros_like(PLACES) + parts.constant
    for one in parts.rectifiers:
        upper = np.inf if one.upper is None else one.upper
        found = found + one.factor * np.clip(one.scale * PLACES + one.shift, 0, upper)
    assert_same(np.broadcast_to(found, values(f).shape), values(f))


@given(functions())
def test_a_function_with_a_zero_has_no_constant(f: PiecewiseLinear) -> None:
    places = np.concatenate([PLACES, np.arange(-6, 6.5, 0.5)[:, None]])
    found = values(f, places)
    crosses = (found.min(axis=0) <= 0) & (found.max(axis=0) >= 0)
    constant = np.broadcast_to(rectifier_sum(f).constant, (CHANNELS,))
    assert not constant[crosses].any()


@given(functions(3), functions(3))
def test_a_flat_piece_needs_no_rectifier(f: PiecewiseLinear, g: PiecewiseLinear) -> None:
    assume(f.slopes.shape[1] == 1)
    steep = int((f.slopes != 0).sum())
    assert len(rectifier_sum(f).rectifiers) <= steep + 1


PARAMETERS = st.floats(-3, 3, width=32)

ACTIVATIONS: dict[str, Callable[[float, float, torch.Tensor, torch.Tensor], Form]] = {
    "leaky_relu": lambda a, b, p, q: lambda m, x: F.leaky_relu(m.conv(x), a),
    "prelu": lambda a, b, p, q: lambda m, x: F.prelu(m.conv(x), p.to(x.dtype)),
    "hardtanh": lambda a, b, p, q: (
        lambda m, x: F.hardtanh(m.conv(x), min(a, b), max(a, b) + (a == b))
    ),
    "clamp": lambda a, b, p, q: lambda m, x: m.conv(x).clamp(a, b),
    "clamp per channel": lambda a, b, p, q: (
        lambda m, x: m.conv(x).clamp(p.reshape(3, 1, 1).to(x.dtype), q.reshape(3, 1, 1).to(x.dtype))
    ),
    "softshrink": lambda a, b, p, q: lambda m, x: F.softshrink(m.conv(x), abs(a)),
    "threshold": lambda a, b, p, q: lambda m, x: F.threshold(m.conv(x), a, a),
    "hardsigmoid": lambda a, b, p, q: lambda m, x: F.hardsigmoid(a * m.conv(x) + b),
    "distance": lambda a, b, p, q: lambda m, x: (m.conv(x) - a).abs() + (m.conv(x) - b).abs(),
    "where": lambda a, b, p, q: lambda m, x: torch.where(x > a, x - a, b * (x - a)),
    "bends": lambda a, b, p, q: lambda m, x: F.relu(a * F.leaky_relu(x, b) - b).abs() - a,
    "of the largest": lambda a, b, p, q: (
        lambda m, x: torch.maximum(torch.maximum(a * x, b * x), torch.tensor(a))
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@settings(max_examples=12, deadline=None)
@given(PARAMETERS, PARAMETERS, st.lists(PARAMETERS, min_size=6, max_size=6))
def test_activations_of_any_parameters(name: str, a: float, b: float, more: list[float]) -> None:
    p, q = torch.tensor(more[:3]), torch.tensor(more[3:])
    torch.manual_seed(0)
    model: nn.Module = Body(ACTIVATIONS[name](a, b, p, q)).eval()
    x = 3 * images(4, 3, 5, 5)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double()).numpy()
    found = run_ann(trace(model, x), x.numpy())
    unit = max(float(np.ptp(expected)), float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-6 * unit
