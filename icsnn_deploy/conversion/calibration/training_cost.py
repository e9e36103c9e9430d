"""How many steps of an optimizer a number of multiply-accumulates buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv, Linear

_BATCH = 32
_SMALLEST_BATCH = 4
_FEWEST = 100  # iterations; fewer do more harm than good
_BACKWARD = 2  # the gradients of inputs and of weights cost a forward pass each


@dataclass(frozen=True, kw_only=True)
class TrainingBudget:
    """What a training may cost.

    Args:
        operations: multiply-accumulates. Two cores of a server with AVX2 do about 3e10 a second.
        iterations: the most steps, for networks whose steps cost nearly nothing.
    """

    operations: float
    iterations: int


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A number of steps, and of samples in each."""

    iterations: int
    batch_size: int


def multiply_accumulates(graph: Graph) -> int:
    """Multiply-accumulates of one pass of one sample through all connections of a graph."""
    total = 0
    for node in graph.nodes_of(Conv, Linear):
        positions = int(np.prod(graph.shape(node.name)[1:])) if isinstance(node, Conv) else 1
        total += node.weight.size * positions
    return total


def plan_training(ann: Graph, time_steps: int, budget: TrainingBudget) -> TrainingPlan | None:
    """The training that a budget buys; None if it is too small to be worth anything.

    Args:
        ann: the ANN, whose IF network has the same connections.
        time_steps: T of the IF network.
        budget: operations and iterations at most.
    """
    once = max(1, multiply_accumulates(ann))
    per_sample = once * (1 + (1 + _BACKWARD) * time_steps)
    batch = _BATCH
    while batch > _SMALLEST_BATCH and budget.operations / (per_sample * batch) < _FEWEST:
        batch //= 2
    iterations = int(budget.operations / (per_sample * batch))
    if iterations < _FEWEST:
        return None
    return TrainingPlan(iterations=min(iterations, budget.iterations), batch_size=batch)
