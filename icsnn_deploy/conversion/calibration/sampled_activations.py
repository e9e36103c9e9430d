"""The ANN's activations at sampled places: what each population should put out there.

A population's parameters are one a channel, so a few thousand places a channel tell as much as all
of them. The same places are read from the currents of the spiking network later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node, Relu
from icsnn_deploy.progress import Progress, silent, tracked

PLACES = 1 << 15  # a channel: what a search of a few parameters needs


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledActivations:
    """Activations of every rectifier at the same number of places of each sample."""

    places: dict[str, Tensor]  # int64 [N, places]: positions, flattened
    values: dict[str, Tensor]  # [C, N * places], sample by sample, activation units
    logits: Tensor  # [N, *output shape]

    @property
    def logits_mean(self) -> Array:
        """Mean logits per channel of the output, [C], float64."""
        mean: Array = self.logits.double().transpose(0, 1).flatten(1).mean(dim=1).numpy()
        return mean

    def pick(self, name: str, currents: Tensor, start: int) -> Tensor:
        """The sampled places of a batch, [T, B, C, *positions] -> [T, C, B * places].

        Args:
            name: a population.
            currents: [T, B, C, *positions] of the samples from `start` on.
            start: index of the batch's first sample.
        """
        steps, batch, channels = currents.shape[:3]
        places = self.places[name][start : start + batch].to(currents.device)
        index = places.unsqueeze(1).expand(batch, channels, -1)  # [B, C, places]
        flat = currents.reshape(steps, batch, channels, -1)
        picked = torch.stack([step.gather(2, index) for step in flat])  # [T, B, C, places]
        return picked.transpose(1, 2).reshape(steps, channels, -1)


def sample_activations(
    ann: Graph,
    calibration: CalibrationSet,
    *,
    places: int = PLACES,
    batch_size: int,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> SampledActivations:
    """Run the ANN once and keep about `places` activations a channel.

    Args:
        ann: the traced network.
        calibration: the samples.
        places: activations wanted per channel, over all samples; at least one a sample is kept.
        batch_size: samples run at once.
        seed: of the places.
        device: torch device.
        progress: told how many batches are done.
    """
    generator = np.random.default_rng(seed)
    chosen = {
        relu.name: torch.from_numpy(
            _places(generator, ann.shape(relu.name)[1:], len(calibration), places)
        )
        for relu in ann.nodes_of(Relu)
    }
    network = TorchANN(ann, device=device)

    def sample(start: int, batch: Array) -> tuple[dict[str, Tensor], Array]:
        picked: dict[str, Tensor] = {}

        def observe(node: Node, value: Tensor) -> None:
            if node.name in chosen:
                flat = value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)
                index = chosen[node.name][start : start + len(value)].to(value.device)
                taken = flat.gather(2, index.unsqueeze(1).expand(-1, flat.shape[1], -1))
                picked[node.name] = taken.transpose(0, 1).flatten(1)  # [C, B places]

        logits = network.run(batch, observe)
        return picked, logits

    batches = -(-len(calibration) // batch_size)
    found = list(tracked(calibration.map(batch_size, sample), "activations", batches, progress))
    values = {name: torch.cat([picked[name] for picked, _ in found], dim=1) for name in chosen}
    logits = torch.from_numpy(np.concatenate([part for _, part in found]))
    return SampledActivations(places=chosen, values=values, logits=logits)


def _places(
    generator: np.random.Generator, positions: tuple[int, ...], samples: int, places: int
) -> np.ndarray:
    """Positions of each sample, [N, places a sample], without one twice."""
    count = int(np.prod(positions))
    wanted = min(count, max(1, places // samples))
    if wanted == count:
        return np.tile(np.arange(count), (samples, 1))
    # The smallest of random keys: a draw without replacement for all samples at once.
    keys = generator.random((samples, count), dtype=np.float32)
    return np.sort(np.argpartition(keys, wanted, axis=1)[:, :wanted], axis=1)
