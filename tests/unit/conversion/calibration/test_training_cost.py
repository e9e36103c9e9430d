"""A budget buys steps in proportion to what one costs."""

from __future__ import annotations

import math

from icsnn_deploy.conversion.calibration.training_cost import (
    TrainingBudget,
    operations_of_pass,
    plan_training,
)
from icsnn_deploy.graph.nodes import Conv, Linear, Relu
from tests.support.graphs import residual_ann

ANN = residual_ann()
ONCE = operations_of_pass(ANN)


def budget(factor: float, iterations: int = 10_000) -> TrainingBudget:
    return TrainingBudget(operations=factor * ONCE, iterations=iterations)


def test_operations_are_weights_times_positions_and_500_a_neuron() -> None:
    sizes = {node.name: node.weight.size for node in ANN.nodes_of(Conv, Linear)}
    positions = dict.fromkeys(sizes, 5 * 5) | {"linear": 1}
    neurons = sum(math.prod(ANN.shape(node.name)) for node in ANN.nodes_of(Relu))
    assert sum(size * positions[name] for name, size in sizes.items()) + 500 * neurons == ONCE


def test_a_step_costs_a_pass_of_the_ann_and_three_of_each_time_step() -> None:
    plan = plan_training(ANN, 8, budget(32 * 25 * 1000))
    assert plan is not None
    assert (plan.iterations, plan.batch_size) == (1000, 32)


def test_where_steps_are_few_batches_are_smaller() -> None:
    plan = plan_training(ANN, 8, budget(32 * 25 * 60))
    assert plan is not None
    assert (plan.iterations, plan.batch_size) == (120, 16)


def test_a_budget_that_buys_next_to_nothing_buys_nothing() -> None:
    assert plan_training(ANN, 8, budget(4 * 25 * 99)) is None


def test_steps_that_cost_nothing_are_limited_in_number() -> None:
    plan = plan_training(ANN, 8, budget(1e9, iterations=500))
    assert plan is not None
    assert plan.iterations == 500
