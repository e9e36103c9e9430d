"""No process of the worker outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Lifeline:
    """Ends this process, and each it forks, when its parent ends; on Linux, which has a way."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._tie()
        os.register_at_fork(before=self._remember, after_in_child=self._tie)

    def _remember(self) -> None:
        self._parent = os.getpid()

    def _tie(self) -> None:
        if not sys.platform.startswith("linux"):
            return
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._parent:  # it ended before it could be asked for
            os._exit(1)
