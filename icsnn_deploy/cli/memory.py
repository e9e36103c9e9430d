"""The command keeps the memory that it frees.

A simulation frees and takes the same large arrays once per layer and time step. glibc gives each of
them back to the system, which then has to clear the pages again: a third of a calibration's
processor time on a ResNet20. Only the command changes its process so; a program that uses the
library sets MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_ itself if it wants the same.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1  # bytes freed at the top of the heap before any go back


def keep_freed_memory() -> None:
    """Ask the C library to reuse freed memory; nothing happens where it has no mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
