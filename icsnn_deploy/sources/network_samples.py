"""Samples in any form that Python code has them in, as a network takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import pack_into, parts_of_input
from icsnn_deploy.graph.encoder import are_spikes, placed
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input
from icsnn_deploy.pixels import as_network_samples, channels_first, is_channels_last
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.batches import Batch, as_array
from icsnn_deploy.sources.held import held
from icsnn_deploy.sources.selection import check_limit


def network_samples(
    graph: Graph,
    given: Any,
    what: str,
    *,
    normalization: Normalization | None,
    channels_last: bool | None = None,
    limit: int | None = None,
    mixed: bool = False,
    input_key: str | None = None,
    label_key: str | None = None,
    keep_labels: bool = False,
    progress: Progress = silent,
) -> Batch:
    """Samples as a network's input takes them, in the units of the samples; without rate encoding.

    Args:
        graph: the network.
        given: as for held.held; of several inputs a mapping of arrays or tensors, by name.
        what: what they are, the beginning of messages.
        normalization: of the pixels that the network takes; floats in 0..1 become pixels.
        channels_last: as for pixels.is_channels_last.
        limit, mixed, input_key, label_key, keep_labels, progress: as for held.held.

    Returns:
        Samples [N, *shape], spikes [T, N, *shape]; and their labels, where they are kept and there.

    Raises:
        DataError: samples that can't be those of the network, or a limit below 1.
    """
    check_limit(limit)
    node = graph.input
    if isinstance(given, Mapping) and input_key is None:
        return Batch(_packed(node, given, what, channels_last=channels_last, limit=limit))
    shape = getattr(given, "shape", None)  # of an array or a tensor
    over_time = shape is not None and are_spikes(graph, tuple(shape))
    axis = int(node.encoding == "events" or over_time)
    found = held(
        given,
        what,
        limit=limit,
        mixed=mixed,
        input_key=input_key,
        label_key=label_key,
        keep_labels=keep_labels,
        axis=axis,
        progress=progress,
    )
    samples: Array = found.samples
    if axis and samples.ndim > 1:
        samples = np.moveaxis(samples, 0, 1)  # [N, T, *shape] -> [T, N, *shape]
    spikes = are_spikes(graph, samples.shape)
    if is_channels_last(
        what,
        samples.shape[1:] if spikes else samples.shape,
        None if spikes else normalization,
        channels_last,
        parts_of_input(node)[0].shape,
    ):
        samples = channels_first(samples, 2 if spikes else 1)
    if not spikes:
        samples = as_network_samples(what, samples, normalization)
    return Batch(placed(graph, samples), found.labels)


def _packed(
    node: Input,
    given: Mapping[Any, Any],
    what: str,
    *,
    channels_last: bool | None,
    limit: int | None,
) -> Array:
    """The arrays of a network's inputs, by name, as the network takes them."""
    arrays = {str(name): as_array(value, f"{what}: {name}") for name, value in given.items()}
    ranks = {part.name: len(part.shape) for part in parts_of_input(node)}
    frames = all(array.ndim == ranks.get(name, 0) + 1 for name, array in arrays.items())
    taking = replace(node, encoding="direct") if node.encoding == "rate" and frames else node
    axis = taking.batch_axis
    first = (slice(None),) * axis + (slice(limit),)
    arrays = {name: array[first] for name, array in arrays.items()}
    shapes = {part.name: part.shape for part in parts_of_input(node)}
    for name, array in arrays.items():
        if is_channels_last(what, array.shape[axis:], None, channels_last, shapes.get(name)):
            arrays[name] = channels_first(array, axis + 1)
    try:
        return pack_into(taking, arrays)
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
