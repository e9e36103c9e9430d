"""Parameters of an integer network as the floats that are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import ChannelAffine, Conv, Linear, Node
from icsnn_deploy.lattice.integer_surrogate import half_integers, rounded

_LARGEST_THRESHOLD = 2**22  # beyond it float32 has no half integers


class TrainedWeight:
    """Integers that are trained as multiples of the root mean square of their row.

    Args:
        node: a connection of the integer network.
        largest: largest magnitude.
        prepared: its values before they were rounded; where they are zero nothing is trained.
        device: torch device.
    """

    def __init__(
        self,
        node: Conv | Linear | ChannelAffine,
        largest: int,
        prepared: Array,
        device: torch.device,
    ) -> None:
        self.node, self.largest = node, largest
        self.field = "scale" if isinstance(node, ChannelAffine) else "weight"
        values = torch.as_tensor(node.arrays()[self.field].astype(np.float32)).to(device)
        rows = values.flatten(1).square().mean(dim=1) if values.ndim > 1 else values.square()
        self.scale = rows.sqrt().clamp(min=1.0).reshape(-1, *(1,) * (values.ndim - 1))
        self.multiple = (values / self.scale).requires_grad_()
        mask = torch.as_tensor(np.broadcast_to(prepared != 0, values.shape).copy()).to(values)
        if not bool(mask.all()):
            self.multiple.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]

    @property
    def value(self) -> Tensor:
        """The integers, as floats."""
        limit = self.largest / self.scale
        with torch.no_grad():  # a value beyond the range would take steps to come back
            self.multiple.copy_(self.multiple.clamp(-limit, limit))
        return rounded(self.multiple * self.scale).clamp(-self.largest, self.largest)

    def result(self) -> Node:
        """The node with the integers learned."""
        integers = self.value.detach().cpu().numpy().astype(self.node.arrays()[self.field].dtype)
        return replace(self.node, **{self.field: integers})  # type: ignore[arg-type]


@dataclass(kw_only=True)
class TrainedPopulation:
    """What is learned of a population, in multiples of the v_threshold that it starts from."""

    v_threshold: Tensor  # where training starts, [C, 1, 1], [C, H, W] or one value; lattice units
    log_threshold: Tensor
    v_init: Tensor
    offset: Tensor  # of the current, one value per channel
    first_mean: Tensor  # of the current, one value per channel
    first_std: Tensor  # one value per threshold that is shared by a channel or a layer
    running_mean: Tensor
    running_std: Tensor

    @property
    def learned(self) -> list[Tensor]:
        return [self.log_threshold, self.offset, self.v_init]

    @property
    def state(self) -> list[Tensor]:
        measured = [self.first_mean, self.first_std, self.running_mean, self.running_std]
        return [*self.learned, *measured]

    def values(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(v_threshold, v_init, what is added to the current) on the lattice."""
        unit = self.v_threshold * (std / self.first_std)
        per_channel = unit
        if unit.ndim > 1:
            per_channel = unit.mean(dim=tuple(range(1, unit.ndim)), keepdim=True)
        v_threshold = rounded(unit * self.log_threshold.exp()).clamp(1, _LARGEST_THRESHOLD)
        shift = per_channel * self.offset + self.first_mean * (std / self.first_std) - mean
        return v_threshold, half_integers(unit * self.v_init), rounded(shift)

    @property
    def exact_values(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same by the running statistics: those of the network that results."""
        return self.values(self.running_mean, self.running_std)
