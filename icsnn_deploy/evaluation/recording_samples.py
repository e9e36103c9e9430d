"""Data sets of event recordings, which are read and binned a shard at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.source_samples import check_classes, given_labels
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.folder import (
    RecordingFolder,
    bin_recordings,
    find_recordings,
    refuse_recordings,
)
from icsnn_deploy.graph.arrangement import input_parts, is_classifier, output_parts
from icsnn_deploy.graph.encoder import placed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingSamples:
    """Recordings; `read` returns their spikes, uint8 [T, N, C, H, W].

    Args:
        graph: the network, with events encoding.
        folder: the recordings.
        binning: how they become the network's input.
    """

    graph: Graph
    folder: RecordingFolder
    binning: EventBinning

    @property
    def name(self) -> str:
        """The first recording, as messages name it."""
        return str(self.folder.paths[0])

    @property
    def labels(self) -> Array | None:
        """Class indices [N] by the folders of the recordings; None without such folders."""
        return self.folder.labels

    def __len__(self) -> int:
        return len(self.folder)

    def digest(self) -> str:
        """Empty: files are in the same order in every process."""
        return ""

    def blank(self) -> Array:
        """A recording without events."""
        shape = (self.binning.time_steps, 1, *self.binning.shape)
        return placed(self.graph, np.zeros(shape, np.uint8))

    def read(self, start: int, stop: int) -> Array:
        """The spikes of recordings `start` to `stop`."""
        return placed(self.graph, bin_recordings(self.folder.paths[start:stop], self.binning))


def open_recordings(bundle: Bundle, spec: str) -> RecordingSamples | None:
    """Open recordings for a bundle's network; their events are not read.

    Returns:
        None where the network does not take events, or the spec names something else.

    Raises:
        DataError: recordings for a network that takes none, or damaged ones; names the file.
    """
    network = bundle.network()
    if network.input.encoding != "events":
        encoding = network.input.encoding
        refuse_recordings(
            spec,
            f"the network takes samples ({encoding} encoding); convert it with --encoding events "
            "and --event-shape C,H,W",
        )
        return None
    folder = find_recordings(spec)
    if folder is None:
        return None
    return RecordingSamples(graph=network, folder=folder, binning=binning_of(bundle))


def recording_labels(
    graph: Graph, name: str, folder: RecordingFolder, spec: str | None
) -> Mapping[str, Array] | Array | None:
    """The labels of recordings, in the order in which they are samples.

    Args:
        graph: the network.
        name: where the recordings are, for messages.
        folder: all recordings there.
        spec: as for given_labels: of recordings in folders of classes, by class, then by file name;
            None: those of the folders, where the network's output is one class.

    Raises:
        DataError: labels or classes that can't be those of the network.
    """
    if spec is None:
        if not folder.classes or not is_classifier(graph):
            return None
        check_classes(name, folder.classes, output_parts(graph)[0].shape)
        return folder.labels
    found = given_labels(graph, spec, None)
    if not isinstance(found, Mapping) or not folder.classes:
        return found
    try:
        return {output: folder.in_order(labels) for output, labels in found.items()}
    except DataError as error:
        raise DataError(f"{spec}: {error}") from error


def binning_of(bundle: Bundle) -> EventBinning:
    """How recordings become the input of a bundle's network.

    Raises:
        DataError: an input that is no image of one or two channels.
    """
    network = bundle.network()
    shape = input_parts(network)[0].shape
    return EventBinning(time_steps=network.steps, shape=shape, bins=bundle.event_bins or "duration")
