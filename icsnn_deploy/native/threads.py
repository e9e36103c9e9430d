"""Run parts of an array in threads; C functions called by ctypes run at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

from icsnn_deploy.progress import report_inner

_PART_S = 0.5  # between two reports
_clock = time.monotonic


def in_threads(
    run: Callable[[int, int], None],
    rows: int,
    count: int,
    first: int = 0,
    *,
    keep: object,
) -> None:
    """Call run(begin, end) for `count` parts of the rows, each in its own thread.

    Whatever is raised, an interrupt as well, it is raised once every part has ended.

    Args:
        run: a function that does not hold the interpreter lock for long.
        rows: number of rows; each part is a range of them.
        count: number of threads; at most one is started per row.
        first: the first of the rows.
        keep: the arrays whose addresses `run` has, which live as long as a part of it runs.
    """
    count = min(count, rows)
    if count <= 1:
        run(first, first + rows)
        return
    parts = pairwise(first + rows * n // count for n in range(count + 1))
    started: list[Future[None]] = []
    try:
        for begin, end in parts:
            started.append(_pool(count).submit(_run_part, run, begin, end, keep))
    finally:
        _wait(started)


def _run_part(run: Callable[[int, int], None], begin: int, end: int, keep: object) -> None:
    run(begin, end)


def _wait(started: Sequence[Future[None]]) -> None:
    """Until all have ended; then what was raised meanwhile, or by the first part that failed."""
    raised: BaseException | None = None
    while not all(future.done() for future in started):
        try:
            wait(started)
        except BaseException as error:  # an interrupt, an alarm
            raised = error
    if raised is not None:
        raise raised
    for future in started:
        future.result()


def in_reported_threads(
    run: Callable[[int, int], None], rows: int, count: int, stage: str, *, keep: object
) -> None:
    """As in_threads, in parts of about half a second; each is reported to inner_progress.

    Args:
        run, rows, count, keep: as for in_threads.
        stage: name under which progress is reported.
    """
    done, size = 0, max(1, count)
    while done < rows:
        report_inner(stage, done, rows)
        part, begun = min(size, rows - done), _clock()
        in_threads(run, part, count, done, keep=keep)
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
