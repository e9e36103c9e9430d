"""A fully connected layer takes a max pooling from a population of its own, and no other sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.max_pool_cost import max_pool_costs
from icsnn_deploy.conversion.frontend.max_pool_neurons import relay_max_pools
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Flatten, Linear, Relu
from icsnn_deploy.passes.compose import compose
from tests.support.traced import Body, images, names, outputs

Form = Callable[[Any, torch.Tensor], Any]


class Heads(Body):
    """Layers for images, and two fully connected ones that take the same."""

    def __init__(self, forward: Form, size: int) -> None:
        super().__init__(forward)
        self.first, self.second = nn.Linear(size, 4), nn.Linear(size, 4)

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.first(x.flatten(1)) - self.second(x.flatten(1))
        return result


def relayed(model: nn.Module, x: torch.Tensor) -> Graph:
    """The traced network with its relays, which gives what the model gives, composed too."""
    graph = relay_max_pools(trace(model, x))
    for network in (graph, compose(graph)):
        np.testing.assert_allclose(
            run_ann(network, x.numpy()), outputs(model, x)["output"], rtol=1e-5, atol=1e-5
        )
    return graph


def model_of(form: Form, size: int = 27) -> nn.Module:
    torch.manual_seed(0)
    return Heads(form, size).eval()


def pooled(m: Heads, x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(F.relu(m.conv(x)), 2)


def relays(graph: Graph) -> list[str]:
    return [name for name in names(graph, Relu) if ".relay" in name]


def test_layers_that_take_one_pooling_share_its_relay() -> None:
    graph = relayed(model_of(lambda m, x: m.heads(pooled(m, x))), images(2, 3, 6, 6))
    assert relays(graph) == ["max_pool2d.relay"]
    assert {node.inputs[0] for node in graph.nodes_of(Flatten)} == {"max_pool2d.relay"}
    (cost,) = max_pool_costs(graph)
    assert (cost.populations, cost.neurons) == (3, 4 * 27)


def test_a_relay_is_counted_whatever_it_is_called() -> None:
    model = model_of(lambda m, x: m.heads(pooled(m, m.max_pool2d.relay(x))))
    model.max_pool2d = nn.Module()
    model.max_pool2d.relay = nn.ReLU()
    graph = relayed(model.eval(), images(2, 3, 6, 6))
    assert relays(graph) == ["max_pool2d.relay", "max_pool2d.relay_1"]
    assert [(cost.populations, cost.neurons) for cost in max_pool_costs(graph)] == [(3, 4 * 27)]


def test_a_sum_that_holds_a_pooling_is_relayed_once() -> None:
    model = model_of(lambda m, x: m.heads(pooled(m, x) + F.relu(x[:, :, ::2, ::2])))
    graph = relayed(model, images(2, 3, 6, 6))
    assert relays(graph) == ["add.relay"]
    assert max_pool_costs(graph)[0].populations == 3


def test_a_pooling_that_may_be_negative_has_no_relay() -> None:
    model = model_of(lambda m, x: m.heads(F.max_pool2d(m.conv(x), 2)))
    assert relays(relayed(model, images(2, 3, 6, 6))) == []


def test_a_sum_of_populations_has_no_relay_and_each_gets_a_connection() -> None:
    def forward(m: Heads, x: torch.Tensor) -> torch.Tensor:
        return m.heads(F.relu(m.conv(x)) + F.relu(m.conv2(x)))

    graph = relayed(model_of(forward, 108), images(2, 3, 6, 6))
    assert relays(graph) == []
    composed = compose(graph)
    for linear in composed.nodes_of(Linear):
        flatten = composed.node(linear.inputs[0])
        assert isinstance(composed.node(flatten.inputs[0]), Relu)


def test_vectors_need_no_relay() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = F.relu(self.a(x))
            out: torch.Tensor = self.c(a + F.relu(self.b(a)))
            return out

    torch.manual_seed(0)
    graph = relayed(Residual().eval(), images(2, 3))
    assert relays(graph) == []
    composed = compose(graph)
    assert all(
        isinstance(composed.node(node.inputs[0]), Relu) for node in composed.nodes_of(Linear)[1:]
    )
