"""Array files (.npy, .npz): samples, labels, recordings of spikes."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack.formats.format import ODD_NAMES, ODD_NUMBERS, Format, damaged
from tests.attack.formats.networks import UNSUPPORTED, float_bundle, images, integer_bundle

_TYPES = (
    *("f4", "f8", "f2", ">f4", "i1", "u1", "i4", "i8", "u8", "?", "c8", "S3", "U3", "V2", "O", "g"),
    *("M8[s]", "m8[ns]", [("t", "i8"), ("x", "i4")], "f4,f4"),
)
_HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 2, 6, 6), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2, 6, 6), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 40 + ",), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2, 6, 6), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<f4', 'fortran_order': 7, 'shape': 3, }",
    "{'descr': [('a', '<f4', (2, 3))], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<V2000000000', 'fortran_order': False, 'shape': (3,), }",
    "__import__('os').system('touch pwned')",
    "(" * 500,
    "\xff\xfe",
    "",
)


class Arrays(Format):
    def prepare(self) -> None:
        float_bundle(self.good / "b")
        integer_bundle(self.good / "i")
        (self.good / "model.py").write_text(UNSUPPORTED)
        np.save(self.good / "x.npy", images())
        np.save(self.good / "y.npy", np.array([0, 1, 2, 3]))

    def make(self, rng: random.Random, work: Path) -> list[str]:
        b = str(self.good / ("i" if rng.random() < 0.3 else "b"))
        good, labels = str(self.good / "x.npy"), str(self.good / "y.npy")
        use = rng.choice(
            ("inspect", "images", "labels", "verify", "against", "convert", "quantize")
        )
        if use == "quantize" and rng.random() < 0.8:
            use = "inspect"  # most of its time is not about the file
        names = ("logits", "relu1", "x") if use == "against" else ("x", "y", "input", "logits")
        x = self._file(rng, work, names, use)
        return {
            "inspect": ["inspect", b, "--images", x],
            "images": ["evaluate", b, "--backend", "reference", "--images", x, "--limit", "2"],
            "labels": [
                *("evaluate", b, "--backend", "reference", "--images", good, "--labels", x),
                *("--limit", "2"),
            ],
            "verify": ["verify", b, "--backend", "reference", "--images", x, "--labels", labels],
            "against": ["verify", b, "--against", x],
            "convert": [
                *("convert", str(self.good / "model.py:model"), "--calibration", x),
                *("--out", str(work / "o")),
            ],
            "quantize": [
                "quantize",
                str(self.good / "b"),
                "--calibration",
                x,
                "--out",
                str(work / "o"),
            ],
        }[use]

    def _file(self, rng: random.Random, work: Path, names: tuple[str, ...], use: str) -> str:
        """Write a file; returns how it is named to icsnn."""
        odd = rng.random()
        if odd < 0.02:
            return self._special(rng, work)
        archive = use == "against" or rng.random() < 0.6
        path = work / ("x.npz" if archive else "x.npy")
        if not archive:
            data = _member(rng, use)
            path.write_bytes(damaged(data, rng) if rng.random() < 0.2 else data)
            return str(path)
        entries = {rng.choice((*names, rng.choice(ODD_NAMES))): _member(rng, use)}
        for name in names:
            if rng.random() < 0.4:
                entries[name] = _member(rng, use)
        data = _zip(entries, rng)
        path.write_bytes(damaged(data, rng) if rng.random() < 0.25 else data)
        if use == "against":
            return str(path)
        return f"{path}:{rng.choice(list(entries))}" if rng.random() < 0.8 else str(path)

    def _special(self, rng: random.Random, work: Path) -> str:
        path = work / rng.choice(("x.npy", "x.npz"))
        how = rng.randrange(8)
        if how == 0:
            os.mkfifo(path)
        elif how == 1:
            path.mkdir()
        elif how == 2:
            path.symlink_to("/dev/zero")
        elif how == 3:
            path.symlink_to(path)
        elif how == 4:
            odd = work / "x\udcff\n\x1b[31m.npy"
            shutil.copy(self.good / "x.npy", odd)
            return str(odd)
        elif how == 5:
            return str(path) + ":" + rng.choice(("", "a\udc80", "\n", "x" * 9000))
        elif how == 6:
            path.write_bytes(b"")
        else:
            return rng.choice(("/dev/stdin", "/proc/self/mem", "x" * 5000 + ".npy", "\udc80.npz:a"))
        return str(path) + (":x" if path.suffix == ".npz" else "")


def _member(rng: random.Random, use: str) -> bytes:
    """The bytes of one array, or of something else."""
    how = rng.random()
    if how < 0.1:
        return rng.choice((b"", b"text", rng.randbytes(40), b"\x93NUMPY", b"PK\x03\x04" * 9))
    if how < 0.25:
        text = rng.choice(_HEADERS).encode("latin1")
        version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
        length = struct.pack(
            "<H" if version == (1, 0) else "<I", len(text) + rng.choice((0, 0, 0, 9))
        )
        body = b"\0" * rng.choice((0, 12, 1000))
        return b"\x93NUMPY" + bytes(version) + length + text + body
    stream = io.BytesIO()
    np.save(stream, _array(rng, use), allow_pickle=True)
    data = stream.getvalue()
    return damaged(data, rng) if rng.random() < 0.2 else data


def _array(rng: random.Random, use: str) -> Any:
    right: tuple[int, ...] = {"labels": (4,), "against": (2, 4)}.get(use, (4, 2, 6, 6))
    shape = rng.choice(
        (
            right,
            right,
            right,
            right,
            (),
            (0,),
            (0, *right[1:]),
            (3,),
            (2, 2),
            right[1:],
            (*right, 1),
        )
    )
    kind: Any = rng.choice(("f4", "f4", "i8", "u1", *_TYPES))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        base = np.random.default_rng(rng.randrange(99)).random(shape) * rng.choice(
            (1, 4, 300, 1e30)
        )
        if rng.random() < 0.3:
            base = np.where(
                base > base.mean(), rng.choice((*ODD_NUMBERS, np.nan, np.inf, 1e308)), base
            )
        try:
            return np.asfortranarray(base.astype(kind)) if rng.random() < 0.1 else base.astype(kind)
        except (TypeError, ValueError, OverflowError):
            return np.zeros(shape, kind)


def _zip(entries: dict[str, bytes], rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(stream, "w", rng.choice((0, 8, 8, 12, 14))) as archive:
            for name, data in entries.items():
                ending = rng.choice((".npy", ".npy", ".npy", ".npy", "", ".txt", ".npy.npy", "/"))
                try:
                    archive.writestr(name + ending, data)
                    if rng.random() < 0.05:
                        archive.writestr(name + ending, data[::-1])
                except (ValueError, OSError, IndexError):
                    continue
                if rng.random() < 0.001:
                    archive.writestr(name + "z.npy", _unfolding(), 8)
    return stream.getvalue()


def _unfolding() -> bytes:
    """An array of 160 MB of zeros, more than what is read of a small archive."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(40 * 2**20, np.float32))
    return stream.getvalue()
