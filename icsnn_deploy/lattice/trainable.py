"""An integer network whose parameters receive gradients, on its own lattice.

    W = clamp(round(W')),   v_threshold = round(v_threshold'),   v_init = floor(v_init') + 1/2

W', v_threshold' and v_init' are floats that are trained. The network computes with the integers,
and the gradient passes the rounding as if it were not there (straight-through). A spike stays 1, so
that no unit changes: what a spike of another threshold should count for, the next weights learn.

As in batch normalization, the current of a population is centered per channel by the mean over the
batch and its T steps, and v_threshold follows its standard deviation: weights that jump to the next
integer then leave the firing rates as they were. In the last part of the training both are
fixed, and the network is the one that results, spike for spike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.layer_run import Fire, currents_of_output
from icsnn_deploy.conversion.calibration.layer_sweep import CalibrationUpdate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv, Linear, Node
from icsnn_deploy.lattice.integer_surrogate import IntegerIF, rounded
from icsnn_deploy.lattice.round_network import DIAGONAL_BITS
from icsnn_deploy.lattice.trained_parameters import TrainedPopulation, TrainedWeight

_MOMENTUM = 0.05


class TrainableLattice:
    """An integer network with parameters that receive gradients.

    Args:
        network: an integer network with soft reset.
        prepared: the network that was rounded to it (lattice.prepare).
        bits: signed width of the weights of each connection that is trained, by name.
        logit_unit: what 1 at the output stands for, in units of the ANN's logits; one number, or
            [*output shape].
        device: torch device.
        one_threshold: every population has one threshold, and keeps one.

    Attributes:
        potentials: parameters of the populations, and the shift of the output.
        weights: of connections, as multiples of the root mean square of their row.
    """

    def __init__(
        self,
        network: Graph,
        prepared: Graph,
        bits: Mapping[str, int],
        logit_unit: float | Array,
        device: str,
        *,
        one_threshold: bool = False,
    ) -> None:
        self.network = network
        self.one_threshold = one_threshold
        self.simulator = TorchSimulator(_as_floats(network), device=device)
        self.ops = self.simulator.ops
        self.constant = network.constant_nodes()
        self._layers = [
            TrainedWeight(node, _largest(node, bits), _weights(before), self.ops.device)
            for node, before in _rounded_connections(network, prepared)
        ]
        self._populations = {node.name: self._population(node) for node in network.nodes_of(IF)}
        shape = network.shape(network.output.name)
        self.logit_unit = torch.as_tensor(np.asarray(logit_unit, np.float32)).to(self.ops.device)
        unit = np.broadcast_to(logit_unit, shape).reshape(shape[0], -1).mean(axis=1)
        self._readout_unit = self._column(unit.astype(np.float32), len(shape))
        self._readout = torch.zeros_like(self._readout_unit, requires_grad=True)
        self.potentials = [p for found in self._populations.values() for p in found.learned]
        self.potentials.append(self._readout)
        self.weights = [layer.multiple for layer in self._layers]

    def _column(self, values: Array, rank: int) -> Tensor:
        column = values.reshape(-1, *(1,) * (rank - 1))
        return torch.as_tensor(column.astype(np.float32)).to(self.ops.device)

    def _population(self, node: IF) -> TrainedPopulation:
        v_threshold, v_init = (
            value.astype(np.float32) for value in (node.v_threshold, node.v_init)
        )
        if self.one_threshold:
            v_threshold = v_threshold.reshape(-1)[:1].reshape((1,) * v_threshold.ndim)
        device = self.ops.device
        start = torch.as_tensor(v_threshold.copy()).to(device)
        channels = self.network.shape(node.name)[0]
        zeros = self._column(np.zeros(channels), v_threshold.ndim)
        shared = zeros if len(start) == channels > 1 else zeros[:1]
        return TrainedPopulation(
            v_threshold=start,
            log_threshold=torch.zeros_like(start, requires_grad=True),
            v_init=torch.as_tensor(v_init / v_threshold).to(device).requires_grad_(),
            offset=zeros.clone().requires_grad_(),
            first_mean=zeros.clone(),
            first_std=torch.ones_like(shared),
            running_mean=zeros.clone(),
            running_std=torch.ones_like(shared),
        )

    @torch.no_grad()
    def measure(self, inputs: list[Array]) -> None:
        """Measure the currents that training starts from.

        Args:
            inputs: batches as the float network takes them, of one size.
        """
        sums: dict[str, list[Tensor]] = {name: [] for name in self._populations}

        def fire(node: IF, current: Tensor) -> Tensor:
            mean, square = _moments(current)
            sums[node.name].append(torch.stack([mean, square]))
            found = self._populations[node.name]
            return self._spikes(node, current, found.exact_values)

        for batch in inputs:
            self._forward(batch, fire)
        for name, found in self._populations.items():
            mean, square = torch.stack(sums[name]).mean(dim=0)
            std = self._shared_std(found, mean, square)
            for own, value in zip(found.state[-4:], (mean, std, mean, std), strict=True):
                own.copy_(value)

    @staticmethod
    def _shared_std(found: TrainedPopulation, mean: Tensor, square: Tensor) -> Tensor:
        """The standard deviation of the current, one value per channel, or one of the layer."""
        variance = (square - mean * mean).clamp(min=0)
        if len(found.first_std) == 1:
            variance = variance.mean(dim=0, keepdim=True)
        return (variance + 1e-3).sqrt()  # a current that never changes is left as it is

    def run(
        self, inputs: Array, activations: dict[str, Tensor] | None = None, *, by_batch: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Currents of the output [T, B, *shape] in units of the logits; errors are not measured.

        Args:
            inputs: a batch as the float network takes it.
            activations: not used.
            by_batch: normalize by the batch's own statistics, which the running ones follow; else
                run as the network that results.
        """
        for layer in self._layers:
            self.ops.set_parameter(layer.node.name, layer.field, layer.value)

        def fire(node: IF, current: Tensor) -> Tensor:
            found = self._populations[node.name]
            values = self._normalized(found, current) if by_batch else found.exact_values
            return self._spikes(node, current, values)

        return self._forward(inputs, fire), []

    def _normalized(
        self, found: TrainedPopulation, current: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, square = _moments(current)
        std = self._shared_std(found, mean, square)
        with torch.no_grad():
            found.running_mean.lerp_(mean, _MOMENTUM)
            found.running_std.lerp_(std, _MOMENTUM)
        return found.values(mean, std)

    def _spikes(self, node: IF, current: Tensor, values: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        v_threshold, v_init, shift = values
        constant = node.inputs[0] in self.constant
        spikes: Tensor = IntegerIF.apply(
            current + shift, v_threshold, v_init, self.network.steps, constant
        )
        return spikes

    def _forward(self, inputs: Array, fire: Fire) -> Tensor:
        source = self.network.input
        batch = inputs.shape[source.batch_axis]
        inputs = to_input_units(self.network, inputs)
        current = currents_of_output(self.simulator, inputs, fire)
        current = (current + rounded(self._readout / self._readout_unit)) * self.logit_unit
        return self.simulator.over_time(self.network.output.name, current, batch)

    def result(self) -> Graph:
        """The integer network with the parameters learned."""
        network = self.network.replace(*(layer.result() for layer in self._layers))
        for node in self.network.nodes_of(IF):
            found = [_array(v) for v in self._populations[node.name].exact_values]
            v_threshold, v_init, shift = found
            update = CalibrationUpdate(
                v_threshold=np.broadcast_to(v_threshold, node.v_threshold.shape).astype(
                    node.v_threshold.dtype
                ),
                v_init=v_init.astype(node.v_init.dtype),
                shift=shift.ravel(),
                rescale=False,
            )
            network = update.apply(network, node.name)
        shift = _array(rounded(self._readout / self._readout_unit))
        return CalibrationUpdate(shift=shift.ravel()).apply(network, network.output.name)

    def state(self) -> list[Tensor]:
        """Everything that training changes, for a checkpoint."""
        populations = [value for p in self._populations.values() for value in p.state]
        return [*populations, self._readout, *self.weights]

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        """Take the values of `state`."""
        for own, given in zip(self.state(), state, strict=True):
            own.copy_(given)


def _moments(current: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each channel, over the batch, its steps and positions."""
    axes = [0, *range(2, current.ndim)]
    shape = (-1, *(1,) * (current.ndim - 2))
    mean = current.mean(dim=axes).reshape(shape)
    return mean, current.square().mean(dim=axes).reshape(shape)


def _rounded_connections(
    network: Graph, prepared: Graph
) -> Iterator[tuple[Conv | Linear | ChannelAffine, Node]]:
    """Connections with those that they were before: neither copies, window sums nor zero points."""
    for node in network.nodes_of(Conv, Linear, ChannelAffine):
        if node.name in prepared:  # a calibration may have inserted a shift
            before = prepared.node(node.name)
            if _weights(before).dtype.kind == "f":
                yield node, before


def _weights(node: Node) -> Array:
    return node.arrays()["scale" if isinstance(node, ChannelAffine) else "weight"]


def _largest(node: Node, bits: Mapping[str, int]) -> int:
    return (1 << (bits.get(node.name, DIAGONAL_BITS) - 1)) - 1


def _array(value: Tensor) -> Array:
    return value.detach().cpu().numpy().astype(np.float64)


def _as_floats(network: Graph) -> Graph:
    """The network with the same values as floats: no proven kernels, which have no gradients."""

    def convert(node: Node) -> Node:
        arrays = {n: a.astype(np.float32) for n, a in node.parameters().items()}
        return replace(node, **arrays)  # type: ignore[arg-type]

    return network.map(convert)
