"""The accumulator of one step's current, which loihi1 has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Input, Linear, Output
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.misfit import Misfit
from icsnn_deploy.targets.override import override


def population(inputs: int, weight: int, *, threshold: int = 1000, bias: int = 0) -> Graph:
    nodes = (
        Input(name="input", shape=(inputs,), dtype="uint8", encoding="rate"),
        Linear(
            name="weight",
            inputs=("input",),
            weight=np.full((1, inputs), weight, np.int8),
            bias=np.array([bias], np.int32),
        ),
        IF(
            name="population",
            inputs=("weight",),
            v_threshold=np.array([threshold], np.int32),
            v_init=np.array([0.5], np.float32),
        ),
        Output(name="output", inputs=("population",)),
    )
    return Graph(nodes=nodes, time_steps=2)


def misfits(graph: Graph, **settings: str) -> list[Misfit]:
    found = check(graph, override(find_target("loihi1"), settings)).misfits
    return [misfit for misfit in found if misfit.what == "accumulator width"]


def test_inputs_of_weight_127_overflow_from_130_on() -> None:
    assert not misfits(population(129, 127))
    (misfit,) = misfits(population(130, 127))
    assert misfit.node == "population"
    assert misfit.bits_over == 1
    assert misfit.got.startswith("23 bits (-1,000 to 16,510 lattice units in one step")


def test_a_bias_counts_as_a_synapse() -> None:
    assert not misfits(population(129, 127))
    assert misfits(population(129, 127, bias=1))


def test_soft_reset_by_a_synapse_counts_and_by_the_neuron_does_not() -> None:
    assert not misfits(population(128, -127, threshold=128))  # -16,384 is -2^14
    assert misfits(population(128, -127, threshold=129))
    assert not misfits(population(128, -127, threshold=129), soft_reset="neuron")


def test_hard_reset_needs_no_synapse() -> None:
    graph = population(128, -127, threshold=129)
    (node,) = graph.nodes_of(IF)
    hard = graph.replace(replace(node, v_reset=np.array([0.5], np.float32)))
    assert not misfits(hard)


def test_without_an_accumulator_nothing_is_checked() -> None:
    assert not misfits(population(200, 127), accumulator_bits="none")


def test_wrong_values_are_refused() -> None:
    with pytest.raises(TargetError, match="soft_reset: 'spike', one of neuron, self-connection"):
        override(find_target("loihi1"), {"soft_reset": "spike"})
    with pytest.raises(TargetError, match="accumulator_bits: 1, 2 to 64 or None"):
        override(find_target("loihi1"), {"accumulator_bits": "1"})
