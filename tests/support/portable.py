"""Networks for portable NIR files, and what is asked of the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nir
import numpy as np

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
)


def population(name: str, source: str, threshold: Any, v_init: Any) -> IF:
    arrays = {"v_threshold": np.asarray(threshold), "v_init": np.asarray(v_init, np.float32)}
    return IF(name=name, inputs=(source,), **arrays)


def network(*nodes: Node, shape: tuple[int, ...] = (2, 4, 4), **given: Any) -> Graph:
    """Input "x", the nodes in their order, a flatten and a readout of what the last gives."""
    start = Input(name="x", shape=shape, **given)
    inner = Graph(nodes=(start, *nodes, Output(name="y", inputs=(nodes[-1].name,))), time_steps=3)
    features = int(np.prod(inner.shape("y")))
    end = (
        Flatten(name="flatten", inputs=(nodes[-1].name,)),
        Linear(
            name="head",
            inputs=("flatten",),
            weight=np.random.default_rng(11).integers(-2, 3, (3, features)).astype(np.int8),
            bias=np.zeros(3, np.int8),
        ),
        Output(name="y", inputs=("head",)),
    )
    return Graph(nodes=(start, *nodes, *end), time_steps=3)


def header(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(nir.read(path).metadata[KEY])
    return said


def same(graph: Graph, path: Path, x: Array) -> None:
    expected, found = ReferenceSimulator(graph).run(x), NirSimulator(path).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-6, atol=1e-6)
