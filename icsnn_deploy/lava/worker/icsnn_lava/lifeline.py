"""End the worker and all its processes when the process that started it ends."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Lifeline:
    """Ends this process, and each that it forks, when its parent ends. Works on Linux only.

    Args:
        parent: id of the process that started this one.
        folder: of the request. The parent removes it; if the parent has ended, this process does.
    """

    def __init__(self, parent: int, folder: Path) -> None:
        self._first = self._parent = parent
        self._folder = folder
        signal.signal(signal.SIGTERM, self._leave)
        self._tie(signal.SIGTERM)
        os.register_at_fork(before=self._remember, after_in_child=self._tie_child)

    def _remember(self) -> None:
        self._parent = os.getpid()

    def _tie_child(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._tie(signal.SIGKILL)

    def _tie(self, sign: signal.Signals) -> None:
        if not sys.platform.startswith("linux"):
            return
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sign)
        if os.getppid() != self._parent:  # it ended before prctl was called
            os.kill(os.getpid(), sign)

    def _leave(self, sign: int, frame: Any) -> None:
        if os.getppid() != self._first:
            shutil.rmtree(self._folder, ignore_errors=True)
        signal.signal(sign, signal.SIG_DFL)
        os.kill(os.getpid(), sign)
