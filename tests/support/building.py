"""Single nodes and short graphs that are well formed but for what a test puts in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

from icsnn_deploy.errors import GraphError, IcsnnError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    BaseNode,
    ChannelAffine,
    Conv,
    Input,
    Linear,
    Node,
    Output,
)

N = TypeVar("N", bound=Node)


def make(node_type: type[N], **fields: Any) -> N:
    """A node that is well formed but for the fields given."""
    zeros, ones = np.zeros(2), np.ones((2, 1, 1))
    geometry = {"stride": (1, 1), "padding": ((0, 0), (0, 0))}
    whole: dict[type[BaseNode], dict[str, Any]] = {
        Input: {"inputs": (), "shape": (2, 4, 4)},
        Conv: {"weight": np.ones((2, 2, 3, 3)), "bias": zeros, "dilation": (1, 1), **geometry},
        Linear: {"weight": np.ones((2, 3)), "bias": zeros},
        ChannelAffine: {"scale": ones, "shift": ones},
        AvgPool: {"kernel": (2, 2), **geometry},
        Add: {"inputs": ("a", "b")},
        IF: {"v_threshold": ones, "v_init": ones},
    }
    given_fields: dict[str, Any] = {"name": "n", "inputs": ("a",)}
    return node_type(**{**given_fields, **whole.get(node_type, {}), **fields})


def ann(*nodes: Node, shape: tuple[int, ...] = (2, 4, 4), **fields: Any) -> Graph:
    """Input "a", the nodes, an output that takes the last."""
    source = nodes[-1].name if nodes else "a"
    ends = (
        Input(name="a", shape=shape),
        Output(name="output", inputs=(source,)),
    )
    return Graph(nodes=(ends[0], *nodes, ends[1]), **fields)


def node_of(graph: Graph, name: str, node_type: type[N]) -> N:
    """The node of that name, of the type that the test expects."""
    node = graph.node(name)
    assert isinstance(node, node_type)
    return node


def refused(message: str, build: Callable[[], object]) -> None:
    """Building it raises a GraphError that begins with the message."""
    with pytest.raises(GraphError, match=f"^{re.escape(message)}") as caught:
        build()
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, IcsnnError)
