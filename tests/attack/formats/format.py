"""What all formats share: odd values, odd names, and damage to bytes."""

from __future__ import annotations

import random
from pathlib import Path

ODD_NAMES = (
    *("", "a", "x" * 5000, "new\nline", "x\nverdict: pass", "\x1b[31mred\x1b[0m", "训练", "a b"),
    *("../../etc/passwd", "/etc/passwd", "\x00", "\u202efdp", "\x85", "%s%n", "{0}", "[bold]", ":"),
)
ODD_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    65,
    255,
    2**16,
    2**31 - 1,
    2**31,
    -(2**31),
    2**40,
    2**63,
    1e300,
)


class Format:
    """Hostile inputs of one format.

    Args:
        good: folder of the good files.
    """

    runs_code = False
    """Whether the input is code, which may do what it likes."""

    def __init__(self, good: Path) -> None:
        self.good = good

    def prepare(self) -> None:
        """Write the good files."""
        raise NotImplementedError

    def make(self, rng: random.Random, work: Path) -> list[str]:
        """Write a hostile input into an empty folder; returns the arguments of icsnn."""
        raise NotImplementedError


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes after one to eight changes."""
    altered = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not altered:
            break
        place = rng.randrange(len(altered))
        how = rng.randrange(6)
        if how == 0:
            altered[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            altered[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif how == 2:
            del altered[place : place + rng.choice((1, 4, 100))]
        elif how == 3:
            altered[place:place] = rng.randbytes(rng.choice((1, 4, 64)))
        elif how == 4:
            del altered[place:]
        else:
            other = rng.randrange(len(altered))
            altered[place : place + 8] = altered[other : other + 8]
    return bytes(altered)
