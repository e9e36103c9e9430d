"""A lock on a folder: one process at a time changes what is in it, or puts another in its place.

The lock is the kernel's (flock on the folder itself): nothing is written for it, and it ends with
its process. File systems without such locks (some network and user-space ones) are used unlocked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOGGER = logging.getLogger(__name__)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; waits for other processes, and says so in the log.

    The lock is that of the folder which has this path once it is held: one that was replaced in
    the meantime is let go. Not reentrant: a second lock on one folder waits for the first.

    Raises:
        OSError: the folder does not exist or can't be opened.
    """
    import fcntl

    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                LOGGER.warning("%s: another command writes to it; waiting until it is done", folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                LOGGER.debug("%s: no lock (%s)", folder, error)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                yield
                return
        finally:
            os.close(descriptor)
