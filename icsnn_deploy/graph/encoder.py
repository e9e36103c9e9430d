"""Samples as an ANN and as its IF network take them, for each encoding of the input.

    encoding    samples are             the ANN takes           the network takes
    direct      [B, *shape]             the samples             the samples
    rate        [B, *shape] in [0, 1]   the samples             spikes [T, B, *shape]
    events      [B, T, *shape], 0 or 1  their mean over T       spikes [T, B, *shape]

The first layer is linear: its mean current over T steps is that of the mean of the spikes over T.
So the weights of the ANN are also those of a network that takes spikes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import input_parts, place_parts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import encode_rate
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding, is_timed


@dataclass(frozen=True, kw_only=True)
class InputEncoder:
    """The encoding of a network's input.

    Args:
        encoding: "direct", "rate" or "events".
        time_steps: T of the network.
        seed: rate encoding: of Bernoulli spikes; None for deterministic, evenly spaced spikes.
    """

    encoding: Encoding = "direct"
    time_steps: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.encoding not in ("direct", "rate", "events"):
            raise DataError(f"encoding {self.encoding!r}: direct, rate or events is needed")
        if self.seed is not None and self.encoding != "rate":
            raise DataError(
                f"a seed of the input's spikes with {self.encoding} encoding: only rate encoding "
                "draws spikes; leave the seed out"
            )
        if self.seed is not None and self.seed < 0:
            raise DataError(f"seed {self.seed} of the input's spikes: 0 or more is needed")

    @property
    def is_timed(self) -> bool:
        """Whether the network takes spikes [T, B, *shape]."""
        return is_timed(self.encoding)

    def frames(self, samples: Array) -> Array:
        """What the ANN takes for a batch of samples, [B, *shape]."""
        if self.encoding == "events":
            mean: Array = samples.mean(axis=1, dtype=np.float32)
            return mean
        return rates(samples) if self.encoding == "rate" else samples

    def inputs(self, samples: Array) -> Array:
        """What the network takes: the samples, or their spikes as uint8 [T, B, *shape]."""
        if self.encoding == "events":
            return np.moveaxis(samples, 1, 0).astype(np.uint8)
        if self.encoding == "rate":
            return encode_rate(rates(samples), self.time_steps, seed=self.seed)
        return samples

    def check(self, samples: Array, name: str = "calibration data") -> None:
        """Raise DataError unless these are samples of the encoding (the table above).

        Args:
            samples: a batch.
            name: of the samples, for the message.
        """
        if self.encoding == "events":
            if samples.ndim < 3 or samples.shape[1] != self.time_steps:
                steps = samples.shape[1] if samples.ndim > 1 else 0
                raise DataError(
                    f"{name} of {steps} steps: events encoding takes spikes [T, N, *shape] with "
                    f"T = {self.time_steps}, the time steps of the network"
                )
            if not ((samples == 0) | (samples == 1)).all():
                raise DataError(
                    f"{name} of values {samples.min()} to {samples.max()}: events encoding takes "
                    "spikes, 0 or 1; clip the counts of events to 1, or use more time steps"
                )
        elif self.encoding == "rate" and samples.dtype != np.uint8:
            _check_rates(samples, name)


DIRECT = InputEncoder()
"""Samples are a current, the same at every step."""


def _check_rates(samples: Array, name: str) -> None:
    if not ((samples >= 0) & (samples <= 1)).all():  # NaN is neither
        low, high = samples.min(), samples.max()
        raise DataError(
            f"{name} of values {low} to {high}: rate encoding takes [0, 1], the share of steps "
            "with a spike. Scale the samples, (x - low) / (high - low), and train on scaled ones; "
            "or give uint8 images with the mean and std of the training"
        )


def rates(samples: Array) -> Array:
    """Samples as rates: uint8 pixels divided by 255, other values as they are."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32) / np.float32(255)
    return samples


def encoder_of(graph: Graph, seed: int | None = None) -> InputEncoder:
    """The encoder of a network's input.

    Args:
        graph: the network.
        seed: of Bernoulli spikes (Bundle.rate_seed).
    """
    encoding = graph.input.encoding
    steps = graph.steps if graph.input.is_timed else 1
    return InputEncoder(
        encoding=encoding, time_steps=steps, seed=seed if encoding == "rate" else None
    )


def are_spikes(graph: Graph, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is spikes of a network with spike input, [T, B, *shape]."""
    parts = input_parts(graph)
    rank = len(parts[0].shape) if len(parts) == 1 else len(graph.input.shape)
    return graph.input.is_timed and len(shape) != rank + 1


def encoded(graph: Graph, samples: Array, seed: int | None = None) -> Array:
    """Samples as the network takes them; spikes [T, B, *shape] are returned as they are.

    Args:
        graph: the network.
        samples: of rate encoding, values in [0, 1] or uint8 pixels, [B, *shape]; of direct
            encoding, the input itself.
        seed: of Bernoulli spikes; None for deterministic ones.

    Raises:
        DataError: values that rate encoding does not take.
    """
    array = np.asarray(samples)
    if graph.input.encoding != "rate" or are_spikes(graph, array.shape):
        return array
    encoder = encoder_of(graph, seed)
    encoder.check(array, "samples")
    return encoder.inputs(array)


def with_encoding(graph: Graph, encoder: InputEncoder) -> Graph:
    """The network with the encoder's encoding at its input."""
    return graph.replace(replace(graph.input, encoding=encoder.encoding))


def placed(graph: Graph, samples: Array) -> Array:
    """Samples of a model with one input, with any axes before its shape, as the graph takes them.

    Args:
        graph: the network or ANN, whose input may be arranged otherwise than the model's.
        samples: [B, *shape] or [B, T, *shape] of the model's input.
    """
    (part, *others) = input_parts(graph)
    if graph.input.index is None or others or samples.shape[-len(part.shape) :] != part.shape:
        return samples
    return place_parts(graph.input, {part.name: samples})
