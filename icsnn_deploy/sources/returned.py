"""What a callable of the user's returned, as a source of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count as counted
from typing import Any

from icsnn_deploy.errors import DataError
from icsnn_deploy.sources.batches import (
    Batch,
    as_array,
    as_labels,
    is_image,
    split_batch,
    spool,
)
from icsnn_deploy.sources.data_sets import as_pair, batches_of, gives_items, is_array, is_data_set
from icsnn_deploy.sources.image_folder import SAME_SIZE
from icsnn_deploy.sources.images import to_pixels
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.source import ArraySource, ItemSource, NamedArrays, Source
from icsnn_deploy.user_code import load_callable, running

ALLOWED = (
    "a Dataset, a DataLoader, an iterable of batches, an array or tensor, (X, y), or a dict of "
    "arrays"
)


def open_callable(spec: str, reading: Reading, *, channels: int | None) -> Source | NamedArrays:
    """Call the user's code and open what it returns.

    Args:
        spec: package.module:callable or path/to/file.py:callable, called without arguments.
        reading: how, and which, samples are read.
        channels: of the network's input, for PIL images; None: there can be none.

    Raises:
        DataError: names the callable, and what it raised or returned.
    """
    make = load_callable(spec, DataError)
    with running(f"{spec}: calling it", DataError):
        found = make()
    with running(f"{spec}: what it returned", DataError):
        return _open_returned(found, spec, reading, channels)


def _open_returned(
    found: Any, name: str, reading: Reading, channels: int | None
) -> Source | NamedArrays:
    """Open samples of any form that Python code returns; arguments as for open_callable."""
    options, selection = reading.options, reading.selection
    if isinstance(found, Mapping):
        return _of_mapping(found, name, options, selection.limit)
    pair = as_pair(found, name)
    if pair is not None:
        return _of_arrays(pair, name, options, selection.limit)
    if is_data_set(found):
        return _of_items(found, name, reading, channels)
    if isinstance(found, (str, bytes)) or not isinstance(found, Iterable):
        raise DataError(f"{name}: returned {type(found).__name__}; {ALLOWED} is needed")
    options.require_only(name, "batches", "input_key", "label_key", "channels_last")
    batches = batches_of(
        _guarded(found, name),
        f"{name}: a batch",
        items=gives_items(found),
        input_key=options.input_key,
        label_key=options.label_key,
    )
    samples, labels = spool(
        batches,
        f"{name}: a batch",
        limit=selection.limit,
        progress=reading.progress,
        stage="reading samples",
        keep_labels=reading.keep_labels,
    )
    if samples.ndim < 2:
        raise DataError(f"{name}: batches of shape [N]; [N, *shape] is needed")
    source = ArraySource(name, samples, labels, is_ordered=False)
    if len(samples) == selection.limit:
        source.whole_count = None
    return source


def _of_mapping(
    found: Mapping[Any, Any], name: str, options: SourceOptions, limit: int | None
) -> Source | NamedArrays:
    if options.input_key is not None:
        batch = split_batch(
            found, f"{name}: a dict", input_key=options.input_key, label_key=options.label_key
        )
        return _of_arrays(batch, name, options, limit, keyed=True)
    options.require_only(name, "a dict of arrays", "input_key", "label_key", "channels_last")
    for key, value in found.items():
        if not is_array(value):
            raise DataError(
                f"{name}: a dict of {', '.join(map(str, list(found)[:20]))}, of which {key} is of "
                f"type {type(value).__name__}; name the entry that holds the samples with "
                "--input-key, or return arrays alone"
            )
    arrays = {str(key): as_array(value, f"{name}: {key}") for key, value in found.items()}
    count = max((len(array) for array in arrays.values()), default=0)
    return NamedArrays(name, {key: array[:limit] for key, array in arrays.items()}, count)


def _of_arrays(
    pair: Batch, name: str, options: SourceOptions, limit: int | None, *, keyed: bool = False
) -> ArraySource:
    allowed = ("channels_last", *(("input_key", "label_key") if keyed else ()))
    options.require_only(name, "arrays", *allowed)
    samples = as_array(pair.samples, f"{name}: samples")
    if samples.ndim < 2 or not len(samples):
        raise DataError(f"{name}: samples of shape {list(samples.shape)}; [N, *shape] is needed")
    labels = as_labels(pair.labels)
    source = ArraySource(name, samples[:limit], None if labels is None else labels[:limit])
    source.whole_count = len(samples)
    return source


def _of_items(data_set: Any, name: str, reading: Reading, channels: int | None) -> ItemSource:
    options = reading.options
    with running(f"{name}: asking for its length", DataError):
        length = len(data_set)

    def item(number: int) -> Batch:
        with running(f"{name}: item {number}", DataError):
            value = data_set[number]
        keys = {"input_key": options.input_key, "label_key": options.label_key}
        batch = split_batch(value, f"{name}: item {number}", **keys)
        return Batch(_pixels(batch.samples, f"{name}: item {number}"), batch.labels)

    def _pixels(value: Any, what: str) -> Any:
        if not is_image(value):
            options.require_only(name, "items that are no images", *_OF_ARRAYS)
            return value
        options.require_only(name, "items that are images", *_OF_IMAGES)
        if channels is None:
            raise DataError(f"{what} is an image: {PIXELS_NEEDED}")
        return to_pixels(value, reading.of_images, channels, what)

    return ItemSource(
        name,
        item,
        length,
        selection=reading.selection,
        remedy=f"{SAME_SIZE}, or make them alike",
    )


_OF_ARRAYS = ("input_key", "label_key", "channels_last")
_OF_IMAGES = ("input_key", "label_key", "resize", "crop")

PIXELS_NEEDED = (
    "the network takes no pixels of 8 bits. Convert with --mean and --std (--mean 0,0,0 --std "
    "1,1,1 where the model takes pixels / 255), or give a callable that returns the arrays"
)
"""What to do with images where the network takes other numbers."""


def _guarded(found: Iterable[Any], name: str) -> Iterator[Any]:
    """The entries of an iterable of the user's; what it raises is named."""
    with running(f"{name}: iterating over it", DataError):
        iterator = iter(found)
    for number in counted():
        with running(f"{name}: reading entry {number}", DataError):
            try:
                value = next(iterator)
            except StopIteration:
                return
        yield value
