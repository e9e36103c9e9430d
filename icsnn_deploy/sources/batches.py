"""Batches and items of any form as arrays, and many of them in one temporary file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrays import is_tensor, to_numpy
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress


class Batch(NamedTuple):
    """A batch or an item, as a data set gives it: its samples, and its labels if it has some."""

    samples: Any
    labels: Any = None


def is_image(value: object) -> bool:
    """Whether a value is a PIL image; Pillow is not loaded for it."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def split_batch(
    batch: Any, what: str, *, input_key: str | None = None, label_key: str | None = None
) -> Batch:
    """The samples and labels of a batch or an item.

    Args:
        batch: an array or a tensor; a tuple or list of samples and labels; or a dict.
        what: what it is, the beginning of messages: "data.py:calibration: a batch".
        input_key: the entry of a dict that holds the samples; a dict of one entry needs none.
        label_key: the entry of a dict that holds the labels.

    Raises:
        DataError: a dict without the entry; names the entries that it has.
    """
    labels = None
    keyed = False
    while True:
        if isinstance(batch, Mapping):
            if label_key is not None:
                labels = _entry(batch, label_key, what, "--label-key", "label_key")
            if input_key is None and len(batch) == 1:
                batch = next(iter(batch.values()))
            else:
                batch = _entry(batch, input_key, what, "--input-key", "input_key")
            keyed = True
        elif isinstance(batch, (tuple, list)) and batch:
            if labels is None and len(batch) > 1 and not keyed:
                labels = batch[1]
            batch = batch[0]
        else:
            break
    if not keyed and (input_key is not None or label_key is not None):
        flag = "--input-key" if input_key is not None else "--label-key"
        raise DataError(
            f"{what} of type {type(batch).__name__} with {flag} "
            f"{input_key if input_key is not None else label_key}, which names an entry of a "
            "dict; leave it out"
        )
    return Batch(batch, labels)


def _entry(batch: Mapping[Any, Any], key: str | None, what: str, flag: str, argument: str) -> Any:
    if key is not None and key in batch:
        return batch[key]
    problem = f"without {key!r}" if key is not None else f"of type {type(batch).__name__}"
    keys = ", ".join(map(str, list(batch)[:20])) or "nothing"
    raise DataError(f"{what} {problem}: it holds {keys}; name one with {flag} ({argument})")


def as_array(value: Any, what: str) -> Array:
    """An array or a tensor as an array of real numbers: floats become float32.

    Args:
        value: an array or a tensor.
        what: what it is, the beginning of messages.

    Raises:
        DataError: another type, or numbers that are not real.
    """
    if is_tensor(value):
        array = to_numpy(value)
    elif isinstance(value, np.ndarray):
        array = value  # a mapped file stays one
    else:
        raise DataError(f"{what} of type {type(value).__name__}: array or tensor")
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise DataError(
            f"{what} of type {array.dtype} and shape {array.shape}: "
            "real numbers [B, *shape] are needed"
        )
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite, and is refused
        return array.astype(np.float32, copy=False)


def as_labels(value: Any) -> Array | None:
    """Labels as an array; None where they are not numbers of one shape (a detector's boxes)."""
    if value is None or isinstance(value, (str, bytes, Mapping)):
        return None
    if is_tensor(value):
        value = to_numpy(value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal length and the like
        return None
    return array if array.dtype.kind in "fiub" else None


def spool(
    batches: Iterable[Batch],
    what: str,
    *,
    limit: int | None,
    progress: Progress,
    stage: str,
    total: int | None = None,
    keep_labels: bool = False,
) -> tuple[Array, Array | None]:
    """Write the batches to an unnamed temporary file, in order, and map it.

    Args:
        batches: samples [B, *shape] and their labels.
        what: what a batch is, the beginning of messages.
        limit: reading stops after this many samples; None: at the end.
        progress: called with the number of samples read.
        stage: how progress names it.
        total: number of samples, where it is known.
        keep_labels: whether labels are wanted.

    Returns:
        The samples [N, *shape], and the labels [N, ...] where each batch has some.

    Raises:
        DataError: no samples, batches of different shapes or types, or a full disk.
    """
    count, first = 0, None
    labels: list[Array] | None = [] if keep_labels else None
    with tempfile.TemporaryFile() as file:
        for batch in batches:
            array = as_array(batch.samples, what)
            if labels is not None:
                labels = _joined(labels, batch.labels, len(array), what)
            if limit is not None:
                array = array[: limit - count]
            if first is None:
                first = array
            elif array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise DataError(
                    f"{what} {array.dtype} {list(array.shape)} after "
                    f"{first.dtype} {list(first.shape)}: all batches must be of one kind"
                )
            _write(file, array)
            count += len(array)
            progress(stage, count, limit if total is None else total)
            if limit is not None and count >= limit:
                break
        if first is None or count == 0:
            where = what.rpartition(": ")[0]
            raise DataError(f"{where or 'the calibration data'} holds no samples")
        file.flush()
        # The mapping keeps the file alive after it is closed.
        mapped = np.memmap(file, first.dtype, "r", shape=(count, *first.shape[1:]))
    if not labels:
        return mapped, None
    try:
        return mapped, np.concatenate(labels)[:count]
    except ValueError as error:
        raise DataError(f"{what}: its labels differ in shape from those before it") from error


def _joined(labels: list[Array], found: Any, count: int, what: str) -> list[Array] | None:
    """The labels so far and those of the next batch; None where it has none."""
    array = as_labels(found)
    if array is None or array.ndim == 0:
        return None
    if len(array) != count:
        raise DataError(f"{what} of {count} samples and {len(array)} labels: one each is needed")
    return [*labels, array]


def _write(file: Any, array: Array) -> None:
    try:
        file.write(np.ascontiguousarray(array).tobytes())
    except OSError as error:
        raise DataError(
            f"writing samples to a temporary file in {tempfile.gettempdir()}: {error.strerror}; "
            "give a smaller --limit, or name another folder in TMPDIR"
        ) from error
