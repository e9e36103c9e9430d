"""The network that tests an environment once it is installed."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Encoding, Input, Linear, Output


def three_neurons(encoding: Encoding) -> Graph:
    """Three neurons: one above two thresholds, one that fires late, one with a negative current.

    Args:
        encoding: of the input, int8 [1].
    """
    nodes = (
        Input(name="input", shape=(1,), dtype="int8", encoding=encoding),
        Linear(
            name="weight",
            inputs=("input",),
            weight=np.array([[7], [2], [-3]], np.int8),
            bias=np.zeros(3, np.int32),
        ),
        IF(
            name="population",
            inputs=("weight",),
            v_threshold=np.full(3, 4, np.int32),
            v_init=np.array([1.5, -0.5, 2.5], np.float32),
        ),
        Output(name="output", inputs=("population",)),
    )
    return Graph(nodes=nodes, time_steps=6)
