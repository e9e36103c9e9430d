"""One recording of an event camera, read from a file.

    FILE.npy              a structured array with the fields t, x, y, p; or [N, 4] in this order
    FILE.npz              arrays t, x, y and p, [N] each
    FILE.dat, FILE.raw    of Prophesee cameras (see prophesee.py)

t is in any unit; x and y are column and row, from 0; p is 0 or 1, -1 or 1, or a boolean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.data import array_shape, load_array
from icsnn_deploy.errors import DataError
from icsnn_deploy.events.prophesee import read_dat, read_raw
from icsnn_deploy.graph.neuron import Array

FIELDS = ("t", "x", "y", "p")
_CAMERA_FORMATS = {".dat": read_dat, ".raw": read_raw}
SUFFIXES = (".npy", ".npz", *_CAMERA_FORMATS)

MOST_EVENTS = 1 << 28
"""Events of one recording: 268 million, minutes of the fastest sensors."""

_LARGEST = 1 << 15  # sensors have a few thousand columns and rows at most


@dataclass(frozen=True, kw_only=True, eq=False)
class Events:
    """The events of a recording, in the order of their times; at least one.

    Args:
        t: times, [N], int64 or float64, ascending.
        x: columns, [N], int64.
        y: rows, [N], int64.
        p: polarities, [N], 0 (darker) or 1 (brighter).
    """

    t: Array
    x: Array
    y: Array
    p: Array

    def __len__(self) -> int:
        return len(self.t)


def read_recording(path: Path) -> Events:
    """Read a recording.

    Raises:
        DataError: not a recording, or one with values that no sensor sends; names the file.
    """
    if path.suffix in _CAMERA_FORMATS:
        columns = _CAMERA_FORMATS[path.suffix](path)
    elif path.suffix == ".npz":
        for name in FIELDS:
            _check_count(path, array_shape(f"{path}:{name}")[0])
        columns = {name: load_array(f"{path}:{name}") for name in FIELDS}
    else:
        columns = _columns(path, load_array(str(path)))
    return as_events(columns, str(path))


def names_events(path: Path) -> bool:
    """Whether a file says that it holds events, by its suffix or by the names of its fields.

    Arrays [N, 4] and damaged files do not say so.
    """
    try:
        if path.suffix == ".npy":
            names = array_shape(str(path))[1].names
            return names is not None and set(FIELDS) <= set(names)
        return is_recording(path)
    except DataError:
        return False


def is_recording(path: Path) -> bool:
    """Whether a file holds events, not arrays of frames or spikes; reads its header alone."""
    if path.suffix in _CAMERA_FORMATS:
        return True
    if path.suffix == ".npy":
        shape, dtype = array_shape(str(path))
        return dtype.names is not None or (len(shape) == 2 and shape[1] == len(FIELDS))
    try:
        return all(len(array_shape(f"{path}:{name}")[0]) == 1 for name in FIELDS)
    except DataError:
        return False


def as_events(columns: Mapping[str, Array], name: str) -> Events:
    """Check the columns of a recording; events out of order are sorted by time.

    Args:
        columns: t, x, y and p, [N] each.
        name: of the recording, for messages.

    Raises:
        DataError: names the recording and what is wrong with it.
    """
    found = {key: np.asarray(columns[key]) for key in FIELDS}
    shapes = {array.shape for array in found.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise DataError(
            f"{name}: t, x, y, p of shapes {', '.join(str(a.shape) for a in found.values())}; "
            "[N] each is needed"
        )
    if not len(found["t"]):
        raise DataError(f"{name}: no events; leave the recording out")
    for key, kinds in {"t": "iuf", "x": "iu", "y": "iu", "p": "iub"}.items():
        if found[key].dtype.kind not in kinds:
            wanted = "numbers" if key == "t" else "integers"
            raise DataError(f"{name}: {key} of type {found[key].dtype}; {wanted} are needed")
    _check_count(Path(name), found["t"].shape)
    for key in "xy":
        low, high = int(found[key].min()), int(found[key].max())
        if low < 0 or high >= _LARGEST:
            raise DataError(
                f"{name}: {key} from {low} to {high}; 0 to {_LARGEST - 1} is possible. Are the "
                "columns in the order t, x, y, p?"
            )
    t = found["t"]
    if t.dtype.kind == "f":
        with np.errstate(over="ignore"):  # of longdouble
            t = t.astype(np.float64)
        if not np.isfinite(t).all():
            raise DataError(f"{name}: a time t of NaN or infinity; finite numbers are needed")
    if int(t.max()) >= 2**62 or int(t.min()) < -(2**62):
        raise DataError(f"{name}: times from {t.min()} to {t.max()}; below 2^62 is needed")
    if t.dtype.kind != "f":
        t = t.astype(np.int64)
    x, y = (found[key].astype(np.int64) for key in "xy")
    p = _polarity(found["p"], name)
    if (t[1:] < t[:-1]).any():
        order = np.argsort(t, kind="stable")
        t, x, y, p = t[order], x[order], y[order], p[order]
    return Events(t=t, x=x, y=y, p=p)


def _polarity(p: Array, name: str) -> Array:
    values = {int(value) for value in np.unique(p)[:4]}
    if not (values <= {0, 1} or values <= {-1, 1}):
        raise DataError(f"{name}: polarities p {sorted(values)}; 0 and 1, or -1 and 1, are needed")
    result: Array = (p > 0).astype(np.int64)
    return result


def _columns(path: Path, array: Array) -> dict[str, Array]:
    names = array.dtype.names
    if names is not None:
        missing = [name for name in FIELDS if name not in names]
        if missing:
            raise DataError(
                f"{path}: a structured array of {', '.join(names)}; fields t, x, y and p are needed"
            )
        _check_count(path, array.shape)
        return {name: array[name] for name in FIELDS}
    if array.ndim != 2 or array.shape[1] != len(FIELDS):
        raise DataError(
            f"{path}: {array.dtype} {list(array.shape)}; a recording is a structured array with "
            "the fields t, x, y, p, or [N, 4] in this order"
        )
    _check_count(path, array.shape)
    return {name: _whole(array[:, at]) for at, name in enumerate(FIELDS)}


def _whole(column: Array) -> Array:
    """Integers that an array of floats holds, as integers; other values as they are."""
    if column.dtype.kind == "f" and (np.abs(column) < 2**53).all() and (column % 1 == 0).all():
        return column.astype(np.int64)
    return column


def _check_count(path: Path, shape: tuple[int, ...]) -> None:
    if shape and shape[0] > MOST_EVENTS:
        raise DataError(
            f"{path}: {shape[0]:,} events; at most {MOST_EVENTS:,} are read. Cut the recording "
            "into samples"
        )
