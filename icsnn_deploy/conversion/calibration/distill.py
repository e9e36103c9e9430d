"""Train the IF network towards the ANN's outputs, by gradient through the T steps.

The search chooses one population after the other and cannot trade an error in one layer against the
layers after it; this can. The ANN tells what its output is on any sample, so that every sample is a
training sample (distillation, Hinton et al. 2015). An objective with labels has them take part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.checkpoint import Checkpoint
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.conversion.calibration.trainable import TrainableNetwork
from icsnn_deploy.conversion.calibration.training_batches import TrainingBatches
from icsnn_deploy.conversion.report import CurvePoint
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

_WARM_UP = 0.1  # share of the iterations
_MEASURED = 8  # batches that the statistics of the start are measured on
CURVE_POINTS = 20
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Options of the distillation.

    Args:
        iterations: optimizer steps.
        rate: peak learning rate of the populations' parameters (Adam, one cycle).
        weight_rate: of the weights, relative to the root mean square of their row; 0 leaves them
            unchanged.
        activation_share: factor of the activation error in the loss.
        temperature: of the loss at the start; it falls to 1 in even steps (see Objective.loss).
        normalized_share: share of the iterations, the first ones, in which currents are normalized
            by the statistics of their batch; in the others by the running ones, which stay.

    Raises:
        ConversionError: numbers out of range.
    """

    iterations: int = 600
    rate: float = 7e-3
    weight_rate: float = 1e-2
    activation_share: float = 0.0
    temperature: float = 1.0
    normalized_share: float = 0.7

    def __post_init__(self) -> None:
        least = min(self.weight_rate, self.activation_share)
        if self.iterations < 1 or not self.rate > 0 or not least >= 0 or self.temperature < 1:
            raise ConversionError(
                f"iterations {self.iterations}, rate {self.rate}, weight_rate {self.weight_rate}, "
                f"activation_share {self.activation_share}, temperature {self.temperature}: "
                "positive numbers, and a temperature of 1 or more, are needed"
            )
        if not 0 <= self.normalized_share <= 1:
            raise ConversionError(f"normalized_share {self.normalized_share}: 0 to 1 is allowed")

    def by_batch(self, iteration: int) -> bool:
        """Whether an iteration normalizes by the statistics of its batch."""
        return iteration < self.normalized_share * self.iterations

    def temperature_at(self, iteration: int) -> float:
        """The temperature of an iteration."""
        return 1 + (self.temperature - 1) * (1 - iteration / self.iterations)

    def factor(self, iteration: int) -> float:
        """Share of the peak rates: a linear rise, then half a cosine down to 0."""
        done = (iteration + 1) / (self.iterations + 1)
        if done < _WARM_UP:
            return done / _WARM_UP
        return 0.5 + 0.5 * math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))


class Trainable(Protocol):
    """A network that distillation trains.

    Attributes:
        network: the network that training started from.
        potentials: parameters that have the rate of the populations.
        weights: parameters that have the rate of the weights.
    """

    network: Graph
    potentials: list[Tensor]
    weights: list[Tensor]

    def measure(self, inputs: list[Array]) -> None:
        """Look at batches of one size before training starts."""

    def run(
        self, inputs: Array, activations: dict[str, Tensor] | None = None, *, by_batch: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Currents of the output [T, B, *shape] in units of the ANN's logits.

        And the relative squared error of each population, where activations of the ANN are given.
        Normalized by the statistics of the batch, or by the running ones, as the result is.
        """

    def result(self) -> Graph:
        """The network with the parameters learned."""

    def state(self) -> list[Tensor]:
        """Everything that training changes, for a checkpoint."""

    def restore(self, state: list[Tensor]) -> None:
        """Take the values of `state`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Distilled:
    """The network learned, and how it got there."""

    network: Graph
    curve: tuple[CurvePoint, ...]


def distill(
    network: Graph | Trainable,
    ann: Graph,
    context: CalibrationContext,
    batches: TrainingBatches,
    time_steps: Sequence[int],
    options: DistillOptions = DistillOptions(),
    *,
    objective: Objective,
    held_out: Callable[[Graph], float] | None = None,
    checkpoint: Checkpoint | None = None,
    points: int = CURVE_POINTS,
    stage: str = "distillation",
) -> Distilled:
    """The network with v_threshold, v_init, biases and weights optimized.

        minimize mean over T of objective.loss(ANN, logits_T, labels)
                 + share * mean over populations of |v_threshold * rate - a|^2 / |a|^2

    Args:
        network: a float IF network; or a network with its own way to be trained.
        ann: the ANN that the network comes from.
        context: device, encoder and progress.
        batches: samples that are learned from.
        time_steps: readout steps: the T after which the network is read.
        options: number of steps, learning rates and normalization.
        objective: what is minimized; a plain one is the divergence, by the task of each output.
        held_out: divergence of a network on held-out samples, for the curve.
        checkpoint: where the state is kept; a distillation that was interrupted goes on from there.
            Every process of a run needs it: the first alone reads and writes the file, and the
            others get its state.
        points: of the curve.
        stage: name under which progress is reported.
    """
    if isinstance(network, Graph):
        trained_weights = options.weight_rate > 0
        network = TrainableNetwork(network, context.device, train_weights=trained_weights)
    run = _Run(network, ann, context, batches, time_steps, options, objective)
    if checkpoint is not None:
        run.resume(checkpoint)
        if context.samples.ranks.rank:
            checkpoint = None
    saved = time.monotonic()
    every = max(1, options.iterations // points)
    while run.done < options.iterations:
        context.progress(stage, run.done, options.iterations)
        run.step()
        if run.done % every == 0 or run.done == options.iterations:
            run.note(held_out)
            if checkpoint is not None:
                checkpoint.write_curve(run.curve)
        ended = run.done == options.iterations
        if checkpoint is not None and (ended or time.monotonic() - saved > _SAVE_EVERY_S):
            run.save(checkpoint)
            saved = time.monotonic()
    context.progress(stage, options.iterations, options.iterations)
    return Distilled(network=run.network.result(), curve=tuple(run.curve))


class _Run:
    """A distillation under way."""

    def __init__(
        self,
        network: Trainable,
        ann: Graph,
        context: CalibrationContext,
        batches: TrainingBatches,
        time_steps: Sequence[int],
        options: DistillOptions,
        objective: Objective,
    ) -> None:
        self.context, self.batches, self.options = context, batches, options
        self.objective, self.time_steps = objective, tuple(time_steps)
        self.teacher = _Teacher(ann, context.device, with_activations=options.activation_share > 0)
        self.network = network
        groups = [{"params": self.network.potentials, "lr": options.rate}]
        if self.network.weights:
            groups.append({"params": self.network.weights, "lr": options.weight_rate})
        self.optimizer = torch.optim.Adam(groups)
        self.peaks = [float(group["lr"]) for group in groups]  # type: ignore[arg-type]
        self.network.measure(
            [context.encoder.inputs(batches.batch(n).samples) for n in range(_MEASURED)]
        )
        self.done = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.curve: list[CurvePoint] = []

    def step(self) -> None:
        """One step of the optimizer."""
        begun = time.monotonic()
        samples, labels = self.batches.batch(self.done)
        wanted, activations = self.teacher.run(self.context.encoder.frames(samples))
        logits, errors = self.network.run(
            self.context.encoder.inputs(samples),
            activations,
            by_batch=self.options.by_batch(self.done),
        )
        start = self.network.network.readout_start
        read = [logits[start:t].mean(dim=0) for t in self.time_steps]
        temperature = self.options.temperature_at(self.done)
        each = [
            self.objective.loss(wanted, found, labels, temperature=temperature) for found in read
        ]
        loss = torch.stack(each).mean()
        self.losses.append(float(loss.detach()))
        if errors:
            loss = loss + self.options.activation_share * torch.stack(errors).mean()
        factor = self.options.factor(self.done)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.done += 1
        self.seconds += time.monotonic() - begun

    def note(self, held_out: Callable[[Graph], float] | None) -> None:
        """Add a point to the curve."""
        divergence = None if held_out is None else held_out(self.network.result())
        mean = sum(self.losses) / len(self.losses)
        self.curve.append(
            CurvePoint(
                iteration=self.done,
                samples=self.done * self.batches.size,
                seconds=self.seconds,
                training_divergence=mean,
                held_out_divergence=divergence,
            )
        )
        self.losses = []

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save(
            iteration=self.done,
            seconds=self.seconds,
            state=self.network.state(),
            optimizer=self.optimizer.state_dict(),
            curve=self.curve,
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take the state that the first process finds; the exchanges of a point pair only so."""
        ranks = self.context.samples.ranks
        found = ranks.gather(None if ranks.rank else checkpoint.load())[0]
        if found is not None:
            self.done, self.seconds, self.curve = found.iteration, found.seconds, list(found.curve)
            self.network.restore(found.state)
            self.optimizer.load_state_dict(found.optimizer)


class _Teacher:
    """Logits and activations of the ANN."""

    def __init__(self, ann: Graph, device: str, *, with_activations: bool) -> None:
        self.network = TorchANN(ann, device=device)
        self.with_activations = with_activations

    def run(self, samples: Array) -> tuple[Tensor, dict[str, Tensor]]:
        activations: dict[str, Tensor] = {}
        if self.with_activations:
            logits, activations = self.network.run_with_activations(samples)
        else:
            logits = self.network.run(samples)
        return torch.from_numpy(logits).to(self.network.ops.device), activations
