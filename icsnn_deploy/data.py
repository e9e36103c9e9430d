"""Images, labels and recordings from files, and the normalization that models expect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from icsnn_deploy.errors import DataError, text_of
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.pixels import as_pixels, channels_first, check_images, is_channels_last

_UNFOLDED, _UNFOLDED_TIMES = 1 << 27, 100
"""Bytes of an array in an .npz file, and times the size of the file: what may be read of it."""


@dataclass(frozen=True, kw_only=True, init=False)
class Normalization:
    """The normalization that a model was trained with: (pixel / 255 - mean) / std, per channel.

    Args:
        mean: one number per channel, in any sequence; of one channel also the number alone.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, *, mean: float | Iterable[float], std: float | Iterable[float]) -> None:
        object.__setattr__(self, "mean", _per_channel("mean", mean))
        object.__setattr__(self, "std", _per_channel("std", std))
        self._check()

    def _check(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise DataError(
                f"mean has {len(self.mean)} and std {len(self.std)} values: one per channel is "
                "needed"
            )
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(s) and s > 0 for s in self.std):
            raise DataError(
                f"mean {self.mean}, std {self.std}: finite values are needed, and std > 0"
            )
        if max(self.mean) > 1:
            raise DataError(
                f"mean {self.mean}: pixels are divided by 255 first, so that no mean is above 1; "
                "divide mean and std by 255"
            )

    def apply(self, pixels: Array) -> Array:
        """uint8 [N, C, *spatial] -> float32 of the same shape."""
        self.check(pixels.shape[1])
        shape = (1, -1, *(1,) * (pixels.ndim - 2))
        mean = np.asarray(self.mean, np.float32).reshape(shape)
        std = np.asarray(self.std, np.float32).reshape(shape)
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std

    def check(self, channels: int) -> None:
        """Raise DataError unless there is one mean and one std per channel."""
        if len(self.mean) != channels:
            raise DataError(
                f"images of {channels} channels, but {len(self.mean)} values of mean and std"
            )


def _per_channel(name: str, values: float | Iterable[float]) -> tuple[float, ...]:
    """Values per channel as a tuple; raises DataError for what is no number."""
    try:
        return tuple(map(float, values if isinstance(values, Iterable) else (values,)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} {values!r}: a number per channel is needed") from error


def are_stored_samples(spec: str) -> bool:
    """Whether a spec names the samples of a bundle, samples.safetensors.

    They are what the network takes, in its own units: of an integer network integers.
    """
    return spec.endswith(".safetensors")


def load_array(spec: str) -> Array:
    """Load the array that is named as FILE.npz:array or FILE.npy; or the samples of a bundle.

    Pickled objects are refused. A .npy file is memory-mapped.

    Raises:
        DataError: names the file, and the arrays that an .npz holds.
    """
    if are_stored_samples(spec):
        return _stored_samples(Path(spec))
    path, name = _split(spec)
    if path.suffix == ".npy":
        with _reading(path):
            mapped: Array = np.lib.format.open_memmap(path, mode="r")
            return mapped
    with _reading(path), _open_archive(path, name) as archive:
        return _member(path, archive, name)


def array_shape(spec: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array named as for load_array, read from its header alone."""
    if are_stored_samples(spec):
        array = load_array(spec)
        return array.shape, array.dtype
    path, name = _split(spec)
    if path.suffix == ".npy":
        array = load_array(spec)
        return array.shape, array.dtype
    with _reading(path), _open_archive(path, name) as archive:
        return _checked(path, archive, name)


def _member(path: Path, archive: NpzFile, name: str) -> Array:
    """An array of an archive, once its header and its size are checked."""
    _checked(path, archive, name)
    array: Array = archive[name]
    return array


def _checked(path: Path, archive: NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array of an archive, which is not read.

    Raises:
        DataError: the entry is no array, is not as large as it declares, or unfolds to far more
            than the file has.
    """
    shape, dtype, held = _declared(path, archive, name)
    if dtype.hasobject:
        raise DataError(f"{path}: not a readable array file without pickles: {name} holds objects")
    declared = math.prod(shape) * dtype.itemsize
    if declared != held:
        raise DataError(
            f"{path}: not a readable array file: {name} declares {dtype} {list(shape)}, "
            f"{declared} bytes, but {held} are there; write the file again"
        )
    allowed = max(_UNFOLDED, _UNFOLDED_TIMES * path.stat().st_size)
    if held > allowed:
        raise DataError(
            f"{path}: {name} unfolds to {held:,} bytes, from a file of {path.stat().st_size:,}; at "
            f"most {allowed:,} are read. Save it without compression: np.savez, or a .npy file"
        )
    np.broadcast_to(np.empty((), np.uint8), shape)  # raises where NumPy has no such shape
    return shape, dtype


def _declared(
    path: Path, archive: NpzFile, name: str
) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and dtype in the header of an archive's entry, and the bytes that follow the header."""
    if archive.zip is None:
        raise ValueError("the archive is closed")
    entries = set(archive.zip.namelist())
    entry = archive.zip.getinfo(name if name in entries else f"{name}.npy")
    with archive.zip.open(entry) as file:
        if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path}: {name} is no array; entries of an .npz file are .npy files")
    with archive.zip.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"array format {version}")
        first = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if any(size < 0 for size in shape):
            raise ValueError(f"shape {list(shape)}")
        return shape, dtype, entry.file_size - file.tell()


def _stored_samples(path: Path) -> Array:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    _check_file(path)
    try:
        return load_file(path)["inputs"]
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: no samples of a bundle ({error})") from error


def _split(spec: str) -> tuple[Path, str]:
    """Split a spec into file and array name; raises DataError if there is no such file."""
    path, name = Path(spec), ""
    if path.suffix not in (".npz", ".npy"):
        text, _, name = spec.rpartition(":")
        path = Path(text)
    if path.suffix not in ((".npz",) if name else (".npz", ".npy")):
        raise DataError(f"{spec!r}: give FILE.npz:array or FILE.npy")
    _check_file(path)
    return path, name


def load_archive(path: Path) -> dict[str, Array]:
    """Load all arrays of an .npz file, by name; pickled objects are refused. Raises DataError."""
    _check_file(path)
    with _reading(path), _open_archive(path) as archive:
        return {name: _member(path, archive, name) for name in archive.files}


def archive_names(path: Path) -> list[str]:
    """Names of the arrays of an .npz file; raises DataError."""
    _check_file(path)
    with _reading(path), _open_archive(path) as archive:
        return list(archive.files)


def _check_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        there = path.exists() and not path.is_dir()
    except (OSError, ValueError) as error:  # a name that the file system does not accept
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    raise DataError(f"{path}: {'not a regular file' if there else 'no such file'}")


def _open_archive(path: Path, name: str | None = None) -> NpzFile:
    """Open an archive; raises DataError if a name is given that it does not hold."""
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, NpzFile):
        raise ValueError("a single array, not an archive of named arrays")
    if name is not None and name not in archive.files:
        archive.close()
        problem = f"no array {name!r}" if name else "name one of its arrays"
        listed = ", ".join(f"{path}:{n}" for n in archive.files)
        raise DataError(f"{path}: {problem}; it holds {listed or 'nothing'}")
    return archive


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever NumPy raises on a damaged file into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise nearly any type
        raise DataError(
            f"{path}: not a readable array file without pickles ({type(error).__name__}: "
            f"{text_of(error)})"
        ) from error


def load_images(
    spec: str,
    normalization: Normalization | None,
    channels_last: bool | None = None,
    own: Sequence[int] | None = None,
) -> Array:
    """Load samples in the form that the network's input takes.

    Args:
        spec: FILE.npz:array or FILE.npy.
        normalization: if given, the file must hold images, uint8 or floats in 0..1, which become
            uint8 [N, C, H, W] (as_pixels); if None, float arrays [N, ...] in the form that the
            model takes.
        channels_last, own: as for is_channels_last.
    """
    array = load_array(spec)
    last = is_channels_last(spec, array.shape, normalization, channels_last, own)
    check_images(spec, array.shape, array.dtype, normalization, last)
    return as_samples(array, normalization, last, spec)


def check_finite(spec: str, samples: Array) -> None:
    """Raise DataError if samples hold NaN, infinity, or values that float32 can't hold."""
    if samples.dtype.kind != "f":
        return
    finite = np.isfinite(samples)
    if not finite.all():
        first = np.unravel_index(finite.argmin(), finite.shape)
        raise DataError(
            f"{spec}: {samples[first]} at {list(map(int, first))}, {(~finite).sum():,} such "
            "values; finite float32 numbers are needed"
        )


def as_samples(
    images: Array,
    normalization: Normalization | None,
    channels_last: bool = False,
    spec: str = "images",
) -> Array:
    """Checked images in the form that the network's input takes (load_images)."""
    if channels_last:
        images = channels_first(images)
    if normalization is not None:
        return as_pixels(spec, images)
    with np.errstate(all="ignore"):  # check_finite names what float32 can't hold
        return images.astype(np.float32, copy=False)


def load_labels(spec: str, count: int = 0, *, remedy: str = "") -> Array:
    """Load class indices [N] of at least `count` samples, as int64.

    check_labels checks them against the network's classes.

    Args:
        spec: FILE.npz:array or FILE.npy.
        count: number of samples that need a label.
        remedy: what to do with labels of another form, for the message.

    Raises:
        DataError: not integers [N], or too few.
    """
    labels = load_array(spec)
    if not _are_indices(labels) or len(labels) < count:
        needed = f"integers [N] for {count} samples" if count else "integers [N]"
        raise DataError(_not_indices(spec, labels, needed, remedy))
    return labels.astype(np.int64)


def check_labels(
    labels: Array, count: int, *, classes: int, samples: int | None = None, remedy: str = ""
) -> Array:
    """The labels of the samples that are run, int64 [count].

    Args:
        labels: integers [N], one per sample.
        count: number of samples that are run.
        classes: number of classes of the network.
        samples: size of the data set; more labels than that belong to another data set.
        remedy: what to do with labels of another form, for the message.

    Raises:
        DataError: not integers [N], too few or too many, or not a class of the network.
    """
    if not _are_indices(labels):
        raise DataError(_not_indices("labels", labels, "integers [N]", remedy))
    needed = "one label per sample is needed, in the same order"
    if len(labels) < count:
        raise DataError(f"{len(labels)} labels for {count} samples: {needed}")
    if samples is not None and len(labels) > samples:
        raise DataError(f"{len(labels)} labels for a data set of {samples} samples: {needed}")
    own = labels[:count]
    wrong = np.flatnonzero((own < 0) | (own >= classes))
    if len(wrong):
        raise DataError(
            f"labels: sample {wrong[0]} has class {own[wrong[0]]}; {len(wrong)} of {count} labels "
            f"are not among the network's {classes} classes, 0 to {classes - 1}"
        )
    return own.astype(np.int64)


def _not_indices(what: str, labels: Array, needed: str, remedy: str) -> str:
    advice = f"; {remedy}" if remedy else ""
    return f"{what}: {labels.dtype} {list(labels.shape)}; {needed} are needed{advice}"


def _are_indices(labels: Array) -> bool:
    return labels.ndim == 1 and labels.dtype.kind in "iu"
