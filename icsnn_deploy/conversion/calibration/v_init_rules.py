"""Rules for v_init, the initial membrane potential.

IC-SNN's algorithms leave room for more than one reading; docs/recipes.md says what each one does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, LINEAR_NODES, Conv, Linear
from icsnn_deploy.progress import Progress, silent, tracked

Reduce = Literal["mod", "clamp", "raw"]
Reading = Literal["printed", "equation"]


@dataclass(frozen=True, kw_only=True)
class Zero:
    """v_init = 0."""

    def __str__(self) -> str:
        return "zero"


@dataclass(frozen=True, kw_only=True)
class Half:
    """v_init = v_threshold / 2, the least expected error for uniform input (OPI, AAAI 2022)."""

    def __str__(self) -> str:
        return "half"


@dataclass(frozen=True, kw_only=True)
class WeightResidual:
    """IC-SNN, Algorithm 1: mean((W T + b) mod v_threshold) over the ANN's weights of a layer."""

    def __str__(self) -> str:
        return "IC-SNN algorithm 1"


@dataclass(frozen=True, kw_only=True)
class DataResidual:
    """IC-SNN, Algorithm 2: the mean residual potential v(T) of a run from v = 0, one a layer.

    reduce says how one neuron's v(T) enters the mean. The text calls v(T) the remainder of a
    division by the threshold: "mod" makes it that, "clamp" cuts it to [0, v_threshold], "raw" takes
    it as it is, negative for every inhibited neuron.
    """

    reduce: Reduce = "mod"

    def __str__(self) -> str:
        return f"IC-SNN algorithm 2 ({self.reduce})"


@dataclass(frozen=True, kw_only=True)
class Compensation:
    """Coding compensation alone: v_init is the mean coding error.

    "printed": v_threshold / (2 T), as Algorithm 3 prints it. "equation": v_threshold / 2; Eq. 15
    justifies v_threshold / (2 T) of activation in each of T steps, which is T times as much.
    """

    reading: Reading = "printed"

    def __str__(self) -> str:
        return f"compensation ({self.reading})"


@dataclass(frozen=True, kw_only=True)
class CompensatedResidual:
    """IC-SNN, Algorithm 3: compensate, run Algorithm 2 from there, compensate again."""

    reduce: Reduce = "mod"
    reading: Reading = "printed"

    def __str__(self) -> str:
        return f"IC-SNN algorithm 3 ({self.reduce}, {self.reading})"


InitialRule: TypeAlias = (
    Zero | Half | WeightResidual | DataResidual | Compensation | CompensatedResidual
)


def initialize(
    network: Graph,
    ann: Graph,
    rule: InitialRule,
    calibration: CalibrationSet,
    *,
    batch_size: int,
    device: str = "cpu",
    progress: Progress = silent,
) -> Graph:
    """The network with v_init set by the rule, everything else unchanged.

    Args:
        network: the IF network.
        ann: the ANN it comes from, for Algorithm 1.
        rule: which initial potential.
        calibration: samples, for Algorithms 2 and 3.
        batch_size: samples simulated at once.
        device: torch device.
        progress: told how far the simulation is.
    """

    def residual(start: Graph, reduce: Reduce) -> dict[str, float]:
        return _mean_residuals(start, reduce, calibration, batch_size, device, progress)

    match rule:
        case Zero():
            return _set(network, {})
        case Half():
            return _set_share(network, 0.5)
        case WeightResidual():
            values = {
                node.name: _weight_residual(ann, node, network.steps) for node in _ifs(network)
            }
            return _set(network, values)
        case DataResidual(reduce=reduce):
            return _set(network, residual(_set(network, {}), reduce))
        case Compensation(reading=reading):
            return _set_share(network, _share(reading, network.steps))
        case CompensatedResidual(reduce=reduce, reading=reading):
            compensated = _set_share(network, _share(reading, network.steps))
            return _add(compensated, residual(compensated, reduce))


def _ifs(network: Graph) -> tuple[IF, ...]:
    return network.nodes_of(IF)


def _share(reading: Reading, time_steps: int) -> float:
    return 0.5 / time_steps if reading == "printed" else 0.5


def _set_share(network: Graph, share: float) -> Graph:
    """v_init = share * v_threshold everywhere."""
    return network.replace(
        *(replace(node, v_init=node.v_threshold * np.float32(share)) for node in _ifs(network))
    )


def _set(network: Graph, values: dict[str, float]) -> Graph:
    """One v_init a layer; 0 where none is given."""
    cleared = (replace(node, v_init=np.zeros_like(node.v_threshold)) for node in _ifs(network))
    return _add(network.replace(*cleared), values)


def _add(network: Graph, values: dict[str, float]) -> Graph:
    """v_init plus one value a layer."""
    return network.replace(
        *(
            replace(node, v_init=node.v_init + np.float32(values.get(node.name, 0.0)))
            for node in _ifs(network)
        )
    )


def _weight_residual(ann: Graph, node: IF, time_steps: int) -> float:
    """Mean over the weights w (with their bias b) of (w T + b) mod v_threshold, floored mod."""
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
    network: Graph,
    reduce: Reduce,
    calibration: CalibrationSet,
    batch_size: int,
    device: str,
    progress: Progress,
) -> dict[str, float]:
    """Mean over samples and neurons of the reduced residual potential v(T), one a layer."""
    simulator = TorchSimulator(network, device=device)

    def measure(start: int, batch: Array) -> dict[str, tuple[float, int]]:
        found: dict[str, tuple[float, int]] = {}

        def observe(node: IF, spikes: Tensor, v: Tensor, u: Tensor | None) -> None:
            v_threshold = simulator.ops.parameter(node, "v_threshold")
            if reduce == "mod":
                v = torch.remainder(v, v_threshold)  # floored: the sign of the divisor
            elif reduce == "clamp":
                v = torch.minimum(v.clamp(min=0), v_threshold)
            found[node.name] = (float(v.sum(dtype=torch.float64)), v.numel())

        simulator.observe(batch, observe)
        return found

    sums = {node.name: 0.0 for node in _ifs(network)}
    count = {node.name: 0 for node in _ifs(network)}
    batches = -(-len(calibration) // batch_size)
    for part in tracked(calibration.map(batch_size, measure), "residuals", batches, progress):
        for name, (total, number) in part.items():
            sums[name] += total
            count[name] += number
    return {name: sums[name] / count[name] for name in sums}
