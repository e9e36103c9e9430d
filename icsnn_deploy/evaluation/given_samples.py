"""Samples in any form that Python code has them in, as the data set of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.evaluation.encoded_samples import encoded_set
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.encoder import are_spikes
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.judging.labels import labels_beside
from icsnn_deploy.sources.network_samples import network_samples
from icsnn_deploy.sources.source import ArraySource


@dataclass(frozen=True, eq=False)
class HeldArray:
    """Samples in one array, as the network takes them.

    Args:
        array: [N, *shape], or [T, N, *shape] with axis 1.
        axis: of the samples.
    """

    array: Array
    axis: int = 0

    @property
    def name(self) -> str:
        """Where the samples are, as messages name it."""
        return "samples"

    def __len__(self) -> int:
        return int(self.array.shape[self.axis])

    def blank(self) -> Array:
        """One sample."""
        return self.read(0, 1)

    def read(self, start: int, stop: int) -> Array:
        """Samples `start` to `stop`."""
        return self.array[(slice(None),) * self.axis + (slice(start, stop),)]

    def digest(self) -> str:
        """A hash of the samples, which may be in another order in another process."""
        array = np.moveaxis(self.array, self.axis, 0)
        return ArraySource("samples", array, None, is_ordered=False).digest()


def open_given(
    bundle: Bundle,
    network: Graph,
    given: Any,
    labels: Any,
    *,
    limit: int | None,
    channels_last: bool | None,
) -> tuple[DataSet, Any]:
    """The samples as a data set, and the labels: those given, or those beside the samples.

    Args:
        bundle: whose normalization and seed of rate encoding count.
        network: its network, with the tasks that it is judged by.
        given: a DataSet, which is returned; or samples as sources.held.held takes them.
        labels: as evaluate takes them.
        limit: of the samples.
        channels_last: as for pixels.is_channels_last.

    Raises:
        DataError: samples that the network does not take.
    """
    if hasattr(given, "blank") and hasattr(given, "read"):
        return given, labels
    found = network_samples(
        network,
        given,
        "samples",
        normalization=bundle.normalization,
        channels_last=channels_last,
        limit=limit if labels is None else None,  # labels that are given are those of all
        keep_labels=labels is None,
    )
    if labels is None:
        labels = labels_beside(network, found.labels)
    spikes = network.input.is_timed and are_spikes(network, found.samples.shape)
    data_set = HeldArray(found.samples, int(spikes))
    return (data_set if spikes else encoded_set(bundle, data_set)), labels
