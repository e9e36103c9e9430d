"""Samples in every form that Python code has them in reach a network as the same array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.sources.held import held
from icsnn_deploy.sources.network_samples import network_samples
from tests.support.graphs import residual_network

NETWORK: Graph = residual_network()
SHAPE = NETWORK.input.shape
X = np.random.default_rng(0).random((10, *SHAPE), dtype=np.float32)
Y = np.arange(10) % 3


def data_set() -> Any:
    return TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))


FORMS: dict[str, Callable[[], Any]] = {
    "array": lambda: X,
    "doubles": lambda: X.astype(np.float64),
    "tensor": lambda: torch.from_numpy(X),
    "tensor with gradient": lambda: torch.from_numpy(X).requires_grad_(),
    "pair": lambda: (torch.from_numpy(X), torch.from_numpy(Y)),
    "data set": data_set,
    "loader": lambda: DataLoader(data_set(), batch_size=4),
    "batches": lambda: [X[:4], X[4:]],
    "generator": lambda: (x for x in (X[:4], X[4:])),
    "mapping": lambda: {NETWORK.input.name: torch.from_numpy(X)},
    "channels last": lambda: np.moveaxis(X, 1, 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(form: str) -> None:
    found = network_samples(NETWORK, FORMS[form](), "samples", normalization=None)
    assert found.samples.dtype == np.float32
    np.testing.assert_array_equal(found.samples, X)
    assert found.labels is None


@pytest.mark.parametrize("form", ["pair", "data set", "loader"])
def test_labels_beside_the_samples_are_kept_on_request(form: str) -> None:
    found = network_samples(
        NETWORK, FORMS[form](), "samples", normalization=None, keep_labels=True, limit=10
    )
    np.testing.assert_array_equal(found.labels, Y)


@pytest.mark.parametrize("form", FORMS)
def test_a_limit_counts_samples(form: str) -> None:
    last = True if form == "channels last" else None
    found = network_samples(
        NETWORK, FORMS[form](), "samples", normalization=None, channels_last=last, limit=3
    )
    assert len(found.samples) == 3


def test_a_limit_counts_samples_of_rate_coded_spikes() -> None:
    network = NETWORK.replace(replace(NETWORK.input, encoding="rate"))
    spikes = np.zeros((NETWORK.steps, 10, *SHAPE), np.uint8)
    found = network_samples(network, spikes, "samples", normalization=None, limit=3)
    assert found.samples.shape == (NETWORK.steps, 3, *SHAPE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_1_is_refused(form: str, limit: int) -> None:
    with pytest.raises(DataError, match=f"a limit of {limit} samples: at least 1 is needed"):
        network_samples(NETWORK, FORMS[form](), "samples", normalization=None, limit=limit)


@pytest.mark.parametrize("form", ["array", "pair", "data set", "loader", "generator"])
def test_held_samples_refuse_a_limit_below_1(form: str) -> None:
    with pytest.raises(DataError, match="a limit of -1 samples: at least 1 is needed"):
        held(FORMS[form](), "samples", limit=-1)


def test_the_axis_of_channels_is_told_by_the_normalization() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, SHAPE[0], *SHAPE[1:]), np.uint8)
    values = (0.5,) * SHAPE[0]
    normalization = Normalization(mean=values, std=values)
    for given in (pixels, np.moveaxis(pixels, 1, 3), np.moveaxis(pixels / 255.0, 1, 3)):
        found = network_samples(NETWORK, given, "samples", normalization=normalization)
        np.testing.assert_array_equal(found.samples, pixels)


def test_axes_that_both_may_be_the_channels_are_asked_for() -> None:
    pixels = np.zeros((4, 3, 3, 3), np.uint8)
    normalization = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(DataError, match="say which with --channels-first or --channels-last"):
        network_samples(NETWORK, pixels, "samples", normalization=normalization)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("images.npy", "samples of type str: an array, a DataLoader"),
        (3, "samples of type int"),
        ({"other": X}, "samples: inputs other: this network takes"),
        ({NETWORK.input.name: "x"}, "of type str: array or tensor"),
        ([np.array([["a"]])], "a batch of samples of type <U1"),
    ],
)
def test_what_is_no_samples_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        network_samples(NETWORK, given, "samples", normalization=None)
