"""Files of graphs, written piece by piece, so that any piece can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from icsnn_deploy.errors import BundleError
from icsnn_deploy.graph.file import FORMAT, read_graph
from icsnn_deploy.graph.graph import Graph, describe_node
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output


def small() -> Graph:
    """A graph whose file is 2 kB."""
    one = np.ones((1,), np.float32)
    nodes = (
        Input(name="input", shape=(2,)),
        Linear(name="fc", inputs=("input",), weight=np.eye(2, dtype=np.float32), bias=one * [0, 1]),
        IF(name="if", inputs=("fc",), v_threshold=one, v_init=one / 2),
        Output(name="output", inputs=("if",)),
    )
    return Graph(nodes=nodes, time_steps=3, readout_start=1, provenance={"from": "a test"})


def header_of(graph: Graph) -> dict[str, Any]:
    """The JSON header of a graph file, as in graph_bytes."""
    return {
        "format": FORMAT,
        "version": 1,
        "time_steps": graph.time_steps,
        "readout_start": graph.readout_start,
        "provenance": dict(graph.provenance),
        "nodes": [json.loads(json.dumps(describe_node(node))) for node in graph.nodes],
    }


def tensors_of(graph: Graph) -> dict[str, Array]:
    return {
        f"{node.name}/{name}": value
        for node in graph.nodes
        for name, value in node.arrays().items()
    }


def written(path: Path, header: Any, tensors: dict[str, Array]) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save(tensors, metadata={FORMAT: text}))
    return path


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_graph(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 1000
    return message


def node_of(header: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (node for node in header["nodes"] if node["name"] == name)
    result: dict[str, Any] = found
    return result
