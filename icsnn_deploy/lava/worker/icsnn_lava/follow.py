"""Wait for the end of a Lava run, and find the process that failed."""

from __future__ import annotations

import signal
from multiprocessing import connection
from typing import Any

from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal

_POLL_S = 0.01
_FAILURE_WAIT_S = 2.0  # for the process that failed, after one that Lava ended because of it


class ProcessError(Exception):
    """One of Lava's processes ended before the run was over."""

    def __init__(self, where: str, what: str, trace: str = "") -> None:
        super().__init__(f"{where}: {what}")
        self.where, self.what, self.trace = where, what, trace


def follow(runtime: Any) -> None:
    """Wait for the end of a run that was started without blocking.

    Lava itself would wait forever for a process that failed.

    Raises:
        ProcessError: names the process and the cause.
    """
    actors = runtime._messaging_infrastructure.actors
    # Actors are the processes in the order of their builders, then Lava's own services.
    names = [f"{p.name} ({type(p).__name__})" for p in runtime._executable.proc_builders]
    names += ["Lava's runtime service"] * (len(actors) - len(names))
    running = {actor.sentinel: (name, actor) for name, actor in zip(names, actors, strict=True)}
    service = runtime.service_to_runtime[0]
    while not connection.wait(list(running), _POLL_S):
        if service.probe():
            if enum_equal(service.peek(), MGMT_RESPONSE.DONE):
                runtime.wait()
                return
            break
    raise _first_failure(running)


def _first_failure(running: dict[Any, tuple[str, Any]]) -> ProcessError:
    """Find the process that failed; Lava may end others before it, without an error."""
    without_error = []
    while True:
        ended = connection.wait(list(running), _FAILURE_WAIT_S)
        for sentinel in ended:
            name, actor = running.pop(sentinel)
            failure = _failure(actor)
            if failure is not None:
                return ProcessError(name, *failure)
            without_error.append(name)
        if not ended or not running:
            return ProcessError((without_error or ["Lava"])[0], "ended before the run was over")


def _failure(actor: Any) -> tuple[str, str] | None:
    """Why a Lava process failed: one line, and a traceback or ""; None if it did not fail."""
    if actor._pconn.poll():
        sent = actor._pconn.recv()
        if sent is not None:
            error, trace = sent
            return f"{type(error).__name__}: {error}", trace
    actor._popen.wait(_FAILURE_WAIT_S)
    code = actor._popen.returncode
    if code == 0:
        return None
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}", ""
    return f"ended with exit code {code}", ""
