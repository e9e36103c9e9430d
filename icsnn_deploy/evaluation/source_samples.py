"""Samples from images, data sets and the user's own code, in the form that a network takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.data import Normalization, as_samples, check_finite
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.encoded_samples import before_encoding
from icsnn_deploy.evaluation.samples import open_output_labels
from icsnn_deploy.graph.arrangement import (
    is_plain,
    output_parts,
    output_tasks,
    pack_into,
    parts_of_input,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.node import Shape
from icsnn_deploy.graph.nodes import Input
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.pixels import channels_first, check_images, is_channels_last
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.batches import Batch, spool
from icsnn_deploy.sources.open import open_source
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.source import ArraySource, NamedArrays, Source

NO_LABELS = "none"
"""The name of labels that leaves out those that samples come with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSamples:
    """Samples of a source, read a few at a time.

    Args:
        source: where they come from.
        normalization: of a network that takes pixels.
        whole: use arrays of any dtype unchanged (networks without an ANN).
        channels_last: whether the channels are the last axis of arrays (pixels.is_channels_last).
        node: the network's input, where it arranges samples in another way than the model; None:
            they are arranged already.
        own: shape of one sample that the network takes; None before there is one.
    """

    source: Source
    normalization: Normalization | None
    node: Input | None = None
    whole: bool = False
    channels_last: bool | None = None
    own: Shape | None = None

    @property
    def name(self) -> str:
        """Where the samples come from, as messages name it."""
        return self.source.name

    def __len__(self) -> int:
        return len(self.source)

    def blank(self) -> Array:
        """One sample with the shape and dtype of what `read` returns."""
        return self.read(0, 1)

    def read(self, start: int, stop: int) -> Array:
        """Read samples `start` to `stop`, in the form that the network's input takes."""
        return self.taken(self.source.read(start, stop))

    def digest(self) -> str:
        """See Source.digest."""
        return self.source.digest()

    def taken(self, array: Array) -> Array:
        """Samples as the source gives them, in the form that the network's input takes."""
        name = self.source.name
        if self.whole:
            last = is_channels_last(name, array.shape, None, self.channels_last, self.own)
            found = channels_first(array) if last else array
        else:
            shape = (len(self), *array.shape[1:])  # of all, for the message
            last = is_channels_last(name, shape, self.normalization, self.channels_last, self.own)
            check_images(name, shape, array.dtype, self.normalization, last)
            found = as_samples(array, self.normalization, last, name)
        check_finite(name, found)
        if self.node is None:
            return found
        try:
            return pack_into(self.node, {parts_of_input(self.node)[0].name: found})
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def held(self, progress: Progress) -> Array:
        """All samples, in memory or in a temporary file that is mapped."""
        if isinstance(self.source, ArraySource):
            return self.read(0, len(self))
        batches = (Batch(self.read(n, min(n + 64, len(self)))) for n in range(0, len(self), 64))
        return spool(
            batches,
            f"{self.name}: a batch",
            limit=None,
            progress=progress,
            stage="reading samples",
            total=len(self),
        )[0]


def open_source_samples(bundle: Bundle, spec: str, reading: Reading) -> SourceSamples | None:
    """Open samples that are not in array files, for a bundle's network; without encoding them.

    Args:
        bundle: its network, normalization and size of images.
        spec: as for sources.open_source; code for several inputs returns a dict of arrays.
        reading: how, and which, samples are read.

    Returns:
        The samples; None if the spec names array files.

    Raises:
        DataError: names the spec, and what is wrong with it.
    """
    node, normalization = before_encoding(bundle.network().input), bundle.normalization
    whole = bundle.takes_arrays_unchanged
    found = open_source(
        spec,
        replace(reading, image_size=bundle.image_size),
        channels=None if normalization is None else len(normalization.mean),
    )
    if found is None:
        return None
    if node.is_timed:
        raise DataError(
            f"{spec}: the network takes spikes [T, N, ...] ({node.encoding} input); give them as "
            "FILE.npz:array or FILE.npy"
        )
    last = reading.options.channels_last
    if isinstance(found, NamedArrays):
        packed = _packed(node, found, last)
        return SourceSamples(source=packed, normalization=normalization, whole=whole)
    parts = parts_of_input(node)
    if len(parts) > 1:
        raise DataError(
            f"{spec}: the network takes {', '.join(part.name for part in parts)}; give a callable "
            "that returns a dict with an array of each name, or FILE.npz"
        )
    samples = SourceSamples(
        source=found,
        normalization=normalization,
        whole=whole,
        channels_last=last,
        own=parts[0].shape,
        node=None if is_plain(node.parts, node.index, node.shape) else node,
    )
    shape = samples.blank().shape[1:]
    if shape != node.shape:
        raise DataError(
            f"{spec}: samples {list(shape)}, but the network takes {list(node.shape)}; images need "
            "--resize or --crop, arrays with the channels as their last axis --channels-last"
        )
    return samples


def given_labels(
    graph: Graph, spec: str | None, source: SourceSamples | None, progress: Progress = silent
) -> Mapping[str, Array] | Array | None:
    """The labels of each output that has some, from files, or those that samples come with.

    Args:
        graph: the network.
        spec: as for open_output_labels, of the whole data set; None: those of the source;
            NO_LABELS: none.
        source: where the samples come from; None: files of arrays.
        progress: called as labels are read.

    Raises:
        DataError: names the file or source, and what is wrong with it.
    """
    if spec == NO_LABELS:
        return None
    if spec is None:
        return None if source is None else labels_of(graph, source, progress)
    found = open_output_labels(graph, spec)
    if source is None:
        return found
    return {name: selected(labels, source) for name, labels in found.items()}


def labels_of(graph: Graph, samples: SourceSamples, progress: Progress = silent) -> Array | None:
    """The labels that a source gives with its samples, where they are of the network's only output.

    Raises:
        DataError: labels or classes that can't be those of the network.
    """
    parts, tasks = output_parts(graph), output_tasks(graph)
    if len(parts) != 1 or tasks[parts[0].name] == "detection":
        return None
    labels = samples.source.labels(progress)
    names = samples.source.class_names
    if labels is not None and names is not None:
        check_classes(samples.name, names, parts[0].shape)
    if labels is None:
        return None
    try:
        check_output_labels(graph, labels, len(samples), samples=len(samples))
    except DataError as error:
        raise DataError(
            f"{samples.name}: {error}; give others with --labels, or leave them out with --labels "
            "none"
        ) from error
    return labels


def check_classes(name: str, names: Sequence[str], shape: Sequence[int]) -> None:
    """Raise DataError unless an output of this shape has as many classes as there are names."""
    classes = max(2, math.prod(shape))
    if len(names) != classes:
        raise DataError(
            f"{name}: {len(names)} classes ({', '.join(names[:5])}{', ...' * (len(names) > 5)}), "
            f"but the network has {classes}, so that they can't be matched by their order; give "
            "the labels with --labels, or --labels none"
        )


def _packed(node: Input, found: NamedArrays, channels_last: bool | None) -> ArraySource:
    """The arrays of a network's inputs as one, as the network takes them."""
    arrays = dict(found.arrays)
    shapes = {part.name: part.shape for part in parts_of_input(node)}
    for name, array in arrays.items():
        if is_channels_last(found.name, array.shape, None, channels_last, shapes.get(name)):
            arrays[name] = channels_first(array)
    if is_plain(node.parts, node.index, node.shape):
        if len(arrays) != 1:
            raise DataError(
                f"{found.name}: a dict of {', '.join(arrays) or 'nothing'}, but the network has "
                "one input; name an entry with --input-key"
            )
        packed = next(iter(arrays.values()))
    else:
        try:
            packed = pack_into(node, arrays)
        except DataError as error:
            raise DataError(f"{found.name}: {error}") from error
    source = ArraySource(found.name, packed, None)
    source.whole_count = found.whole_count
    return source


def selected(labels: Array, samples: SourceSamples) -> Array:
    """Of labels of the whole data set, those of the samples that a limit took."""
    source = samples.source
    if source.whole_count is not None and len(labels) != source.whole_count:
        return labels
    if source.numbers is None:
        return labels[: len(samples)]
    taken: Array = labels[np.asarray(source.numbers)]
    return taken
