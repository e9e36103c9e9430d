"""The current of a population times a factor: by its connections, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import GraphError
from icsnn_deploy.passes.scale_current import scale_current
from tests.support.graphs import residual_network, samples


@pytest.mark.parametrize("name", ["stem.if", "block.if1", "block.if2"])
def test_the_first_current_is_scaled(name: str) -> None:
    """u[1] = v_init + I[1], and nothing before the population has changed."""
    network = residual_network(time_steps=1)
    factor = np.array([0.5, 2.0, 4.0, 1.0])
    scaled = scale_current(network, name, factor)
    assert {node.name for node in scaled.nodes} == {node.name for node in network.nodes}
    record, x = Record(potentials=frozenset([name])), samples(network, 2)
    before, after = (ReferenceSimulator(g).run(x, record) for g in (network, scaled))
    v_init = network.node(name).arrays()["v_init"]
    current = before.potentials[name] - v_init
    np.testing.assert_array_equal(
        after.potentials[name] - v_init, current * factor.reshape(4, 1, 1)
    )


def test_ones_change_no_value() -> None:
    network = residual_network()
    scaled = scale_current(network, "block.if2", np.ones(4))
    for node in network.nodes:
        for field, before in node.arrays().items():
            after = scaled.node(node.name).arrays()[field]
            np.testing.assert_array_equal(after, np.broadcast_to(before, after.shape))


def test_a_factor_of_another_shape_is_refused() -> None:
    with pytest.raises(GraphError, match=r"factor of stem\.if: 3 values, 4 needed"):
        scale_current(residual_network(), "stem.if", np.ones(3))
