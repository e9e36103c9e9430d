"""The table of the GPU check: rows are measured one by one, and printed as they are done."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

COLUMNS = (
    *("check", "network", "batch", "result", "images/s", "of T x float16", "of T x bfloat16"),
    *("of T x int8", "peak MiB", "took s"),
)


class CheckFailedError(Exception):
    """A measurement was made, and is not what it has to be."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement; cells that do not apply are empty."""

    check: str
    network: str = ""
    batch: str = ""
    result: str = ""
    images_s: float | None = None
    shares: tuple[float | None, ...] = (None, None, None)  # of T times the ANN in each type
    peak_mib: float | None = None
    took_s: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        return (
            *(self.check, self.network, self.batch, self.result.replace("|", "/")),
            _number(self.images_s, ",.0f" if (self.images_s or 0) >= 100 else ".2f"),
            *(_number(share, ".2f") for share in self.shares),
            *(_number(self.peak_mib, ",.0f"), _number(self.took_s, ".1f")),
        )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


class Table:
    """Collects the rows within a time, as a context.

    Args:
        title: lines above the table.
        out: the Markdown file, rewritten after each row.
        seconds: time for all rows; what is expected to take longer is skipped.
        grace_s: after that time, the program ends with the table as it is.
    """

    def __init__(self, title: list[str], out: Path, seconds: float, grace_s: float = 45) -> None:
        self.failed = 0
        self._out, self._began, self._seconds = out, time.monotonic(), seconds
        self._current = Row(check="start")
        head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        self._lines = [*title, "", *head]
        print("\n".join(self._lines), flush=True)
        self._lock = threading.RLock()
        self._watch = threading.Timer(seconds + grace_s, self._stop)
        self._watch.daemon = True

    def __enter__(self) -> Table:
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._watch.cancel()

    @property
    def left_s(self) -> float:
        """Time that is left."""
        return self._seconds - (time.monotonic() - self._began)

    def measure(
        self, row: Row, measurement: Callable[[Row], Row], *, expected_s: float = 0
    ) -> Row | None:
        """Make a row by a measurement; None if it failed, or was skipped for lack of time.

        Args:
            row: names what is measured.
            measurement: returns the row with its results.
            expected_s: what it takes, as far as it is known.
        """
        if expected_s > self.left_s:
            reason = f"it takes about {expected_s:.0f} s, {max(self.left_s, 0):.0f} s are left"
            self.skip(row, reason)
            return None
        self._current = row
        began = time.monotonic()
        try:
            done = measurement(row)
        except Exception as error:  # whatever it is, the other rows are still measured
            self.fail(replace(row, took_s=time.monotonic() - began), error)
            return None
        done = replace(done, took_s=time.monotonic() - began)
        self._add(done)
        return done

    def skip(self, row: Row, reason: str) -> None:
        """Add a row that was not measured."""
        self._add(replace(row, result=f"skipped: {reason}"))

    def fail(self, row: Row, error: Exception) -> None:
        """Add a row that failed."""
        kind = "" if isinstance(error, CheckFailedError) else f"{type(error).__name__}: "
        lines = str(error).strip().splitlines()
        place = traceback.extract_tb(error.__traceback__)[-1:] if kind else []
        where = "".join(f" ({Path(entry.filename).name}:{entry.lineno})" for entry in place)
        reason = (lines[0] if lines else "no message")[:200]
        self.failed += 1
        self._add(replace(row, result=f"FAILED: {kind}{reason}{where}"))

    def _add(self, row: Row) -> None:
        with self._lock:
            line = f"| {' | '.join(row.cells())} |"
            self._lines.append(line)
            print(line, flush=True)
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._out.write_text("\n".join(self._lines) + "\n")

    def _stop(self) -> None:
        """The time is over, and a measurement has not come back."""
        with self._lock:
            self._add(replace(self._current, result="FAILED: still running when the time was over"))
            os._exit(1)  # a kernel that hangs can't be interrupted
