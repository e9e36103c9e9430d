"""Folders of images: the files of five formats, and their names."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from tests.attack.formats.format import Format, damaged
from tests.attack.formats.networks import UNSUPPORTED

_FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "webp": "WEBP", "ppm": "PPM"}
_MODES = ("RGB", "RGB", "RGB", "L", "RGBA", "P", "1", "LA", "I;16", "CMYK", "F")
_SIZES = ((6, 6), (6, 6), (6, 6), (1, 1), (7, 5), (300, 2))
_STEMS = ("a", "b", "new\nline", "\x1b[31mred", "训练", "x" * 200, "\udc80", "-x", ":", "%s")


class Pictures(Format):
    def prepare(self) -> None:
        model = UNSUPPORTED.replace("nn.Conv2d(2, 3, 3)", "nn.Conv2d(3, 3, 3)")
        (self.good / "model.py").write_text(model)

    def make(self, rng: random.Random, work: Path) -> list[str]:
        folder = work / "f"
        folder.mkdir()
        classes = rng.random() < 0.4
        for _ in range(rng.choice((1, 1, 2, 4))):
            ending = rng.choice((*_FORMATS, rng.choice(("gif", "tiff", "PNG", "npy", "txt"))))
            stem = "a" if rng.random() < 0.8 else rng.choice(_STEMS)
            place = folder / rng.choice(("a", "b", rng.choice(_STEMS))) if classes else folder
            place.mkdir(exist_ok=True)
            data = _picture(rng, _FORMATS.get(ending, "PNG"))
            path = place / f"{stem}{rng.randrange(9)}.{ending}"
            path.write_bytes(damaged(data, rng) if rng.random() < 0.5 else data)
        sizes = rng.choice(((), (), ("--resize", "6,6"), ("--resize", "8", "--crop", "6")))
        return [
            *("convert", str(self.good / "model.py:model"), "--calibration", str(folder)),
            *("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--out", str(work / "o"), *sizes),
        ]


def _picture(rng: random.Random, kind: str) -> bytes:
    from PIL import Image

    if kind == "PNG" and rng.random() < 0.1:
        return _declared(rng)
    width, height = rng.choice(_SIZES)
    pixels = np.random.default_rng(rng.randrange(99)).integers(0, 256, (height, width, 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture.convert(rng.choice(_MODES)).save(stream, kind)
        except (OSError, ValueError, KeyError):
            picture.save(stream, kind)
    return stream.getvalue()


def _declared(rng: random.Random) -> bytes:
    """A PNG whose header and chunks declare what is not there, with checksums that fit."""
    width, height = rng.choice(((0, 0), (2**31 - 1, 2**31 - 1), (60_000, 60_000), (6, 6)))
    bits, color = rng.choice(((8, 2), (16, 2), (1, 3), (9, 7)))
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, rng.choice((0, 1)))
    text = rng.choice(
        (b"", b"Comment\0" + b"x" * 5000, b"Comment\0\0" + zlib.compress(b"x" * 9**7))
    )
    rows = zlib.compress(bytes(rng.choice((0, 100, 114, 10**6))))
    chunks = ((b"IHDR", header), (b"zTXt", text), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
