"""What a graph accepts, every reader of its files accepts; what it refuses is never written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.onnx.contract import Layout, OnnxOptions
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.limits import MAX_AXES, MAX_TIME_STEPS, MAX_VALUES
from icsnn_deploy.graph.nodes import IF, AvgPool, Conv, Flatten, Input, Linear, Output
from tests.support.graphs import residual_network

UNPADDED = ((0, 0), (0, 0))


def wide_network(channels: int, side: int, time_steps: int) -> Graph:
    """A population of channels * side^2 neurons, of few parameters."""
    one = np.ones((1, 1, 1), np.float32)
    return Graph(
        nodes=(
            Input(name="input", shape=(1, side, side)),
            Conv(
                name="conv",
                inputs=("input",),
                weight=np.ones((channels, 1, 1, 1), np.float32),
                bias=np.zeros(channels, np.float32),
                stride=(1, 1),
                padding=UNPADDED,
                dilation=(1, 1),
            ),
            IF(name="if", inputs=("conv",), v_threshold=one, v_init=one / 2),
            AvgPool(
                name="pool",
                inputs=("if",),
                kernel=(side, side),
                stride=(1, 1),
                padding=UNPADDED,
            ),
            Flatten(name="flatten", inputs=("pool",)),
            Linear(
                name="head",
                inputs=("flatten",),
                weight=np.ones((2, channels), np.float32),
                bias=np.zeros(2, np.float32),
            ),
            Output(name="output", inputs=("head",)),
        ),
        time_steps=time_steps,
    )


def deep_shape(axes: int) -> Graph:
    shape = (2,) + (1,) * (axes - 1)
    one = np.ones((1,) * axes, np.float32)
    return Graph(
        nodes=(
            Input(name="input", shape=shape),
            IF(name="if", inputs=("input",), v_threshold=one, v_init=one / 2),
            Flatten(name="flatten", inputs=("if",)),
            Output(name="output", inputs=("flatten",)),
        ),
        time_steps=2,
    )


@pytest.mark.parametrize("time_steps", [70_000, MAX_TIME_STEPS + 1])
def test_more_time_steps_than_files_hold_are_refused_at_construction(time_steps: int) -> None:
    with pytest.raises(GraphError) as error:
        replace(residual_network(), time_steps=time_steps)
    assert str(error.value) == (
        f"time_steps {time_steps}: at most 65,536 are allowed; convert with fewer"
    )


def test_a_result_that_is_too_large_is_refused_at_construction() -> None:
    side = 2**13
    with pytest.raises(GraphError, match=r"conv: .*\(4, 8192, 8192\) is too large, at most 134,2"):
        wide_network(4, side, 1)
    assert 2 * side**2 == MAX_VALUES
    assert wide_network(2, side, 1).shape("if") == (2, side, side)


def test_more_axes_than_files_hold_are_refused_at_construction() -> None:
    with pytest.raises(GraphError, match="input: a result of 9 axes, at most 8 are allowed"):
        deep_shape(MAX_AXES + 1)


LARGEST = {
    "time steps": lambda: wide_network(2, 4, MAX_TIME_STEPS),
    "values": lambda: wide_network(2, 2**13, 1),
    "values and steps": lambda: wide_network(2, 2**13, MAX_TIME_STEPS),
    "axes": lambda: deep_shape(MAX_AXES),
}


@pytest.mark.parametrize("make", LARGEST.values(), ids=LARGEST.keys())
def test_a_graph_at_the_limit_is_read_back(make: Callable[[], Graph], tmp_path: Path) -> None:
    network = make()
    bundle = tmp_path / "bundle"
    create_bundle(bundle, network=network, ann=None, samples=None, report={})
    assert open_bundle(bundle).network().hash() == network.hash()
    layouts: tuple[Layout, ...] = ("scan", "step")
    if network.steps < 100:  # these write nodes for each step
        layouts += ("folded", "unrolled")
    for layout in layouts:
        path = tmp_path / f"{layout}.onnx"
        write(network, path, OnnxOptions(layout=layout, raw_spikes=True))
        assert read(path).metadata.time_steps == network.steps


@pytest.mark.parametrize("name", ["time steps", "axes"])
def test_a_nir_file_at_the_limit_is_read_back(name: str, tmp_path: Path) -> None:
    """NIR stores a value per neuron: a network of MAX_VALUES would be gigabytes."""
    network = LARGEST[name]()
    export(network, tmp_path / "network.nir", "nir")
    assert read_graph(tmp_path / "network.nir").hash() == network.hash()


def test_steps_are_not_counted_among_a_tensors_values(tmp_path: Path) -> None:
    """The stacked spikes of all steps hold 2^28 values here, those of one step 2^22."""
    network = wide_network(1024, 64, 64)
    for layout in ("folded", "scan"):
        path = tmp_path / f"{layout}.onnx"
        write(network, path, OnnxOptions(layout=layout))
        assert read(path).metadata.time_steps == 64
