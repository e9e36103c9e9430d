"""Keep freed memory in the process instead of returning it to the operating system.

A simulation frees and allocates the same large arrays once per layer and time step. By default,
glibc returns each of them to the system, which has to clear the pages again: a third of the
processor time of calibrating a ResNet20. Only the icsnn command sets this; a program that uses the
library can set MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_ itself.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = 2**31 - 1  # bytes freed at the top of the heap before any are returned


def keep_freed_memory() -> None:
    """Tell the C library to reuse freed memory; does nothing where it has no mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
