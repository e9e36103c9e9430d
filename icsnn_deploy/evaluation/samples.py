"""Samples in files too large to be read at once: one array, or a folder of them, in name order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.data import (
    Normalization,
    array_shape,
    as_samples,
    check_images,
    load_array,
    load_labels,
)
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True)
class Piece:
    """One file's array: samples `start` to `stop` of all."""

    spec: str
    start: int
    stop: int


@dataclass(eq=False)
class Samples:
    """Samples [N, ...], or [T, N, ...] of spike input, read a few at a time.

    A .npy file is mapped; an .npz file can't be, and is held while its samples are read.
    """

    pieces: Sequence[Piece]
    sample: tuple[int, ...]  # shape of one, in the files
    dtype: np.dtype[Any]
    axis: int  # that counts the samples
    normalization: Normalization | None
    whole: bool  # taken as they are, of whatever type
    _open: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.pieces[-1].stop

    def blank(self) -> Array:
        """One sample of zeros, in shape and type like those that read gives; no file is read."""
        shape = (*self.sample[: self.axis], 1, *self.sample[self.axis :])
        return self._taken(np.zeros(shape, self.dtype))

    def read(self, start: int, stop: int) -> Array:
        """Samples start to stop as the network takes them."""
        parts = []
        for piece in self.pieces:
            inside = range(max(start, piece.start), min(stop, piece.stop))
            if inside:
                rows = slice(inside.start - piece.start, inside.stop - piece.start)
                array = self._array(piece.spec)
                parts.append(array[rows] if self.axis == 0 else array[:, rows])
        return self._taken(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self.axis))

    def _taken(self, found: Array) -> Array:
        return np.asarray(found) if self.whole else as_samples(found, self.normalization)

    def _array(self, spec: str) -> Array:
        if spec not in self._open:
            self._open = {spec: load_array(spec)}
        return self._open[spec]


def open_samples(
    spec: str, *, axis: int = 0, normalization: Normalization | None = None, whole: bool = False
) -> Samples:
    """Samples by name; headers alone are read.

    Args:
        spec: FILE.npz:array, FILE.npy, FOLDER:array of .npz files, or FOLDER of .npy files.
        axis: that counts the samples.
        normalization: of uint8 images [N, H, W, C], as for data.load_images.
        whole: take arrays of any type as they are.

    Raises:
        DataError: names the file, and what is wrong with it.
    """
    pieces: list[Piece] = []
    first: tuple[tuple[int, ...], np.dtype[Any]] | None = None
    for name in _files(spec):
        shape, dtype = array_shape(name)
        if len(shape) <= axis:
            raise DataError(f"{name}: shape {list(shape)}; samples are counted along axis {axis}")
        if not whole:
            check_images(name, shape, dtype, normalization)
        kind = ((*shape[:axis], *shape[axis + 1 :]), dtype)
        if first is not None and kind != first:
            raise DataError(
                f"{name}: {dtype} samples {list(kind[0])}, but those before are {first[1]} "
                f"{list(first[0])}"
            )
        first = kind
        start = pieces[-1].stop if pieces else 0
        pieces.append(Piece(name, start, start + shape[axis]))
    if first is None or not pieces[-1].stop:
        raise DataError(f"{spec}: no samples")
    return Samples(pieces, *first, axis, normalization, whole)


def open_labels(spec: str) -> Array:
    """Class indices [N], int64, named as samples are; raises DataError."""
    return np.concatenate([load_labels(name) for name in _files(spec)])


def _files(spec: str) -> list[str]:
    """The arrays that a name stands for."""
    if _is_folder(spec):
        found = [str(path) for path in sorted(Path(spec).glob("*.npy"))]
        wanted = ".npy files (for .npz files name their array, FOLDER:array)"
    else:
        folder, _, name = spec.rpartition(":")
        if not folder or not _is_folder(folder):
            return [spec]
        found = [f"{path}:{name}" for path in sorted(Path(folder).glob("*.npz"))]
        wanted = ".npz files"
    if not found:
        raise DataError(f"{spec}: the folder holds no {wanted}")
    return found


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:  # a name that no file system takes: opening it says so
        return False
