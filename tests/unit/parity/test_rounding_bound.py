"""The bound on float32's error holds, and a divergence beyond it is no rounding tie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv
from icsnn_deploy.parity.divergence import Divergence
from icsnn_deploy.parity.judge import Evidence, Tolerance, judge
from icsnn_deploy.parity.rounding_bound import rounding_bounds
from tests.support.graphs import residual_network


def float32_potential(weight: Array, bias: Array, theta: float, x: Array, steps: int) -> float:
    """Largest |float32 - float64| of u, before any spike differs, of one population."""
    worst, potentials = 0.0, [np.zeros(len(weight), kind) for kind in (np.float32, np.float64)]
    for _ in range(steps):
        us = []
        for v in potentials:
            kind = v.dtype
            current = np.zeros(len(weight), kind)
            for column in range(weight.shape[1]):  # one order of summation, rounded at each term
                current = current + weight[:, column].astype(kind) * x[column].astype(kind)
            us.append(v + (current + bias.astype(kind)))
        spikes = [u >= theta for u in us]
        same = spikes[0] == spikes[1]
        worst = max(worst, float(np.abs(us[0] - us[1])[same].max(initial=0)))
        potentials = [u - u.dtype.type(theta) * spikes[1] for u in us]
    return worst


@pytest.mark.parametrize("seed", range(5))
def test_float32_stays_within_the_bound(seed: int) -> None:
    network = residual_network(seed=seed, time_steps=8)
    rng = np.random.default_rng(seed)
    conv = next(node for node in network.nodes if isinstance(node, Conv))
    population = next(node for node in network.nodes if isinstance(node, IF))
    weight = rng.normal(size=conv.weight.shape).astype(np.float32)
    changed = [replace(node, weight=weight) if node is conv else node for node in network.nodes]
    x = rng.normal(size=weight[0].size).astype(np.float32)
    bound = rounding_bounds(replace(network, nodes=tuple(changed)), float(np.abs(x).max()))
    theta = float(population.v_threshold.max())
    found = float32_potential(weight.reshape(len(weight), -1), conv.bias, theta, x, 8)
    assert 0 < found < bound[population.name] < 1e-2


def test_a_divergence_beyond_the_bound_of_its_layer_fails() -> None:
    network = residual_network(time_steps=2)
    name = next(node.name for node in network.nodes if isinstance(node, IF))
    tolerance = Tolerance(margin=1.0).on(network, 1.0)
    assert tolerance.rounding is not None
    bound = tolerance.rounding[name]
    for margin, verdict in ((0.9 * bound, "pass"), (1.1 * bound, "fail")):
        judged = judge(evidence(name, margin), tolerance)
        assert judged.verdict == verdict
    assert "the most that float32 can round there" in judged.reason


def evidence(layer: str, margin: float) -> Evidence:
    divergence = Divergence(
        image=0,
        layer=layer,
        step=1,
        neuron=(0,),
        neurons=1,
        v_threshold=1.0,
        u_reference=1.0 + margin,
        u_other=1.0,
        margin=margin,
    )
    return Evidence(
        backend="x",
        images=1,
        spikes_compared=10,
        spike_mismatches=1,
        images_affected=1,
        first_divergence=divergence,
        worst_relative_margin=margin,
        logit_mismatches=0,
        max_abs_logit_difference=0.0,
        top1_agreement=1.0,
        spike_counts={},
        divergences=(divergence,),
    )
