"""Rules for v_init, the initial membrane potential.

The text of IC-SNN's algorithms allows more than one reading; docs/guide/recipes.md describes each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, LINEAR_NODES, Conv, Linear, Population

Reduce = Literal["mod", "clamp", "raw"]
Reading = Literal["printed", "equation"]


class VInitRule(ABC):
    """A rule for v_init. Subclass it, as a frozen dataclass with __str__, to add one."""

    simulations: ClassVar[int] = 0
    """How often it runs the network on all samples, for estimates of time."""

    @abstractmethod
    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """v_init of each population by name, ready to broadcast, activation units.

        Args:
            network: the IF network, with its final thresholds.
            ann: the ANN that the network comes from.
            context: samples that the network may be run on.
        """


def set_v_init(network: Graph, values: Mapping[str, Array]) -> Graph:
    """The network with another v_init of the populations named."""
    return network.replace(
        *(
            replace(node, v_init=values[node.name])
            for node in network.nodes_of(IF)
            if node.name in values
        )
    )


@dataclass(frozen=True, kw_only=True)
class Zero(VInitRule):
    """v_init = 0."""

    def __str__(self) -> str:
        return "zero"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """0 everywhere."""
        return _times_threshold(network, 0.0)


@dataclass(frozen=True, kw_only=True)
class Half(VInitRule):
    """v_init = v_threshold / 2, the least expected error for uniform input (OPI, AAAI 2022)."""

    def __str__(self) -> str:
        return "half"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """v_threshold / 2."""
        return _times_threshold(network, 0.5)


@dataclass(frozen=True, kw_only=True)
class WeightResidual(VInitRule):
    """IC-SNN, Algorithm 1: mean((W T + b) mod v_threshold) over the ANN's weights of a layer."""

    def __str__(self) -> str:
        return "IC-SNN algorithm 1"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """One value per layer."""
        residuals = {
            node.name: _weight_residual(ann, node, network.steps) for node in network.nodes_of(IF)
        }
        return _plus(_times_threshold(network, 0.0), residuals)


@dataclass(frozen=True, kw_only=True)
class DataResidual(VInitRule):
    """IC-SNN, Algorithm 2: the mean residual potential v(T) of a run from v = 0, one per layer.

    `reduce` says how the v(T) of a neuron enters the mean. The paper calls v(T) the remainder of a
    division by the threshold: "mod" takes that remainder, "clamp" cuts v(T) to [0, v_threshold],
    "raw" takes it as it is, negative for every inhibited neuron.
    """

    reduce: Reduce = "mod"

    simulations: ClassVar[int] = 1

    def __str__(self) -> str:
        return f"IC-SNN algorithm 2 ({self.reduce})"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """One value per layer."""
        zeros = _times_threshold(network, 0.0)
        return _plus(zeros, _mean_residuals(set_v_init(network, zeros), self.reduce, context))


@dataclass(frozen=True, kw_only=True)
class Compensation(VInitRule):
    """Coding compensation alone: v_init is the mean coding error.

    "printed": v_threshold / (2 T), as Algorithm 3 prints it. "equation": v_threshold / 2; Eq. 15
    justifies v_threshold / (2 T) of activation in each of T steps, which is T times as much.
    """

    reading: Reading = "printed"

    def __str__(self) -> str:
        return f"compensation ({self.reading})"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """v_threshold / (2 T) or v_threshold / 2."""
        ratio = 0.5 / network.steps if self.reading == "printed" else 0.5
        return _times_threshold(network, ratio)


@dataclass(frozen=True, kw_only=True)
class CompensatedResidual(VInitRule):
    """IC-SNN, Algorithm 3: compensate, run Algorithm 2 from there, compensate again."""

    reduce: Reduce = "mod"
    reading: Reading = "printed"

    simulations: ClassVar[int] = 1

    def __str__(self) -> str:
        return f"IC-SNN algorithm 3 ({self.reduce}, {self.reading})"

    def v_init(
        self, network: Graph, ann: Graph, context: CalibrationContext
    ) -> Mapping[str, Array]:
        """The compensation plus one value per layer."""
        compensation = Compensation(reading=self.reading).v_init(network, ann, context)
        compensated = set_v_init(network, compensation)
        return _plus(compensation, _mean_residuals(compensated, self.reduce, context))


def _times_threshold(network: Graph, ratio: float) -> dict[str, Array]:
    """ratio * v_threshold of each population."""
    return {node.name: node.v_threshold * np.float32(ratio) for node in network.nodes_of(IF)}


def _plus(values: Mapping[str, Array], residuals: Mapping[str, float]) -> dict[str, Array]:
    """The values plus one number per layer."""
    return {name: value + np.float32(residuals[name]) for name, value in values.items()}


def _weight_residual(ann: Graph, node: IF, time_steps: int) -> float:
    """Mean over the weights w, with their biases b, of the floored (w T + b) mod v_threshold."""
    limit = float(node.v_threshold.mean())
    remainders: list[Array] = []
    waiting = [ann.node(name) for name in ann.node(node.name).inputs]
    while waiting:
        source = waiting.pop(0)
        if isinstance(source, (Conv, Linear)):
            bias = source.bias.reshape(-1, *(1,) * (source.weight.ndim - 1))
            summed = source.weight.astype(np.float64) * time_steps + bias
            remainders.append(np.mod(summed, limit).ravel())
        elif isinstance(source, LINEAR_NODES):
            waiting += [ann.node(name) for name in source.inputs]
    return float(np.concatenate(remainders).mean()) if remainders else 0.0


def _mean_residuals(
    network: Graph, reduce: Reduce, context: CalibrationContext
) -> dict[str, float]:
    """Mean over samples and neurons of the reduced residual potential v(T), one per layer."""
    simulator = TorchSimulator(network, device=context.device)

    def measure(start: int, batch: Array) -> dict[str, tuple[float, int]]:
        found: dict[str, tuple[float, int]] = {}

        def observe(node: Population, spikes: Tensor, v: Tensor, u: Tensor | None) -> None:
            v_threshold = simulator.ops.parameter(node, "v_threshold")
            if reduce == "mod":
                v = torch.remainder(v, v_threshold)  # floored: the sign of the divisor
            elif reduce == "clamp":
                v = torch.minimum(v.clamp(min=0), v_threshold)
            found[node.name] = (float(v.sum(dtype=torch.float64)), v.numel())

        simulator.observe(batch, observe)
        return found

    sums = {node.name: 0.0 for node in network.nodes_of(IF)}
    count = {node.name: 0 for node in network.nodes_of(IF)}
    for part in context.map_inputs(measure, stage="residuals"):
        for name, (total, number) in part.items():
            sums[name] += total
            count[name] += number
    return {name: sums[name] / count[name] for name in sums}
