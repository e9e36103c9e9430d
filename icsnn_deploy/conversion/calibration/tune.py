"""Optimize the parameters of all populations together, by gradient through the T steps.

The search chooses one population after the other and cannot trade an error in one layer against the
layers after it; this can. The targets are the ANN's logits and activations on the same samples, so
that no labels are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import CalibrationUpdate
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Linear, Node, Relu


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """Options of the optimizer.

    Args:
        iterations: optimizer steps.
        batch_size: samples per step.
        rate: peak learning rate of the populations' parameters (Adam, one cycle).
        weight_rate: peak learning rate of the weights; 0 leaves them unchanged.
        activation_share: factor of the activation error in the loss.
        seed: of the order of samples.
    """

    iterations: int = 100
    batch_size: int = 32
    rate: float = 5e-3
    weight_rate: float = 0.0
    activation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch_size < 1 or self.rate <= 0 or self.weight_rate < 0:
            raise ConversionError(
                f"iterations {self.iterations}, batch_size {self.batch_size}, rate {self.rate}, "
                f"weight_rate {self.weight_rate}: positive numbers are needed"
            )


def tune(
    network: Graph,
    ann: Graph,
    context: CalibrationContext,
    time_steps: Sequence[int],
    options: TuneOptions = TuneOptions(),
    *,
    objective: Objective,
) -> Graph:
    """The network with v_threshold, v_init and bias of every channel (and weights) optimized.

        minimize mean over T of divergence(ANN, logits_T)
                 + share * mean over populations of |v_threshold * rate - a|^2 / |a|^2

    Args:
        network: a float IF network.
        ann: the ANN that the network comes from.
        context: samples that are learned from; options.batch_size of them are used at a time.
        time_steps: readout steps: the T after which the network is read.
        options: number of steps and learning rates.
        objective: the divergence, by the task of each output.
    """
    tunable = _Tunable(network, context.device, train_weights=options.weight_rate > 0)
    teacher = _Teacher(ann, context.device)
    groups = [{"params": tunable.potentials, "lr": options.rate}]
    if options.weight_rate > 0:
        groups.append({"params": tunable.weights, "lr": options.weight_rate})
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[float(group["lr"]) for group in groups],  # type: ignore[arg-type]
        total_steps=options.iterations + 1,
        pct_start=0.2,
    )
    batches = _Order(len(context), options.batch_size, options.seed)
    for iteration in range(options.iterations):
        context.progress("tuning", iteration, options.iterations)
        rows = batches.next()
        wanted, activations = teacher.run(context.frames(rows))
        logits, errors = tunable.run(context.inputs(rows), activations)
        readout_steps = [logits[network.readout_start : t].mean(dim=0) for t in time_steps]
        divergence = torch.stack([objective.loss(wanted, found) for found in readout_steps]).mean()
        loss = divergence + options.activation_share * torch.stack(errors).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    context.progress("tuning", options.iterations, options.iterations)
    return tunable.result()


class _Order:
    """Random batches of sample indices: every sample once before any is repeated."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.samples = samples
        self.batch_size = min(batch_size, samples)
        self.waiting = np.zeros(0, np.int64)

    def next(self) -> Array:
        if len(self.waiting) < self.batch_size:
            self.waiting = self.generator.permutation(self.samples)
        batch, self.waiting = np.split(self.waiting, [self.batch_size])
        return np.sort(batch)


class _Teacher:
    """Logits and activations of the ANN."""

    def __init__(self, ann: Graph, device: str) -> None:
        self.network = TorchANN(ann, device=device)

    def run(self, samples: Array) -> tuple[Tensor, dict[str, Tensor]]:
        activations: dict[str, Tensor] = {}

        def observe(node: Node, value: Tensor) -> None:
            if isinstance(node, Relu):
                activations[node.name] = value

        logits = self.network.run(samples, observe)
        return torch.from_numpy(logits).to(self.network.ops.device), activations


class _Tunable:
    """The IF network with parameters that receive gradients."""

    def __init__(self, network: Graph, device: str, *, train_weights: bool) -> None:
        self.network = network
        self.simulator = TorchSimulator(network, device=device)
        self.ops = self.simulator.ops
        self.constant = network.constant_nodes()
        self.weights: list[Tensor] = []
        self.trained: list[Conv | Linear] = []
        if train_weights:
            for node in network.nodes_of(Conv) + network.nodes_of(Linear):
                self.weights.append(self.ops.parameter(node, "weight").requires_grad_())
                self.trained.append(node)
        self.by_population = {n.name: self._parameters(n) for n in network.nodes_of(IF)}
        self.potentials = [p for found in self.by_population.values() for p in found]
        channels = network.shape(network.output.name)
        self.readout = torch.zeros(channels[0], device=self.ops.device, requires_grad=True)
        self.potentials.append(self.readout)

    def _parameters(self, node: IF) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log(kappa v_threshold), sigma, iota, log rho: one value per channel."""
        channels = self.network.shape(node.name)[0]
        column = (channels, *(1,) * (node.v_threshold.ndim - 1))
        zeros = [torch.zeros(column, device=self.ops.device) for _ in range(3)]
        ratio = torch.as_tensor(np.broadcast_to(_v_init_ratio(node), column).copy())
        iota = ratio.to(self.ops.device, torch.float32)
        for parameter in (*zeros, iota):
            parameter.requires_grad_()
        return zeros[0], zeros[1], iota, zeros[2]

    def run(self, samples: Array, activations: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Currents of the output [T, B, *shape], and each population's relative squared error."""
        source = self.network.input
        steps, batch = self.network.steps, samples.shape[source.batch_axis]
        if source.is_timed:
            samples = samples.reshape(-1, *source.shape)  # [T B, *shape]
        values = {source.name: self.ops.tensor(samples)}
        spent = self.network.last_uses()
        errors = []
        for node in self.network.nodes[1:]:
            sources = [values[name] for name in node.inputs]
            if isinstance(node, IF):
                values[node.name] = self._spikes(node, sources[0])
                wanted = activations.pop(node.name)
                rate = values[node.name].reshape(steps, batch, *wanted.shape[1:]).mean(dim=0)
                reached = rate * self.ops.parameter(node, "v_threshold")
                power = (wanted * wanted).mean()
                power = torch.where(power > 0, power, 1e-20)  # no activation in the whole batch
                errors.append(((reached - wanted) ** 2).mean() / power)
            else:
                values[node.name] = self.simulator.evaluate(node, sources)
            for name in spent[node.name]:
                del values[name]
        result = values[self.network.output.name]
        shape = (-1, *(1,) * (result.ndim - 2))
        result = result + self.readout.reshape(shape)
        return self.simulator.over_time(self.network.output.name, result, batch), errors

    def _spikes(self, node: IF, current: Tensor) -> Tensor:
        log_gain, sigma, iota, log_amplitude = self.by_population[node.name]
        kappa = log_gain.exp() / self.ops.parameter(node, "v_threshold")
        spikes: Tensor = SurrogateIF.apply(
            current,
            kappa,
            sigma,
            iota,
            log_amplitude.exp(),
            self.network.steps,
            node.inputs[0] in self.constant,
        )
        return spikes

    def result(self) -> Graph:
        """The network with the parameters learned."""
        network = self.network
        for trained, value in zip(self.trained, self.weights, strict=True):
            found = value.detach().cpu().contiguous().numpy()
            network = network.replace(replace(trained, weight=found))
        for node in network.nodes_of(IF):
            network = self._update(node).apply(network, node.name)
        shift = self.readout.detach().cpu().numpy().astype(np.float64)
        return CalibrationUpdate(shift=shift).apply(network, network.output.name)

    def _update(self, node: IF) -> CalibrationUpdate:
        """The learned values in activation units: I' = gain I + shift, a spike is v_threshold."""
        log_gain, sigma, iota, log_amplitude = (
            p.detach().cpu().numpy().astype(np.float64) for p in self.by_population[node.name]
        )
        amplitude = node.v_threshold * np.exp(log_amplitude)
        shape = amplitude.shape
        return CalibrationUpdate(
            v_threshold=amplitude.astype(np.float32),
            v_init=(iota * amplitude).astype(np.float32).reshape(shape),
            gain=np.exp(log_gain + log_amplitude).ravel(),
            shift=(sigma * amplitude).reshape(len(sigma), -1)[:, 0],
        )


def _v_init_ratio(node: IF) -> Array:
    """v_init / v_threshold, one value per channel: the mean where there is one per neuron."""
    ratio = node.v_init.astype(np.float64) / node.v_threshold
    axes = tuple(range(1, ratio.ndim))
    return ratio.mean(axis=axes, keepdims=True) if axes else ratio
