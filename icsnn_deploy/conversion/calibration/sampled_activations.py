"""The ANN's activations at sampled places: the targets of the calibration.

A population has one value of each parameter per channel, so that a few thousand places per channel
determine it as well as all places do. The currents of the IF network are read at the same places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node, Relu

PLACES = 1 << 15  # per channel: enough for a search of a few parameters


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledActivations:
    """Activations of every rectifier at the same number of places of each sample.

    Args:
        places: flat positions by rectifier, int64 [N, places].
        values: activations there, [C, N * places], sample by sample, activation units.
        logits: of the ANN, [N, *output shape].
    """

    places: dict[str, Tensor]
    values: dict[str, Tensor]
    logits: Tensor

    @property
    def logits_mean(self) -> Array:
        """Mean logits per channel of the output, [C], float64."""
        mean: Array = self.logits.double().transpose(0, 1).flatten(1).mean(dim=1).numpy()
        return mean

    def pick(self, name: str, currents: Tensor, start: int) -> Tensor:
        """Currents at the sampled places of a batch, [T, B, C, *positions] -> [T, C, B * places].

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
    ann: Graph, context: CalibrationContext, *, places: int = PLACES, seed: int = 0
) -> SampledActivations:
    """Run the ANN once and keep about `places` activations per channel.

    Args:
        ann: the traced network.
        context: calibration samples.
        places: activations to keep per channel, over all samples; at least one per sample is kept.
        seed: of the places.
    """
    generator = np.random.default_rng(seed)
    chosen = {
        relu.name: torch.from_numpy(
            _places(generator, ann.shape(relu.name)[1:], len(context), places)
        )
        for relu in ann.nodes_of(Relu)
    }
    network = TorchANN(ann, device=context.device)

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

    found = list(context.map(sample, stage="activations"))
    values = {name: torch.cat([picked[name] for picked, _ in found], dim=1) for name in chosen}
    logits = torch.from_numpy(np.concatenate([part for _, part in found]))
    return SampledActivations(places=chosen, values=values, logits=logits)


def _places(
    generator: np.random.Generator, positions: tuple[int, ...], samples: int, places: int
) -> np.ndarray:
    """Distinct random positions of each sample, [N, places per sample]."""
    count = int(np.prod(positions))
    wanted = min(count, max(1, places // samples))
    if wanted == count:
        return np.tile(np.arange(count), (samples, 1))
    # The smallest of random keys: a draw without replacement for all samples at once.
    keys = generator.random((samples, count), dtype=np.float32)
    return np.sort(np.argpartition(keys, wanted, axis=1)[:, :wanted], axis=1)
