"""Run parts of an array in threads; C functions called by ctypes run at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

from icsnn_deploy.progress import report_inner

_PART_S = 0.5  # between two reports
_clock = time.monotonic


def in_threads(run: Callable[[int, int], None], rows: int, count: int, first: int = 0) -> None:
    """Call run(begin, end) for `count` parts of the rows, each in its own thread.

    Args:
        run: a function that does not hold the interpreter lock for long.
        rows: number of rows; each part is a range of them.
        count: number of threads; at most one is started per row.
        first: the first of the rows.
    """
    count = min(count, rows)
    if count <= 1:
        run(first, first + rows)
        return
    parts = pairwise(first + rows * n // count for n in range(count + 1))
    list(_pool(count).map(lambda part: run(*part), parts))


def in_reported_threads(run: Callable[[int, int], None], rows: int, count: int, stage: str) -> None:
    """As in_threads, in parts of about half a second; each is reported to inner_progress.

    Args:
        run, rows, count: as for in_threads.
        stage: name under which progress is reported.
    """
    done, size = 0, max(1, count)
    while done < rows:
        report_inner(stage, done, rows)
        part, begun = min(size, rows - done), _clock()
        in_threads(run, part, count, done)
        taken = max(_clock() - begun, 1e-6)
        done += part
        size = max(1, min(4 * part, round(part * _PART_S / taken)))
    report_inner(stage, rows, rows)


def usual_threads() -> int:
    """The number of threads: OMP_NUM_THREADS, or the cores of this process."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="icsnn-native")
