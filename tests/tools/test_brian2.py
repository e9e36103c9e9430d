"""Networks in Brian2 against the reference, with soft and with hard reset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.tools.environment import TOOLS
from icsnn_deploy.tools.simulator import ToolSimulator
from tests.tools.conftest import inputs_of, random_networks

pytestmark = pytest.mark.brian2


@pytest.mark.parametrize("name", ["demo", "cifar"])
def test_every_spike_and_logit_of_a_network_is_equal(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    (found,) = verify(bundle, "brian2", bundle.samples()[:4], progress=None).comparisons
    print(f"{name}: {found.spike_mismatches} of {found.spikes_compared:,} spikes differ")
    assert found.verdict == "pass", found.reason
    assert found.spikes_compared > 10_000
    assert sum(fired for fired, _ in found.spike_counts.values()) > 1000


@pytest.mark.parametrize("number", range(2))
def test_joins_and_spike_inputs_are_equal(number: int) -> None:
    assert_equal(random_networks()[number])


def test_hard_reset_is_equal() -> None:
    graph = random_networks()[1]
    hard = (replace(node, v_reset=np.full_like(node.v_init, 1.5)) for node in graph.nodes_of(IF))
    assert_equal(graph.replace(*hard))


def assert_equal(graph: Graph) -> None:
    x = inputs_of(graph, 3)
    wanted = ReferenceSimulator(graph).run(x)
    got = ToolSimulator(graph, TOOLS["brian2"]).run(x)
    assert any(spikes.any() for spikes in got.spikes.values())
    for name, spikes in got.spikes.items():
        np.testing.assert_array_equal(spikes, wanted.spikes[name])
    np.testing.assert_array_equal(got.logits, wanted.logits)
