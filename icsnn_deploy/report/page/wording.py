"""Numbers as the cells and labels of a page."""

from __future__ import annotations

import math

_SHORT = 15
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; empty for None."""
    return "" if value is None else f"{value:.{digits}%}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits; empty for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return "infinite" if math.isinf(value) else "not a number"
    return f"{value:,.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:,.0f}"


def large(value: float) -> str:
    """A large number with a unit prefix: 12.3 M."""
    for scale, prefix in _SI:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


def size(count: float) -> str:
    """A number of bytes with its unit."""
    for scale, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"


def energy(nanojoule: float) -> str:
    """An energy with its unit."""
    for scale, unit in ((1e6, "mJ"), (1e3, "µJ")):
        if nanojoule >= scale:
            return f"{nanojoule / scale:.3g} {unit}"
    return f"{nanojoule:.3g} nJ"


def short(name: str, width: int = _SHORT) -> str:
    """The end of a name, which is what differs, in at most `width` characters."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= width else f"…{plain[1 - width :]}"


def plural(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that holds a share with 95 % confidence (Wilson, 1927).

    Args:
        right: samples that count.
        of: all samples, at least 1.
        z: quantile of the normal distribution.
    """
    share = right / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)
