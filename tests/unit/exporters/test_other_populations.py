"""Formats and chips made for integrate-and-fire populations refuse every other kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.netx.layers import plan_layers
from icsnn_deploy.exporters.nir.portable.find_unportable import find_unportable
from icsnn_deploy.graph.file import graph_bytes
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, NODE_TYPES, Input, Linear, Output, Population
from icsnn_deploy.lava.assemble import Style
from icsnn_deploy.lava.plan import make_plan
from icsnn_deploy.lava.range import check_range
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.paths import sinks


@dataclass(frozen=True, kw_only=True, eq=False)
class Leaky(Population):
    """A neuron model that exists in this test alone."""

    kind: ClassVar[str] = "leaky"


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """An integer network with one IF and one leaky population."""
    monkeypatch.setitem(NODE_TYPES, "leaky", cast(Any, Leaky))
    weight, bias = np.eye(2, dtype=np.int8), np.zeros(2, np.int32)
    values: dict[str, Any] = {"v_threshold": np.array([2], np.int32), "v_init": np.array([0.5])}
    start = Input(name="input", shape=(2,), dtype="int8")
    first = Linear(name="fc1", inputs=("input",), weight=weight, bias=bias)
    nodes = (
        start,
        first,
        IF(name="if", inputs=("fc1",), **values),
        replace(first, name="fc2", inputs=("if",)),
        cast(Any, Leaky(name="leaky", inputs=("fc2",), **values)),
        replace(first, name="fc3", inputs=("leaky",)),
        Output(name="output", inputs=("fc3",)),
    )
    return Graph(nodes=nodes, time_steps=4)


def test_netx_refuses_it(network: Graph) -> None:
    with pytest.raises(ExportError, match="leaky") as caught:
        plan_layers(network)
    assert "a population of kind 'leaky'" in str(caught.value)
    assert "'if'" in str(caught.value)


def test_the_portable_profile_refuses_it(network: Graph) -> None:
    (found,) = find_unportable(network)
    assert (found.node, found.got) == ("leaky", "a population of kind 'leaky'")


def test_lava_refuses_it(network: Graph) -> None:
    style = Style(tag="fixed_pt", neurons="soft-reset", connections="batched")
    with pytest.raises(GraphError, match="a population of kind 'leaky'"):
        check_range(make_plan(network), style)


def test_a_chip_has_no_such_neuron(network: Graph) -> None:
    floating = network.replace(replace(network.input, dtype="float32"))
    (found,) = check(floating, find_target("generic")).misfits
    assert (found.node, found.what, found.got, found.allowed) == (
        "leaky",
        "neuron model",
        "leaky",
        "if",
    )


def test_what_needs_no_equation_takes_it(network: Graph) -> None:
    assert [node.name for node in network.nodes_of(Population)] == ["if", "leaky"]
    assert network.constant_nodes() == {"input", "fc1"}
    assert network.readout_nodes() == {"fc3", "output"}
    assert [node.name for node in sinks(network)] == ["if", "leaky", "output"]
    assert graph_bytes(network) == graph_bytes(network)
