"""Recordings of Prophesee cameras: .dat files, and .raw files in EVT 2.0.

    .dat       header lines that begin with %, two bytes (type and size of an event), then events of
               8 bytes: t in microseconds (32 bits), x (14), y (14), p (4)
    EVT 2.0    header lines that begin with %, then words of 32 bits: the upper 4 bits are the type;
               0 and 1 are events of polarity 0 and 1 with 6 bits of t, 11 of x and 11 of y; 8 sets
               the upper 28 bits of t; others (triggers) are left out

Formats: docs.prophesee.ai, "Data and metadata", "File formats" and "Encoding formats".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array

_MOST_BYTES = 1 << 31  # of a file
_HEADER_BYTES = 1 << 16
_EVENT_BYTES = 8


def read_dat(path: Path) -> dict[str, Array]:
    """Columns t, x, y, p of a .dat file, [N] each; raises DataError."""
    header, content = _split(path)
    if len(content) < 2 or content[1] != _EVENT_BYTES or not header:
        raise DataError(f"{path}: not a .dat file of events of {_EVENT_BYTES} bytes")
    events = content[2:]
    if len(events) % _EVENT_BYTES:
        raise DataError(f"{path}: its last event is cut off; the file is damaged")
    words = np.frombuffer(events, "<u4").reshape(-1, 2)
    place = words[:, 1].astype(np.int64)
    return {
        "t": _unwrapped(words[:, 0].astype(np.int64), 1 << 32),
        "x": place & 0x3FFF,
        "y": (place >> 14) & 0x3FFF,
        "p": place >> 28,
    }


def read_raw(path: Path) -> dict[str, Array]:
    """Columns t, x, y, p of a .raw file in EVT 2.0, [N] each; raises DataError."""
    header, content = _split(path)
    lines = [line.strip(b"% \r").lower() for line in header.split(b"\n")]
    if not any(line == b"evt 2.0" or line.startswith(b"format evt2;") for line in lines):
        raise DataError(
            f"{path}: its header does not say EVT 2.0, the only version of .raw files that is "
            "read; save it as .npz with the arrays t, x, y, p"
        )
    if len(content) % 4:
        raise DataError(f"{path}: its last event is cut off; the file is damaged")
    words = np.frombuffer(content, "<u4").astype(np.int64)
    kind = words >> 28
    is_time = kind == 8
    upper = _unwrapped(words[is_time] & 0xFFFFFFF, 1 << 28)
    last = np.cumsum(is_time) - 1  # the last word of time before each word
    events = ((kind == 0) | (kind == 1)) & (last >= 0)  # what comes before the first has no time
    word = words[events]
    return {
        "t": (upper[last[events]] << 6) | ((word >> 22) & 0x3F),
        "x": (word >> 11) & 0x7FF,
        "y": word & 0x7FF,
        "p": kind[events],
    }


def _unwrapped(values: Array, period: int) -> Array:
    """Times of a counter that begins again at 0 after `period`, as one that goes on.

    A step back by more than half of the period is such a beginning; a step forward by as much after
    one is an event from before it. Smaller steps back are events out of order: they keep their
    times.
    """
    steps = np.diff(values, prepend=values[:1])
    wraps: Array = np.cumsum(steps < -(period >> 1)) - np.cumsum(steps > period >> 1)
    wraps = wraps - np.minimum(
        np.minimum.accumulate(wraps), 0
    )  # a gap before the first one is a gap
    result: Array = values + wraps * period
    return result


def _split(path: Path) -> tuple[bytes, bytes]:
    """The header of a file and what follows it; raises DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise DataError(
                f"{path}: {size:,} bytes; at most {_MOST_BYTES:,} are read. Cut the recording into "
                "samples"
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    end = 0
    while content[end : end + 1] == b"%":
        line = content.find(b"\n", end, _HEADER_BYTES)
        if line < 0:
            raise DataError(f"{path}: a header without an end; the file is damaged")
        end = line + 1
        if content[:end].endswith(b"% end\n"):
            break
    return content[:end], content[end:]
