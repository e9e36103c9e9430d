"""Recordings of event cameras: arrays of t, x, y, p, and files of Prophesee cameras."""

from __future__ import annotations

import random
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack.formats.arrays import _member, _zip
from tests.attack.formats.format import ODD_NUMBERS, Format, damaged
from tests.attack.formats.networks import event_bundle

_KINDS = ("i8", "i4", "u1", "f8", "f4", "u8", "?", "c8", "S3", "O", "g", "M8[s]", "i2")


class EventFiles(Format):
    def prepare(self) -> None:
        event_bundle(self.good / "b")

    def make(self, rng: random.Random, work: Path) -> list[str]:
        kind = rng.choice(("npy", "npz", "dat", "raw"))
        made = {"npy": _npy, "npz": _npz, "dat": _dat, "raw": _raw}[kind](rng)
        folder = work / "f"
        folder.mkdir()
        path = folder / f"1.{kind}"
        path.write_bytes(damaged(made, rng) if rng.random() < 0.3 else made)
        named = str(path) if rng.random() < 0.7 else str(folder)
        b = str(self.good / "b")
        return rng.choice(
            (
                ["inspect", b, "--images", named],
                ["evaluate", b, "--images", named, "--backend", "reference"],
                ["verify", b, "--images", named, "--backend", "reference"],
            )
        )


def _columns(rng: random.Random) -> dict[str, Any]:
    count = rng.choice((1, 5, 40, 0))
    made = np.random.default_rng(rng.randrange(99))
    columns = {
        "t": np.sort(made.integers(0, 1000, count)),
        "x": made.integers(0, 6, count),
        "y": made.integers(0, 6, count),
        "p": made.integers(0, 2, count),
    }
    found: dict[str, Any] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, array in columns.items():
            if rng.random() < 0.2:
                try:
                    array = array.astype(rng.choice(_KINDS))
                except (TypeError, ValueError):
                    continue
            if rng.random() < 0.15 and array.size and array.dtype.kind in "iuf":
                value = rng.choice((*ODD_NUMBERS, float("nan"), float("inf")))
                at = rng.randrange(array.size)
                array = array.astype("f8") if isinstance(value, float) else array
                try:
                    array[at] = value
                except (OverflowError, ValueError):
                    array = array.astype("f8")
            if rng.random() < 0.05:
                array = array[1:]
            if rng.random() < 0.03:
                array = array.reshape(-1, 1)
            if rng.random() > 0.02:
                found[name] = array
    return found


def _bytes(array: Any) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _npy(rng: random.Random) -> bytes:
    columns = _columns(rng)
    if rng.random() < 0.1:
        return _member(rng, "images")
    lengths = {len(c) for c in columns.values()}
    if rng.random() < 0.5 and len(lengths) == 1 and all(c.ndim == 1 for c in columns.values()):
        fields = [(name, c.dtype) for name, c in columns.items()]
        made = np.zeros(lengths.pop(), fields)
        for name, c in columns.items():
            made[name] = c
        return _bytes(made)
    try:
        return _bytes(np.stack(list(columns.values()), 1))
    except (ValueError, TypeError):
        return _bytes(np.zeros((3, 4)))


def _npz(rng: random.Random) -> bytes:
    entries = {name: _bytes(array) for name, array in _columns(rng).items()}
    if rng.random() < 0.1:
        entries["t"] = _member(rng, "images")
    return _zip(entries, rng)


def _dat(rng: random.Random) -> bytes:
    width, height = rng.choice(((6, 6), (640, 480), (0, 0), (10**30, 3)))
    header = f"% Data file\n% Version 2\n% Width {width}\n% Height {height}\n% end\n".encode()
    if rng.random() < 0.2:
        header = damaged(header, rng)
    events = b"".join(
        struct.pack(
            "<II",
            rng.choice((i * 10, rng.randrange(2**32))),
            rng.randrange(2**32) & 0x1001C003 if rng.random() < 0.9 else rng.randrange(2**32),
        )
        for i in range(rng.choice((0, 1, 20)))
    )
    return header + bytes((rng.choice((12, 0, 14, 99)), rng.choice((8, 0, 255)))) + events


def _raw(rng: random.Random) -> bytes:
    version = rng.choice(("2.0", "2.1", "3.0", "9", ""))
    style = rng.choice((f"% evt {version}\n", "% format EVT3;height=6;width=6\n", ""))
    header = f"% camera_integrator_name Prophesee\n{style}% geometry 6x6\n% end\n".encode()
    if rng.random() < 0.2:
        header = damaged(header, rng)
    return header + rng.randbytes(rng.choice((0, 2, 4, 7, 64, 400)))
