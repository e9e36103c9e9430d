"""Data sets that are too large to be read at once: one array, or a folder of arrays, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from icsnn_deploy.data import Normalization, array_shape, as_samples, load_array, load_labels
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.judging.labels import are_indices, label_specs, task_remedy
from icsnn_deploy.pixels import channels_first, check_images, is_channels_last


class DataSet(Protocol):
    """Samples of a network that are read a few at a time."""

    @property
    def name(self) -> str:
        """Where the samples are, as messages name it."""

    def __len__(self) -> int: ...

    def blank(self) -> Array:
        """One sample with the shape and dtype of what `read` returns."""

    def read(self, start: int, stop: int) -> Array:
        """Read samples `start` to `stop`, in the form that the network's input takes."""

    def digest(self) -> str:
        """A hash that differs where the samples are in another order; empty: they never are."""


@dataclass(frozen=True)
class Piece:
    """The array of one file: samples `start` to `stop` of the data set."""

    spec: str
    start: int
    stop: int


@dataclass(eq=False)
class Samples:
    """Samples [N, ...], or [T, N, ...] of spike input, that are read a few at a time.

    A .npy file is memory-mapped; an .npz file can't be, and is held while its samples are read.
    """

    pieces: Sequence[Piece]
    sample: tuple[int, ...]  # shape of one sample in the files
    dtype: np.dtype[Any]
    axis: int  # of the samples
    normalization: Normalization | None
    whole: bool  # arrays of any dtype are used unchanged
    channels_last: bool = False
    _open: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.pieces[-1].stop

    @property
    def name(self) -> str:
        """Where the samples are, as messages name it."""
        return self.pieces[0].spec

    def digest(self) -> str:
        """Empty: files are in the same order in every process."""
        return ""

    def blank(self) -> Array:
        """One sample of zeros, with the shape and dtype of what `read` returns; reads no file."""
        shape = (*self.sample[: self.axis], 1, *self.sample[self.axis :])
        return self._taken(np.zeros(shape, self.dtype))

    def read(self, start: int, stop: int) -> Array:
        """Read samples `start` to `stop`, in the form that the network's input takes."""
        parts = []
        for piece in self.pieces:
            inside = range(max(start, piece.start), min(stop, piece.stop))
            if inside:
                rows = slice(inside.start - piece.start, inside.stop - piece.start)
                array = self._array(piece.spec)
                parts.append(array[rows] if self.axis == 0 else array[:, rows])
        return self._taken(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self.axis))

    def _taken(self, array: Array) -> Array:
        if self.whole:
            array = np.asarray(array)
            return channels_first(array, self.axis + 1) if self.channels_last else array
        return as_samples(array, self.normalization, self.channels_last, self.name)

    def _array(self, spec: str) -> Array:
        if spec not in self._open:
            self._open = {spec: load_array(spec)}
        return self._open[spec]


def open_samples(
    spec: str,
    *,
    axis: int = 0,
    normalization: Normalization | None = None,
    whole: bool = False,
    channels_last: bool | None = None,
    own: Sequence[int] | None = None,
) -> Samples:
    """Open samples; only the headers of the files are read.

    Args:
        spec: FILE.npz:array, FILE.npy, FOLDER:array of .npz files, or FOLDER of .npy files.
        axis: of the samples.
        normalization: of images, as for data.load_images.
        whole: use arrays of any dtype unchanged.
        channels_last, own: as for pixels.is_channels_last.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    pieces: list[Piece] = []
    first: tuple[tuple[int, ...], np.dtype[Any]] | None = None
    last = False
    for name in array_specs(spec):
        shape, dtype = array_shape(name)
        if len(shape) <= axis:
            raise DataError(f"{name}: shape {list(shape)}; axis {axis} of the samples is missing")
        if whole:
            last = is_channels_last(name, shape[axis:], None, channels_last, own)
        else:
            last = is_channels_last(name, shape, normalization, channels_last, own)
            check_images(name, shape, dtype, normalization, last)
        kind = ((*shape[:axis], *shape[axis + 1 :]), dtype)
        if first is not None and kind != first:
            raise DataError(
                f"{name}: {dtype} samples {list(kind[0])}, but those of the files before it are "
                f"{first[1]} {list(first[0])}"
            )
        first = kind
        start = pieces[-1].stop if pieces else 0
        pieces.append(Piece(name, start, start + shape[axis]))
    if first is None or not pieces[-1].stop:
        raise DataError(f"{spec}: no samples")
    return Samples(pieces, *first, axis, normalization, whole, last)


def open_labels(spec: str, *, remedy: str = "") -> Array:
    """Read class indices [N], int64.

    Args:
        spec: where they are, as for open_samples.
        remedy: what to do with labels of another form, for the message.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    return np.concatenate([load_labels(name, remedy=remedy) for name in array_specs(spec)])


def open_output_labels(graph: Graph, spec: str) -> dict[str, Array]:
    """Read the labels of each output that has some, named as label_specs says.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    tasks, found = output_tasks(graph), {}
    for name, own in label_specs(graph, spec).items():
        if are_indices(graph, name):
            found[name] = open_labels(own, remedy=task_remedy(name, tasks[name]))
        else:
            found[name] = _joined({piece: load_array(piece) for piece in array_specs(own)})
    return found


def _joined(pieces: Mapping[str, Array]) -> Array:
    """Arrays [N, *shape] of several files, by file, as one."""
    first, array = next(iter(pieces.items()))
    for spec, other in pieces.items():
        if other.ndim == 0 or other.shape[1:] != array.shape[1:]:
            raise DataError(
                f"{spec}: {list(other.shape)}, but {first} holds {list(array.shape)}; arrays [N, "
                "...] of one shape are needed"
            )
    return array if len(pieces) == 1 else np.concatenate(list(pieces.values()))


def array_specs(spec: str) -> list[str]:
    """The specs of the single arrays that a spec names."""
    if _is_folder(spec):
        specs = [str(path) for path in sorted(Path(spec).glob("*.npy"))]
        missing = ".npy files (for .npz files name their array, FOLDER:array)"
    else:
        folder, _, name = spec.rpartition(":")
        if not folder or not _is_folder(folder):
            return [spec]
        specs = [f"{path}:{name}" for path in sorted(Path(folder).glob("*.npz"))]
        missing = ".npz files"
    if not specs:
        raise DataError(f"{spec}: the folder holds no {missing}")
    return specs


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:  # a name that the file system does not accept: opening it raises DataError
        return False
