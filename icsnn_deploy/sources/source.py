"""Samples that are read by number: held as an array, or made item by item."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.sources.batches import Batch, as_array, as_labels
from icsnn_deploy.sources.selection import Selection

ALL = Selection()


class Source(ABC):
    """Samples [N, *shape], and their labels if it has some.

    Args:
        name: where the samples come from, as messages name it.
        class_names: names of the classes that the labels count, where they are known.
        whole_count: number of samples before a limit took some of them; None: not known, because
            reading stopped at the limit.
        numbers: which of these samples it holds; None: the first ones.
    """

    name: str
    class_names: tuple[str, ...] | None = None
    whole_count: int | None = 0
    numbers: Sequence[int] | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, start: int, stop: int) -> Array:
        """Samples `start` to `stop`, as the source gives them: float32 or integers."""

    @abstractmethod
    def labels(self, progress: Progress = silent) -> Array | None:
        """The labels of all samples, [N, ...]; None where it has none."""

    def digest(self) -> str:
        """A hash that differs where the samples are in another order; empty: they never are."""
        return ""


class ArraySource(Source):
    """Samples in one array, in memory or mapped."""

    def __init__(
        self, name: str, samples: Array, labels: Array | None, *, is_ordered: bool = True
    ) -> None:
        self.name = name
        self._samples = samples
        self._labels = labels
        self._is_ordered = is_ordered
        self.whole_count = len(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, start: int, stop: int) -> Array:
        return self._samples[start:stop]

    def labels(self, progress: Progress = silent) -> Array | None:
        return self._labels

    def digest(self) -> str:
        if self._is_ordered:
            return ""
        digest = hashlib.sha256()
        for start in range(0, len(self), 64):
            digest.update(np.ascontiguousarray(self.read(start, start + 64)).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class NamedArrays:
    """Samples of a network with several inputs: an array for each, by name.

    Args:
        name: where the samples come from.
        arrays: of each input.
        whole_count: number of samples before a limit took some of them.
    """

    name: str
    arrays: Mapping[str, Array]
    whole_count: int


class ItemSource(Source):
    """Samples that are made one by one: image files, or the items of a data set.

    Args:
        name: where the samples come from.
        item: number -> sample and label; raises DataError.
        count: number of items.
        selection: which items are used, and in which order.
        labels: of all items, where they are known without making the items.
        class_names: of the labels.
        item_name: number -> name of an item, in messages.
        remedy: what to do where samples differ in shape.
    """

    def __init__(
        self,
        name: str,
        item: Callable[[int], Batch],
        count: int,
        *,
        selection: Selection = ALL,
        labels: Array | None = None,
        class_names: tuple[str, ...] | None = None,
        item_name: Callable[[int], str] | None = None,
        remedy: str = "all samples must be of one kind",
    ) -> None:
        if not count:
            raise DataError(f"{name}: no samples")
        self.name = name
        self.class_names = class_names
        self.whole_count = count
        self.numbers = selection.numbers(count)
        self._item = item
        self._known = labels
        self._remedy = remedy
        self._item_name = item_name or (lambda number: f"{name}: item {number}")
        self._first = self._sample(0)

    def __len__(self) -> int:
        return len(self.numbers or ())

    def read(self, start: int, stop: int) -> Array:
        return np.stack([self._sample(i) for i in range(start, min(stop, len(self)))])

    def labels(self, progress: Progress = silent) -> Array | None:
        if self._known is not None:
            known: Array = self._known[np.asarray(self.numbers)]
            return known
        found: list[Array] = []
        for place, number in enumerate(self.numbers or ()):
            label = as_labels(self._item(number).labels)
            if label is None or (found and label.shape != found[0].shape):
                return None
            found.append(label)
            progress("reading labels", place + 1, len(self))
        return np.stack(found)

    def _sample(self, place: int) -> Array:
        number = (self.numbers or ())[place]
        what = self._item_name(number)
        array = as_array(self._item(number).samples, what)
        first = array if place == 0 else self._first
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"{what}: {array.dtype} {list(array.shape)}, but the first is {first.dtype} "
                f"{list(first.shape)}; {self._remedy}"
            )
        return array
