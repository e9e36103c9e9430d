"""Run parts of an array in threads; C functions called by ctypes run at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise


def in_threads(run: Callable[[int, int], None], rows: int, count: int) -> None:
    """Call run(begin, end) for `count` parts of the rows, each in its own thread.

    Args:
        run: a function that does not hold the interpreter lock for long.
        rows: number of rows; each part is a range of them.
        count: number of threads; at most one is started per row.
    """
    count = min(count, rows)
    if count <= 1:
        run(0, rows)
        return
    parts = pairwise(rows * n // count for n in range(count + 1))
    list(_pool(count).map(lambda part: run(*part), parts))


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
