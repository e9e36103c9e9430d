"""Early exit: each sample runs only until its most probable class reaches a confidence.

    m[t] = mean of the readout's current over the steps (readout_start, t]
    stop at the first t with  max_c softmax(logit_unit * m[t])_c >= confidence,  at the latest at T

Samples that stop are removed from the batch. Up to its last step a sample is computed as in the
full run, so its logits are those of the full run at that step: bit for bit in an integer network,
while float sums may be rounded differently in a smaller batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import is_classifier, output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, part_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import torch_class_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlyExit:
    """The logits of a batch with early exit, and the number of steps of each sample."""

    logits: Array  # [B, *output shape], of each sample at its own last step
    steps: Array  # int64 [B], 1..T

    @property
    def mean_steps(self) -> float:
        """Mean T over the samples."""
        return float(self.steps.mean())


def confidence_unit(graph: Graph) -> float:
    """The logit that one unit of the output stands for; confidences depend on it.

    Raises:
        DataError: a network that is not one classifier, or an integer network without an
            output_unit.
    """
    if not is_classifier(graph):
        listed = ", ".join(f"{name} ({task})" for name, task in output_tasks(graph).items())
        raise DataError(
            f"early exit: the network gives {listed}. A sample stops where one class is sure "
            "enough, which takes one output that is classification or binary. Leave early exit "
            "out; icsnn evaluate measures the result after each step without it"
        )
    units = part_units(graph)
    if units is None:
        raise DataError(
            "this integer network has no output_unit (logit_unit in its file): the logit that 1 at "
            "the output stands for must be known to compare confidences. Make the network with "
            "icsnn quantize, which records it"
        )
    return units[0]


def run_until_sure(
    simulator: TorchSimulator, inputs: Array, confidence: float, *, unit: float = 1.0
) -> EarlyExit:
    """Run a batch step by step, each sample until it reaches the confidence.

    Args:
        simulator: of the network.
        inputs: [B, *shape], or [T, B, *shape] for rate and event input.
        confidence: probability of the most probable class at which a sample stops; above 1 none
            does. A single logit is taken as a sigmoid's; for an output with positions, every
            position must reach it.
        unit: the logit that one unit of the output stands for (confidence_unit).

    Raises:
        DataError: a confidence that is not positive, inputs that do not fit.
    """
    _check(confidence)
    x = check_inputs(simulator.graph, inputs)
    axis = simulator.graph.input.batch_axis
    size, _ = simulator.chunks(steps=1)
    if not x.shape[axis]:
        raise DataError("early exit of no samples: at least one is needed")
    parts = [
        _run(simulator, part, confidence, unit)
        for part in np.split(x, range(size, x.shape[axis], size), axis=axis)
    ]
    return EarlyExit(
        logits=np.concatenate([part.logits for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
    )


def stop_where_sure(
    logits_t: Array, readout_start: int, confidence: float, *, unit: float = 1.0
) -> EarlyExit:
    """The result of run_until_sure, computed from a full run of any backend.

    Args:
        logits_t: running mean of the readout [T, B, *output shape].
        readout_start: steps before the readout begins.
        confidence, unit: as for run_until_sure.

    Raises:
        DataError: a confidence that is not positive.
    """
    _check(confidence)
    scaled = torch.from_numpy(logits_t.astype(np.float64) * unit)
    sure = np.stack([(confidence_of(step) >= confidence).numpy() for step in scaled])  # [T, B]
    sure[:readout_start] = False
    sure[-1] = True
    last = sure.argmax(axis=0)
    return EarlyExit(logits=logits_t[last, np.arange(len(last))], steps=last + 1)


def _check(confidence: float) -> None:
    if not confidence > 0:
        raise DataError(f"a confidence of {confidence}: more than 0 and at most 1 is needed")


def _run(simulator: TorchSimulator, x: Array, confidence: float, unit: float) -> EarlyExit:
    flow = simulator.begin(x)
    start, last = simulator.graph.readout_start, simulator.time_steps
    device = simulator.ops.device
    shape = (flow.batch, *simulator.graph.shape(simulator.graph.output.name))
    logits = torch.zeros(shape, dtype=simulator.ops.dtype, device=device)
    steps = torch.zeros(flow.batch, dtype=torch.int64, device=device)
    waiting = torch.arange(flow.batch, device=device)
    # Like torch's sum over time: in double precision, rounded at each step.
    total = torch.zeros(shape, dtype=torch.float64, device=device)
    while len(waiting):
        current = simulator.advance(flow, 1)[0]  # [waiting, *output shape]
        stops = torch.full((len(waiting),), flow.step == last, device=device)
        mean = torch.zeros_like(current)
        if flow.step > start:
            total += current
            count = torch.tensor(flow.step - start, device=device)
            mean = total.to(current.dtype) / count
            stops |= confidence_of(mean.double() * unit) >= confidence
        logits[waiting[stops]] = mean[stops]
        steps[waiting[stops]] = flow.step
        if stops.any():
            waiting, total = waiting[~stops], total[~stops]
            flow.keep(~stops)
    return EarlyExit(logits=logits.cpu().numpy(), steps=steps.cpu().numpy())


def confidence_of(logits: Tensor) -> Tensor:
    """Probability of the most probable class, [B]; with positions, the lowest over them."""
    best = torch_class_scores(logits).softmax(dim=1).amax(dim=1)  # [B, *positions]
    return best.reshape(len(best), -1).amin(dim=1)
