"""Samples in any form that Python code has them in, as one array.

Every function that takes samples reads them here: an array, a tensor, (X, y), a Dataset, a
DataLoader, or an iterable of batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.batches import Batch, as_array, as_labels, split_batch, spool
from icsnn_deploy.sources.data_sets import as_pair, batches_of, gives_items, is_data_set
from icsnn_deploy.sources.selection import Selection, check_limit


def held(
    given: Any,
    what: str,
    *,
    limit: int | None = None,
    mixed: bool = False,
    input_key: str | None = None,
    label_key: str | None = None,
    keep_labels: bool = False,
    axis: int = 0,
    progress: Progress = silent,
) -> Batch:
    """All samples as an array [N, *shape], and their labels [N, ...].

    An array or a tensor in memory is used where it is; everything else is read once, in order, into
    a temporary file that is mapped.

    Args:
        given: an array or a tensor; (X, y); a Dataset; a DataLoader or an iterable of batches. A
            batch is an array or tensor [B, *shape], a tuple or list whose first entry is one, or a
            dict with an entry `input_key` that is one. The items of a Dataset are such, without B.
        what: what is read, the beginning of messages: "calibration data".
        limit: read at most this many; of a Dataset evenly spread over all, otherwise the first.
        mixed: read the items of a Dataset in a mixed order (selection.mixed_order).
        input_key: of dict batches, the entry that holds the samples.
        label_key: of dict batches, the entry that holds the labels.
        keep_labels: whether labels are wanted; without, they are None.
        axis: of the samples in arrays and batches. 1: spikes [T, N, *shape], which become
            [N, T, *shape].
        progress: called with the number of samples read.

    Raises:
        DataError: another type, no samples, batches of different shapes or types, or a limit below
            1.
    """
    check_limit(limit)
    batch_name = f"a batch of {what}" if what != "calibration data" else "a calibration batch"
    pair = as_pair(given, what)
    if pair is not None:
        batch = split_batch(pair.samples, batch_name, input_key=input_key)
        array = _batch_first(as_array(batch.samples, batch_name), axis)
        labels = as_labels(pair.labels) if keep_labels else None
        return Batch(array[:limit], None if labels is None else labels[:limit])
    items = is_data_set(given)
    if items:
        data_set = given
        numbers = Selection(limit, mixed=mixed).numbers(len(data_set))
        given = (data_set[number] for number in numbers)
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise DataError(
            f"{what} of type {type(given).__name__}: an array, a DataLoader or an "
            "iterable of batches is needed"
        )
    items = items or gives_items(given)
    batches = batches_of(given, batch_name, items=items, input_key=input_key, label_key=label_key)
    if axis and not items:
        batches = (
            Batch(_batch_first(as_array(one.samples, batch_name), axis), one.labels)
            for one in batches
        )
    samples, labels = spool(
        batches,
        batch_name,
        limit=limit,
        progress=progress,
        stage=f"reading {what}",
        keep_labels=keep_labels,
    )
    return Batch(samples, labels)


def _batch_first(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, 0) if axis < array.ndim else array
