"""Samples as an ANN and as its network take them, for each encoding of the input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.encoder import InputEncoder, are_spikes, encoded, encoder_of, placed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import encode_rate
from icsnn_deploy.graph.nodes import Encoding, Part
from tests.support.graphs import residual_network

T = 5


def taking(encoding: Encoding) -> Graph:
    graph = residual_network(time_steps=T)
    return graph.replace(replace(graph.input, encoding=encoding))


def frames(count: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, 2, 6, 6)).astype(np.float32)


def spikes(count: int = 4, seed: int = 0) -> Any:
    """Samples of events encoding, [N, T, *shape]."""
    return (np.random.default_rng(seed).random((count, T, 2, 6, 6)) < 0.3).astype(np.uint8)


def test_direct_samples_are_taken_as_they_are() -> None:
    x = frames()
    encoder = InputEncoder()
    assert encoder.frames(x) is x
    assert encoder.inputs(x) is x


@pytest.mark.parametrize("seed", [None, 3])
def test_rate_samples_are_frames_of_the_ann_and_spikes_of_the_network(seed: int | None) -> None:
    x = frames()
    encoder = InputEncoder(encoding="rate", time_steps=T, seed=seed)
    assert encoder.frames(x) is x
    np.testing.assert_array_equal(encoder.inputs(x), encode_rate(x, T, seed=seed))


def test_pixels_are_rates_of_255_steps() -> None:
    pixels = np.array([[0, 51, 255]], np.uint8)
    encoder = InputEncoder(encoding="rate", time_steps=5)
    np.testing.assert_allclose(encoder.frames(pixels), [[0, 0.2, 1]], rtol=1e-6)
    assert encoder.inputs(pixels).sum(axis=0).tolist() == [[0, 1, 5]]


def test_the_ann_takes_the_mean_of_events_over_time() -> None:
    x = spikes()
    encoder = InputEncoder(encoding="events", time_steps=T)
    taken = encoder.inputs(x)
    assert taken.shape == (T, 4, 2, 6, 6)
    assert taken.dtype == np.uint8
    np.testing.assert_allclose(encoder.frames(x), taken.mean(axis=0), rtol=1e-6)


def test_the_drawn_spikes_of_a_sample_are_the_same_in_every_batch() -> None:
    x = frames(6)
    whole = encode_rate(x, T, seed=2)
    np.testing.assert_array_equal(whole[:, 4:], encode_rate(x[4:], T, seed=2))
    np.testing.assert_array_equal(whole[:, ::-1], encode_rate(x[::-1], T, seed=2))
    np.testing.assert_array_equal(whole, encode_rate(x.astype(np.float64), T, seed=2))


@pytest.mark.parametrize(
    ("encoding", "x", "message"),
    [
        ("rate", frames() - 0.5, r"rate encoding takes \[0, 1\].*Scale the samples"),
        ("rate", np.full((1, 2), np.nan, np.float32), "rate encoding takes"),
        ("events", spikes()[:, :3], r"3 steps: events encoding takes spikes .* T = 5"),
        ("events", 2 * spikes(), "values 0 to 2: events encoding takes spikes, 0 or 1; clip"),
        ("events", frames()[:, :1], "1 steps"),
    ],
)
def test_other_values_are_refused_with_a_remedy(encoding: Encoding, x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        InputEncoder(encoding=encoding, time_steps=T).check(x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoding": "morse"}, "encoding 'morse': direct, rate or events"),
        ({"encoding": "events", "seed": 1}, "only rate encoding draws spikes"),
        ({"encoding": "rate", "seed": -1}, "seed -1"),
    ],
)
def test_an_encoder_that_makes_no_sense_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        InputEncoder(**fields)


def test_spikes_are_told_from_samples_by_their_axes() -> None:
    assert are_spikes(taking("rate"), (T, 4, 2, 6, 6))
    assert not are_spikes(taking("rate"), (4, 2, 6, 6))
    assert not are_spikes(taking("direct"), (4, 2, 6, 6))


def test_only_samples_of_rate_encoding_are_encoded() -> None:
    graph, x = taking("rate"), frames()
    np.testing.assert_array_equal(encoded(graph, x, 7), encode_rate(x, T, seed=7))
    given = encode_rate(x, T)
    assert encoded(graph, given) is given
    assert encoded(taking("direct"), x) is x
    with pytest.raises(DataError, match="samples of values"):
        encoded(graph, x - 1)


def test_the_encoder_of_a_network_has_its_steps() -> None:
    assert encoder_of(taking("rate"), 3) == InputEncoder(encoding="rate", time_steps=T, seed=3)
    assert encoder_of(taking("events"), 3) == InputEncoder(encoding="events", time_steps=T)
    assert encoder_of(taking("direct")) == InputEncoder()


def test_events_are_placed_where_the_network_reads_them() -> None:
    graph = taking("direct")
    index = np.arange(72)[::-1].reshape(2, 6, 6).copy()
    parts = (Part("x", (2, 6, 6)),)
    moved = graph.replace(replace(graph.input, index=index, parts=parts))
    x = spikes()
    expected = x.reshape(4, T, 72)[..., ::-1].reshape(x.shape)
    np.testing.assert_array_equal(placed(moved, x), expected)
    assert placed(graph, x) is x
