"""Data sets of a network with spike input: samples are encoded, or binned, as they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import are_stored_samples, array_shape
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.packed_samples import input_specs, open_inputs
from icsnn_deploy.evaluation.samples import DataSet, array_specs
from icsnn_deploy.graph.arrangement import parts_of_input
from icsnn_deploy.graph.encoder import encoded
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSamples:
    """Samples in [0, 1]; `read` returns their spikes, [T, N, *shape].

    Args:
        graph: the network, with rate encoding.
        seed: of Bernoulli spikes; None: deterministic spikes.
        frames: the samples.
    """

    graph: Graph
    seed: int | None
    frames: DataSet

    @property
    def name(self) -> str:
        """Where the samples are, as messages name it."""
        return self.frames.name

    def __len__(self) -> int:
        return len(self.frames)

    def digest(self) -> str:
        """As of the samples that are encoded."""
        return self.frames.digest()

    def blank(self) -> Array:
        """The spikes of one sample."""
        return self._encoded(self.frames.blank())

    def read(self, start: int, stop: int) -> Array:
        """The spikes of samples `start` to `stop`."""
        return self._encoded(self.frames.read(start, stop))

    def _encoded(self, samples: Array) -> Array:
        try:
            return encoded(self.graph, samples, self.seed)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error


def encoded_set(bundle: Bundle, frames: DataSet) -> DataSet:
    """Samples as a bundle's network takes them; those of rate encoding are encoded."""
    network = bundle.network()
    if network.input.encoding != "rate":
        return frames
    return EncodedSamples(graph=network, seed=bundle.rate_seed, frames=frames)


def open_files(bundle: Bundle, spec: str, *, channels_last: bool | None = None) -> DataSet:
    """Open files of arrays for a bundle's network, as packed_samples.open_inputs.

    A network with rate encoding takes spikes [T, N, *shape], or the samples that are encoded.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    node, whole = bundle.network().input, bundle.takes_arrays_unchanged
    frames = are_frames(node, spec)
    opened = open_inputs(
        before_encoding(node) if frames else node,
        spec,
        normalization=bundle.normalization,
        whole=whole or (node.is_timed and not frames),  # spikes may be of any type
        channels_last=channels_last,
    )
    return encoded_set(bundle, opened) if frames else opened


def are_frames(node: Input, spec: str) -> bool:
    """Whether files hold the samples of a rate-encoded input, not spikes; reads one header."""
    if node.encoding != "rate":
        return False
    if are_stored_samples(spec):
        return False
    first = next(iter(input_specs(node, spec).values()))
    shape, _ = array_shape(array_specs(first)[0])
    return len(shape) == len(parts_of_input(node)[0].shape) + 1


def before_encoding(node: Input) -> Input:
    """The input node that takes the samples which are encoded: without a time axis for rate."""
    return replace(node, encoding="direct") if node.encoding == "rate" else node
