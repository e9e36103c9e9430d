"""Spikes and operations of a network small enough to count."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.activity import estimate_energy, measure_activity
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv, Flatten, Input, Linear, Output
from icsnn_deploy.passes.edit import insert_after
from icsnn_deploy.report.resources import activity_table, energy_table
from tests.support.graphs import residual_network, samples

INPUT = Input(name="input", shape=(1, 2, 2), dtype="uint8")


def tiny(source: Input = INPUT) -> Graph:
    """2x2 pixels, a 2x2 kernel padded by 1 with one zero, 3x3 neurons, 9 -> 2 with one zero."""
    head = np.ones((2, 9), np.int8)
    head[1, 0] = 0
    return Graph(
        nodes=(
            source,
            Conv(
                name="conv",
                inputs=("input",),
                weight=np.array([[[[1, 2], [0, 3]]]], np.int8),
                bias=np.zeros(1, np.int8),
                stride=(1, 1),
                padding=((1, 1), (1, 1)),
                dilation=(1, 1),
            ),
            IF(
                name="if",
                inputs=("conv",),
                v_threshold=np.full((1, 1, 1), 4, np.int32),
                v_init=np.full((1, 1, 1), 0.5, np.float32),
            ),
            Flatten(name="flatten", inputs=("if",)),
            Linear(name="head", inputs=("flatten",), weight=head, bias=np.zeros(2, np.int8)),
            Output(name="output", inputs=("head",)),
        ),
        time_steps=3,
    )


def counts() -> np.ndarray:
    """Two samples: 3 spikes at neuron 0, then 2 at neuron 0 and 1 at neuron 8."""
    spikes = np.zeros((2, 1, 3, 3), np.int32)
    spikes[0, 0, 0, 0] = 3
    spikes[1, 0, 0, 0] = 2
    spikes[1, 0, 2, 2] = 1
    return spikes


def test_operations_by_hand() -> None:
    inputs = np.array([[[[5, 0], [0, 0]]], [[[1, 2], [3, 4]]]], np.uint8)
    activity = measure_activity(tiny(), {"if": counts()}, inputs)
    layer = activity.layers[0]
    assert layer.spikes == 3.0
    assert layer.firing_rate == pytest.approx(6 / (9 * 3 * 2))
    assert activity.activation_sparsity == pytest.approx(1 - 6 / 54)
    # Neuron 0 reaches one output, the others two: (3 * 1 + 2 * 1 + 1 * 2) / 2 samples.
    assert layer.acs == activity.acs == 3.5
    # Each pixel meets all four taps of the padded map, one of them zero.
    assert activity.macs_once == 4 * 3
    assert activity.macs_every_step == 3 * 12
    assert activity.effective_macs_once == (1 * 3 + 4 * 3) / 2  # one pixel, then four
    assert activity.dense_operations == 3 * (4 * 4 + 18)
    assert activity.energy.low_nanojoule == pytest.approx((3.5 * 0.9 + 12 * 4.6) / 1000)
    assert activity.energy.high_nanojoule == pytest.approx((3.5 * 0.9 + 36 * 4.6) / 1000)
    assert "Horowitz" in activity.energy.source


def test_taps_on_the_padding_are_not_counted() -> None:
    """Without padding the 2x2 map has one position: 3 real synapses, one a pixel but the zero."""
    graph = tiny()
    bare = graph.replace(
        replace(graph.nodes_of(Conv)[0], padding=((0, 0), (0, 0))),
        replace(graph.nodes_of(Linear)[0], weight=np.ones((2, 1), np.int8)),
    )
    activity = measure_activity(bare, {"if": np.ones((1, 1, 1, 1), np.int32)})
    assert activity.macs_once == 3
    assert activity.effective_macs_once is None


def test_spike_input_costs_accumulates_and_no_macs() -> None:
    graph = tiny(replace(INPUT, encoding="events"))
    spikes = np.zeros((3, 2, 1, 2, 2), np.uint8)
    spikes[:, 0, 0, 1, 1] = 1  # three spikes of one pixel, three real synapses each
    activity = measure_activity(graph, {"if": counts()}, spikes)
    assert activity.acs == 3.5 + 3 * 3 / 2
    assert activity.macs_once == activity.macs_every_step == 0
    with pytest.raises(DataError, match="need the input spikes"):
        measure_activity(graph, {"if": counts()})


def test_zeros_are_counted_behind_the_zero_point() -> None:
    point = ChannelAffine(
        name="zero",
        inputs=("input",),
        scale=np.ones((1, 1, 1), np.int8),
        shift=np.full((1, 1, 1), -7, np.int16),
    )
    graph = insert_after(tiny(), "input", point)
    inputs = np.full((2, 1, 2, 2), 7, np.uint8)
    inputs[:, 0, 0, 0] = 0
    activity = measure_activity(graph, {"if": counts()}, inputs)
    assert activity.macs_once == 12
    assert activity.effective_macs_once == 3


def test_a_recording_of_the_reference() -> None:
    graph = residual_network()
    inputs = samples(graph, 3)
    recording = ReferenceSimulator(graph).run(inputs)
    activity = measure_activity(graph, recording, inputs)
    fired = sum(int(spikes.sum()) for spikes in recording.spikes.values())
    assert activity.spikes == pytest.approx(fired / 3)
    console = Console(width=100, record=True, file=StringIO())
    console.print(activity_table(activity), energy_table(activity))
    text = console.export_text()
    assert "not a measurement" in text
    assert "0.9 pJ per AC" in text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({}, "no spikes of if"),
        ({"if": np.zeros((2, 9), np.int32)}, "counts of shape"),
        ({"if": np.full((2, 1, 3, 3), 4, np.int32)}, "0 to T = 3 is possible"),
        ({"if": np.zeros((0, 1, 3, 3), np.int32)}, "at least 1"),
    ],
)
def test_counts_that_do_not_fit(bad: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        measure_activity(tiny(), bad)


def test_inputs_of_another_number_of_samples() -> None:
    with pytest.raises(DataError, match="3 inputs for spikes of 2 samples"):
        measure_activity(tiny(), {"if": counts()}, np.zeros((3, 1, 2, 2), np.uint8))


def test_energy_without_macs_is_one_number() -> None:
    energy = estimate_energy(1000.0, 0.0, 0.0)
    assert energy.low_nanojoule == energy.high_nanojoule == pytest.approx(0.9)
