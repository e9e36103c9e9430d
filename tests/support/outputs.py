"""Networks of several outputs, and of maps, that the tests of judging share."""

from __future__ import annotations

from typing import Any

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Input, Linear, Output, Part

NO_PADDING = ((0, 0), (0, 0))


def outputs_graph(shape: tuple[int, ...], parts: tuple[Part, ...] = (), **fields: Any) -> Graph:
    """A graph that only hands its input out, as these parts one after the other."""
    index = np.arange(int(np.prod(shape))) if parts else None
    output = Output(name="y", inputs=("x",), parts=parts, index=index)
    return Graph(nodes=(Input(name="x", shape=shape), output), **fields)


def values(*shape: int, seed: int = 0) -> Array:
    """Normally distributed float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def map_network(channels: int, **fields: Any) -> Graph:
    """An IF network of images [2, 4, 5] with an output [channels, 4, 5], T = 6."""
    rng = np.random.default_rng(1)
    one = np.full((1, 1, 1), 1, np.float32)
    first = rng.integers(-8, 9, (6, 2, 1, 1)).astype(np.float32) / 8
    last = rng.integers(-8, 9, (channels, 6, 1, 1)).astype(np.float32) / 8
    nodes = (
        Input(name="x", shape=(2, 4, 5)),
        _pointwise("c1", "x", first),
        IF(name="if", inputs=("c1",), v_threshold=one, v_init=one / 2),
        _pointwise("c2", "if", last),
        Output(name="y", inputs=("c2",)),
    )
    return Graph(nodes=nodes, time_steps=6, **fields)


def _pointwise(name: str, source: str, weight: Array) -> Conv:
    return Conv(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.zeros(len(weight)),
        stride=(1, 1),
        padding=NO_PADDING,
        dilation=(1, 1),
        groups=1,
    )


def two_headed_network(**fields: Any) -> Graph:
    """An IF network [4] -> "label" [3] and "box" [2, 2], T = 6; the box comes first inside."""
    rng = np.random.default_rng(2)
    one = np.ones(1, np.float32)
    weights = [rng.integers(-8, 9, shape).astype(np.float32) / 8 for shape in ((8, 4), (7, 8))]
    parts = (Part("label", (3,)), Part("box", (2, 2)))
    nodes = (
        Input(name="x", shape=(4,)),
        Linear(name="l1", inputs=("x",), weight=weights[0], bias=np.zeros(8)),
        IF(name="if", inputs=("l1",), v_threshold=one, v_init=one / 2),
        Linear(name="l2", inputs=("if",), weight=weights[1], bias=np.zeros(7)),
        Output(name="y", inputs=("l2",), parts=parts, index=np.array([4, 5, 6, 0, 1, 2, 3])),
    )
    return Graph(nodes=nodes, time_steps=6, **fields)


def number_network() -> Graph:
    """An IF network [4] -> one value, which its shape takes for a logit, T = 6."""
    rng = np.random.default_rng(4)
    one = np.ones(1, np.float32)
    weights = [rng.integers(-8, 9, shape).astype(np.float32) / 8 for shape in ((8, 4), (1, 8))]
    nodes = (
        Input(name="x", shape=(4,)),
        Linear(name="l1", inputs=("x",), weight=weights[0], bias=np.zeros(8)),
        IF(name="if", inputs=("l1",), v_threshold=one, v_init=one / 2),
        Linear(name="l2", inputs=("if",), weight=weights[1], bias=np.zeros(1)),
        Output(name="y", inputs=("l2",)),
    )
    return Graph(nodes=nodes, time_steps=6)


def unit_samples(graph: Graph, count: int, seed: int = 3) -> Array:
    """Inputs in eighths, 0 to 1, so that sums are exact in any order."""
    shape = (count, *graph.input.shape)
    return np.random.default_rng(seed).integers(0, 9, shape).astype(np.float32) / 8
