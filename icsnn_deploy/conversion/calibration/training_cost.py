"""How many steps of an optimizer a number of operations buys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv, Linear, Relu

_BATCH = 32
_SMALLEST_BATCH = 4
_FEWEST = 100  # iterations; fewer do more harm than good
_BACKWARD = 2  # the gradients of inputs and of weights cost a forward pass each
_PER_NEURON = 500
"""Multiply-accumulates that cost as much as a neuron, whose potentials and gradients are moved.

Time of a step of the optimizer, on one core with AVX2: ResNet20 (41e6 multiply-accumulates, 188e3
neurons) 1.2 ms per sample and pass, VGG16 of half width (79e6, 138e3) 1.6, MobileNetV2 of half
width (2e6, 68e3) 0.6.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingBudget:
    """What a training may cost.

    Args:
        operations: as operations_of_pass counts them; a core with AVX2 does up to 1e11 a second.
        iterations: the most steps, for networks whose steps cost nearly nothing.
    """

    operations: float
    iterations: int


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """A number of steps, and of samples in each."""

    iterations: int
    batch_size: int


def operations_of_pass(ann: Graph) -> int:
    """What one pass of one sample through an ANN costs in training, in multiply-accumulates."""
    total = sum(_PER_NEURON * math.prod(ann.shape(node.name)) for node in ann.nodes_of(Relu))
    for node in ann.nodes_of(Conv, Linear):
        positions = math.prod(ann.shape(node.name)[1:]) if isinstance(node, Conv) else 1
        total += node.weight.size * positions
    return total


def plan_training(ann: Graph, time_steps: int, budget: TrainingBudget) -> TrainingPlan | None:
    """The training that a budget buys; None if it is too small to be worth anything.

    Args:
        ann: the ANN, whose IF network has the same connections.
        time_steps: T of the IF network.
        budget: operations and iterations at most.
    """
    once = max(1, operations_of_pass(ann))
    per_sample = once * (1 + (1 + _BACKWARD) * time_steps)
    batch = _BATCH
    while batch > _SMALLEST_BATCH and budget.operations / (per_sample * batch) < _FEWEST:
        batch //= 2
    iterations = int(budget.operations / (per_sample * batch))
    if iterations < _FEWEST:
        return None
    return TrainingPlan(iterations=min(iterations, budget.iterations), batch_size=batch)
