"""An IF network whose potentials, biases and weights receive gradients through the T steps.

    u[t] = v[t-1] + gain * (I[t] - mean) / std + offset      in units of v_threshold

mean and std are those of the current I per channel, over the batch and the T steps, as in batch
normalization (Ioffe & Szegedy 2015; for spiking networks Zheng et al. 2021): a change of one
layer's weights then leaves the scale of its current, and the firing rates after it, as they were.
The network that results has the running mean and std in its weights and biases.

The statistics of a batch are noise as well: VGG16, T = 4, 32 samples, in training diverged by 0.16
where the network that would result diverged by 0.05. So the last part of a training uses the
running ones, which then stay, and trains the very network that results, as in training for few bits
(Krishnamoorthi 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.layer_run import currents_of_output
from icsnn_deploy.conversion.calibration.layer_sweep import CalibrationUpdate
from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Linear

_MOMENTUM = 0.05
_EPS = 1e-6  # times the mean variance of the channels: added to each, for those that never change
_FEWEST_VALUES = 16  # per channel: statistics of fewer are noise


@dataclass(kw_only=True)
class _PopulationParameters:
    """What is learned of a population, [C, 1, 1] each; in units of v_threshold."""

    log_gain: Tensor
    offset: Tensor
    v_init: Tensor
    log_amplitude: Tensor  # of what a spike represents
    offset_unit: Tensor  # the channel's mean v_threshold / v_threshold: one shift per channel
    # statistics of the current, [C]: where training started, and the running ones
    first_mean: Tensor
    first_std: Tensor
    running_mean: Tensor
    running_variance: Tensor  # PyTorch's, of a sample: count / (count - 1) of the batches' variance
    count: Tensor  # values per channel in a batch
    eps: float = 1e-30

    @property
    def variance(self) -> Tensor:
        """The running variance of the batches."""
        return self.running_variance * (1 - 1 / self.count)

    @property
    def learned(self) -> list[Tensor]:
        return [self.log_gain, self.offset, self.v_init, self.log_amplitude]

    @property
    def state(self) -> list[Tensor]:
        measured = [self.first_mean, self.first_std, self.running_mean, self.running_variance]
        return [*self.learned, *measured, self.count]


class _ScaledWeight:
    """The weights of a layer as multiples of the root mean square of their row.

    One learning rate then fits all rows. Weights that are zero stay zero: a pruned network stays
    pruned, and the zeros of a layer that only rearranges stay as well.
    """

    def __init__(self, node: Conv | Linear, weight: Tensor) -> None:
        self.node = node
        rows = weight.flatten(1).square().mean(dim=1).sqrt().clamp(min=1e-30)
        self.scale = rows.reshape(-1, *(1,) * (weight.ndim - 1))
        self.multiple = (weight / self.scale).requires_grad_()
        mask = (weight != 0).to(weight.dtype)
        if not bool(mask.all()):
            self.multiple.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]

    @property
    def value(self) -> Tensor:
        return self.multiple * self.scale


class TrainableNetwork:
    """An IF network with parameters that receive gradients.

    Args:
        network: a float IF network with soft reset.
        device: torch device.
        train_weights: weights are parameters too, except of connections that only copy.

    Attributes:
        potentials: parameters of the populations, and the shift of the output.
        weights: of connections, as multiples of the root mean square of their row.
    """

    def __init__(self, network: Graph, device: str, *, train_weights: bool) -> None:
        self.network = network
        self.simulator = TorchSimulator(network, device=device)
        self.ops = self.simulator.ops
        self.constant = network.constant_nodes()
        self._layers: dict[str, _ScaledWeight] = {}
        if train_weights:
            for node in network.nodes_of(Conv, Linear):
                if _is_trained(node):
                    weight = self.ops.parameter(node, "weight").clone()
                    self._layers[node.name] = _ScaledWeight(node, weight)
        self._populations = {n.name: self._parameters(n) for n in network.nodes_of(IF)}
        channels = network.shape(network.output.name)
        self._readout = torch.zeros(channels[0], device=self.ops.device, requires_grad=True)
        self.potentials = [p for found in self._populations.values() for p in found.learned]
        self.potentials.append(self._readout)
        self.weights = [layer.multiple for layer in self._layers.values()]

    def _parameters(self, node: IF) -> _PopulationParameters:
        channels = self.network.shape(node.name)[0]
        column = (channels, *(1,) * (node.v_threshold.ndim - 1))
        device = self.ops.device
        zeros = [torch.zeros(column, device=device, requires_grad=True) for _ in range(3)]
        v_threshold = node.v_threshold.astype(np.float64)
        v_init = np.broadcast_to(_channel_means(node.v_init / v_threshold), column)
        offset_unit = (_channel_means(v_threshold) / v_threshold).astype(np.float32)
        statistics = [torch.zeros(channels, device=device) for _ in range(4)]
        return _PopulationParameters(
            log_gain=zeros[0],
            offset=zeros[1],
            v_init=torch.tensor(v_init, dtype=torch.float32, device=device, requires_grad=True),
            log_amplitude=zeros[2],
            offset_unit=torch.as_tensor(offset_unit).to(device),
            first_mean=statistics[0],
            first_std=statistics[1].fill_(1.0),
            running_mean=statistics[2],
            running_variance=statistics[3].fill_(1.0),
            count=torch.tensor(float("inf"), device=device),
        )

    @torch.no_grad()
    def measure(self, inputs: list[Array]) -> None:
        """Measure the currents that training starts from.

        Args:
            inputs: batches as the network takes them, of one size.
        """
        sums = {name: torch.zeros(2, len(p.first_mean)) for name, p in self._populations.items()}
        counts: dict[str, int] = {}

        def add(name: str, current: Tensor) -> None:
            axes = (0, *range(2, current.ndim))
            first = current.double().mean(dim=axes)
            second = current.double().square().mean(dim=axes)
            sums[name] = sums[name] + torch.stack([first, second]).cpu()
            counts[name] = max(2, current.numel() // current.shape[1])

        for batch in inputs:
            self._run(batch, {}, by_batch=False, observe=add)  # mean 0 and variance 1 so far
        for name, found in self._populations.items():
            found.count.fill_(counts[name])
            mean, square = (sums[name] / len(inputs)).to(self.ops.device)
            variance = (square - mean * mean).clamp(min=0)
            found.eps = max(float(variance.mean()) * _EPS, 1e-30)
            found.first_mean.copy_(mean)
            found.first_std.copy_((variance + found.eps).sqrt())
            found.running_mean.copy_(mean)
            found.running_variance.copy_(variance / (1 - 1 / found.count))

    def run(
        self, inputs: Array, activations: dict[str, Tensor] | None = None, *, by_batch: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Currents of the output [T, B, *shape], and each population's relative squared error.

        Args:
            inputs: a batch as the network takes it.
            activations: of the ANN by name, on the same samples; without them there are no errors.
            by_batch: normalize by the batch's own statistics, which the running ones follow; else
                by the running ones, as the network that results does.
        """
        return self._run(inputs, activations or {}, by_batch=by_batch)

    def _run(
        self,
        inputs: Array,
        activations: dict[str, Tensor],
        *,
        by_batch: bool,
        observe: Callable[[str, Tensor], None] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """As run; an observer gets all currents."""
        steps, batch = self.network.steps, inputs.shape[self.network.input.batch_axis]
        errors = []
        for name, layer in self._layers.items():
            self.ops.set_parameter(name, "weight", layer.value)

        def fire(node: IF, current: Tensor) -> Tensor:
            if observe is not None:
                observe(node.name, current)
            spikes = self._spikes(node, current, by_batch=by_batch)
            if node.name in activations:
                wanted = activations.pop(node.name)
                rate = spikes.reshape(steps, batch, *wanted.shape[1:]).mean(dim=0)
                reached = rate * self.ops.parameter(node, "v_threshold")
                power = (wanted * wanted).mean()
                power = torch.where(power > 0, power, 1e-20)  # silent in the whole batch
                errors.append(((reached - wanted) ** 2).mean() / power)
            return spikes

        result = currents_of_output(self.simulator, inputs, fire)
        shape = (-1, *(1,) * (result.ndim - 2))
        result = result + self._readout.reshape(shape)
        return self.simulator.over_time(self.network.output.name, result, batch), errors

    def _spikes(self, node: IF, current: Tensor, *, by_batch: bool) -> Tensor:
        found = self._populations[node.name]
        v_threshold = self.ops.parameter(node, "v_threshold")
        column = found.log_gain.shape
        gain = found.log_gain.exp() * (found.first_std.reshape(column) / v_threshold)
        shift = found.first_mean.reshape(column) / v_threshold
        offset = torch.addcmul(shift, found.offset, found.offset_unit)
        current = self._normalized(found, current, gain, offset, by_batch=by_batch)
        spikes: Tensor = SurrogateIF.apply(
            current,
            found.v_init,
            found.log_amplitude.exp(),
            self.network.steps,
            node.inputs[0] in self.constant,
        )
        return spikes

    @staticmethod
    def _normalized(
        found: _PopulationParameters,
        current: Tensor,
        gain: Tensor,
        offset: Tensor,
        *,
        by_batch: bool,
    ) -> Tensor:
        """gain * (current - mean) / std + offset; gain and offset per channel or per neuron.

        mean and std are those of the batch, or the running ones: without by_batch, and where a
        batch has too few values per channel.
        """
        count = current.numel() // current.shape[1]
        learns = by_batch and count >= _FEWEST_VALUES
        if learns:
            found.count.fill_(count)
        column = found.log_gain.shape
        per_channel = gain.shape == offset.shape == column
        scaled = functional.batch_norm(
            current,
            found.running_mean,
            found.running_variance if learns else found.variance,
            weight=gain.flatten() if per_channel else None,
            bias=offset.flatten() if per_channel else None,
            training=learns,
            momentum=_MOMENTUM,
            eps=found.eps,
        )
        return scaled if per_channel else torch.addcmul(offset, scaled, gain)

    def result(self) -> Graph:
        """The network with the parameters learned."""
        network = self.network
        for layer in self._layers.values():
            weight = layer.value.detach().cpu().contiguous().numpy()
            network = network.replace(replace(layer.node, weight=weight))
        for node in network.nodes_of(IF):
            network = self._update(node).apply(network, node.name)
        shift = self._readout.detach().cpu().numpy().astype(np.float64)
        return CalibrationUpdate(shift=shift).apply(network, network.output.name)

    def _update(self, node: IF) -> CalibrationUpdate:
        """The learned values in activation units: I' = gain I + shift, a spike is v_threshold."""
        found = self._populations[node.name]
        column = found.log_gain.shape
        statistics = found.first_mean, found.first_std, found.running_mean, found.variance
        log_gain, offset, v_init, log_amplitude, first_mean, first_std, mean, variance = (
            value.detach().cpu().numpy().astype(np.float64).reshape(column)
            for value in (*found.learned, *statistics)
        )
        v_threshold = node.v_threshold.astype(np.float64)
        gain = np.exp(log_gain) * first_std / np.sqrt(variance + found.eps)  # of I / v_threshold
        amplitude = v_threshold * np.exp(log_amplitude)
        shift = offset * _channel_means(v_threshold) + first_mean - gain * mean
        return CalibrationUpdate(
            v_threshold=amplitude.astype(np.float32),
            v_init=(v_init * amplitude).astype(np.float32),
            gain=(gain * np.exp(log_amplitude)).ravel(),
            shift=(shift * np.exp(log_amplitude)).ravel(),
        )

    def state(self) -> list[Tensor]:
        """Everything that training changes, for a checkpoint."""
        populations = [value for p in self._populations.values() for value in p.state]
        return [*populations, self._readout, *self.weights]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        """Take the values of `state`."""
        for own, given in zip(self.state(), state, strict=True):
            own.copy_(given)


def _is_trained(node: Conv | Linear) -> bool:
    """Whether a connection does more than copy or scale single values."""
    return bool(((node.weight != 0).reshape(len(node.weight), -1).sum(axis=1) > 1).any())


def _channel_means(values: Array) -> Array:
    """One value per channel, [C, 1, 1]: the mean where there is one per neuron, [C, H, W]."""
    axes = tuple(range(1, values.ndim))
    return values.mean(axis=axes, keepdims=True) if axes else values
