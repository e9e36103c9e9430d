"""First-spike times and fits of layers, against hand-made spike trains."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.errors import DataError
from icsnn_deploy.report.layers import OutputFit, first_spikes


def recording(**spikes: list[list[list[int]]]) -> Recording:
    arrays = {name: np.array(train, np.uint8) for name, train in spikes.items()}  # [T, B, neurons]
    return Recording(backend="by hand", logits=np.zeros((1, 2)), spikes=arrays)


def test_the_mean_leaves_silent_neurons_out_and_counts_them() -> None:
    """Three steps, one sample: neurons that fire at 1, at 3, and never; a layer that is silent."""
    found = first_spikes(
        recording(a=[[[1, 0, 0]], [[1, 0, 0]], [[0, 1, 0]]], b=[[[0, 0]], [[0, 0]], [[0, 0]]])
    )
    assert [(f.layer, f.mean) for f in found] == [("a", 2.0), ("b", None)]
    assert [f.silent for f in found] == pytest.approx([1 / 3, 1.0])


def test_nothing_recorded_is_an_error() -> None:
    with pytest.raises(DataError, match="by hand: nothing recorded"):
        first_spikes(recording())


def test_fit_of_equal_outputs_is_one_and_of_the_mean_is_zero() -> None:
    a = np.array([0.0, 1.0, 2.0, 5.0], np.float32)
    exact, mean = OutputFit(), OutputFit()
    exact.add(a, a)
    mean.add(a, np.full(4, 2.0, np.float32))
    assert exact.r_squared == 1.0
    assert mean.r_squared == pytest.approx(0.0)


def test_fit_does_not_depend_on_batches() -> None:
    rng = np.random.default_rng(3)
    a = rng.random((10, 4)) * 3
    x = a + rng.normal(0, 0.3, a.shape)
    whole, parts = OutputFit(), OutputFit()
    whole.add(a, x)
    for half in (slice(0, 3), slice(3, 10)):
        parts.add(a[half], x[half])
    expected = 1 - ((a - x) ** 2).sum() / ((a - a.mean()) ** 2).sum()
    assert whole.r_squared == pytest.approx(expected)
    assert parts.r_squared == pytest.approx(expected)


def test_fit_of_a_constant_activation_is_undefined() -> None:
    fit = OutputFit()
    fit.add(np.full(5, 0.7), np.zeros(5))
    assert fit.r_squared is None


def test_fit_of_other_shapes_is_an_error() -> None:
    with pytest.raises(DataError, match=r"shape \(2,\) for activations of shape \(3,\)"):
        OutputFit().add(np.zeros(3), np.zeros(2))
