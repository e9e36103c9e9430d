"""Compare the contents of two HDF5 files: their arrays, strings and attributes, by path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.read.hdf5_scan import scan

_SHOWN = 60  # characters of a value


def difference(written: Path, path: Path) -> str | None:
    """The first array, string or attribute of a file that is not as in `written`.

    Types, shapes and every bit of the values are compared; how HDF5 stores them is not.

    Args:
        written: what the exporter writes now.
        path: an earlier export, which may be damaged or hostile.

    Raises:
        ExportError: it is no HDF5 file, or holds what no export does.
    """
    scan(path)
    expected, got = dict(_values(written)), dict(_values(path))
    names = dict.fromkeys((*expected, *got))
    # numbers first: texts, such as the hash, differ because the numbers do
    for name in sorted(names, key=lambda name: _is_text(expected.get(name))):
        if name not in got:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not written by the exporter"
        found = _of_values(expected[name], got[name])
        if found is not None:
            return f"{name}{found}"
    return None


def read_string(path: Path, names: tuple[str, ...]) -> str | None:
    """The string at the first of these paths that the file has.

    Raises:
        ExportError: it is no HDF5 file, or holds what no export does.
    """
    scan(path)
    import h5py

    with h5py.File(path, "r") as file:
        for name in names:
            if isinstance(file.get(name), h5py.Dataset):
                value = file[name][()]
                return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """Each array as itself, each group as None, and the attributes of both, by path."""
    import h5py

    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        found.append((name, item[()] if isinstance(item, h5py.Dataset) else None))
        found.extend((f"{name}@{key}", value) for key, value in item.attrs.items())

    try:
        with h5py.File(path, "r") as file:
            found.extend((f"@{key}", value) for key, value in file.attrs.items())
            file.visititems(visit)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise ExportError(f"{path}: can't be read ({error}); export it again") from error
    yield from found


def _is_text(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "OSU"


def _of_values(expected: Any, got: Any) -> str | None:
    one, other = np.asarray(expected), np.asarray(got)
    if one.dtype != other.dtype or one.shape != other.shape:
        found, wanted = (f"{a.dtype} {list(a.shape)}" for a in (other, one))
        return f": {found}, expected {wanted}"
    if one.dtype == object:
        equal = np.array(one == other)
    else:
        rows = [np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (one, other)]
        equal = (rows[0] == rows[1]).reshape(*one.shape, one.dtype.itemsize).all(axis=-1)
    if equal.all():
        return None
    place = tuple(int(n) for n in np.argwhere(~equal)[0])
    where = f"{list(place)}" if place else ""
    return (
        f"{where}: {_shown(other[place], one[place])}, expected {_shown(one[place], other[place])}"
    )


def _shown(value: Any, other: Any) -> str:
    """A value as text; of a long one, the part where it differs from the other."""
    one, two = (ascii(v.item() if isinstance(v, np.generic) else v) for v in (value, other))
    if len(one) <= _SHOWN:
        return one
    pairs = enumerate(zip(one, two, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), min(len(one), len(two)))
    start = max(0, first - _SHOWN // 2)
    return f"...{one[start : start + _SHOWN]}..."
