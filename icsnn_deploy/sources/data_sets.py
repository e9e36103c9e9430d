"""Data sets of Python code: what gives arrays, what gives items, and what gives batches."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrays import is_tensor
from icsnn_deploy.sources.batches import Batch, as_array, as_labels, split_batch

_AT_ONCE = 64  # items that become one batch


def as_pair(found: Any, name: str) -> Batch | None:
    """X or (X, y) as samples and labels; None for anything else, such as a list of batches.

    Raises:
        DataError: a pair that does not show which it is, or whose lengths differ.
    """
    if is_array(found):
        return Batch(found)
    if not (isinstance(found, tuple) and len(found) == 2 and is_array(found[0])):
        return None
    samples, labels = found
    if not is_array(labels):
        return Batch(samples, labels)
    shapes = tuple(samples.shape), tuple(labels.shape)
    if shapes[0][1:] == shapes[1][1:] and samples.dtype == labels.dtype and len(shapes[0]) > 1:
        raise DataError(
            f"{name}: a tuple of two arrays {list(shapes[0])} and {list(shapes[1])} may be "
            "(X, y) or two batches; give X alone, a list of batches, or a dict with --input-key"
        )
    if shapes[0][:1] != shapes[1][:1]:
        raise DataError(
            f"{name}: (X, y) of shapes {list(shapes[0])} and {list(shapes[1])}; one label per "
            "sample is needed"
        )
    return Batch(samples, labels)


def is_data_set(found: Any) -> bool:
    """Whether an object gives single samples by number, as a Dataset does."""
    if isinstance(found, (list, tuple, Mapping, str, bytes)) or is_array(found):
        return False
    if gives_items(found):
        return False
    return hasattr(found, "__getitem__") and (
        hasattr(found, "__len__") or is_torch(found, "Dataset")
    )


def gives_items(found: Any) -> bool:
    """Whether iterating over an object gives single samples, as an IterableDataset does."""
    return is_torch(found, "IterableDataset")


def batches_of(
    found: Iterable[Any],
    what: str,
    *,
    items: bool,
    input_key: str | None = None,
    label_key: str | None = None,
) -> Iterator[Batch]:
    """The batches of an iterable.

    Args:
        found: batches, or items.
        what: what a batch is, the beginning of messages.
        items: whether it gives single samples, which are put together.
        input_key, label_key: as for split_batch.
    """
    waiting: list[Batch] = []
    for value in found:
        batch = split_batch(value, what, input_key=input_key, label_key=label_key)
        if not items:
            yield batch
            continue
        waiting.append(batch)
        if len(waiting) == _AT_ONCE:
            yield _stacked(waiting, what)
            waiting = []
    if waiting:
        yield _stacked(waiting, what)


def _stacked(items: list[Batch], what: str) -> Batch:
    """Items as one batch."""
    arrays = [as_array(one.samples, what) for one in items]
    kinds = {(array.shape, str(array.dtype)) for array in arrays}
    if len(kinds) > 1:
        listed = " and ".join(f"{dtype} {list(shape)}" for shape, dtype in sorted(kinds)[:2])
        raise DataError(f"{what}: items of {listed}; all samples must be of one kind")
    labels = [found for one in items if (found := as_labels(one.labels)) is not None]
    alike = len(labels) == len(items) and len({label.shape for label in labels}) == 1
    return Batch(np.stack(arrays), np.stack(labels) if alike else None)


def is_array(value: Any) -> bool:
    """Whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def is_torch(value: object, name: str) -> bool:
    """Whether a value is an instance of a class of torch.utils.data; loads nothing."""
    module = sys.modules.get("torch.utils.data")
    return module is not None and isinstance(value, getattr(module, name))
