"""No process of the worker outlives the one that started it, and every fault is written down."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from multiprocessing import connection
from pathlib import Path
from typing import Any

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


def report(folder: Path, where: str, what: str, trace: str) -> None:
    """Write a fault into the folder, unless one is there: the first is the cause of others."""
    try:
        with (folder / "fault.json").open("x") as file:
            json.dump({"where": where, "what": what, "trace": trace}, file)
    except FileExistsError:
        pass


class ActorWatch:
    """Ends the worker when one of Lava's processes ends before its time.

    Lava itself would wait for it for ever.
    """

    def __init__(self, folder: Path, runtime: Any) -> None:
        actors = runtime._messaging_infrastructure.actors
        builders = runtime._executable.proc_builders
        # Actors are the processes in the order of their builders, then Lava's own services.
        names = [f"{process.name} ({type(process).__name__})" for process in builders]
        names += ["Lava's runtime service"] * (len(actors) - len(names))
        self._actors = dict(zip((actor.sentinel for actor in actors), actors, strict=True))
        self._names = dict(zip(self._actors, names, strict=True))
        self._folder = folder
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def run_is_over(self) -> None:
        """From here on processes end as they should."""
        self._over.set()

    def _watch(self) -> None:
        ended = connection.wait(list(self._actors))
        if self._over.is_set():
            return
        for sentinel in ended:
            what, trace = _fate(self._actors[sentinel])
            report(self._folder, self._names[sentinel], what, trace)
        os._exit(1)


def _fate(actor: Any) -> tuple[str, str]:
    """Why one of Lava's processes ended: one line, and a traceback if there is one."""
    if actor._pconn.poll(1):
        found = actor._pconn.recv()
        if found is not None:
            error, trace = found
            return f"{type(error).__name__}: {error}", trace
    actor._popen.wait(1)
    code = actor._popen.returncode
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}", ""
    return f"ended with exit code {code}", ""
