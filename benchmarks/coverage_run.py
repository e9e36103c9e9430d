"""Run work on each architecture in a child process, with limits of time and memory."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coverage_zoo import Architecture

Record = dict[str, Any]
Work = Callable[[Architecture], Iterator[Record]]

_POLL_S = 0.05
_GIB = 1 << 30


_IDLE = 20
"""A child that takes this many times its limit on the wall clock hangs."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one architecture may take: processor seconds, and memory."""

    seconds: float = 120.0
    gib: float = 6.0


@dataclass(kw_only=True)
class _Child:
    architecture: Architecture
    pid: int
    pipe: int
    log: Path
    started: float
    peak: int = 0
    seconds: float = 0.0
    over: str = ""
    received: bytearray = field(default_factory=bytearray)


def run_all(
    architectures: Iterable[Architecture], work: Work, limits: Limits, jobs: int, log: Path
) -> Iterator[Record]:
    """Fork a child per architecture; yields one record each, in the order in which they end.

    The libraries that are imported here are not imported again by each child. What a child yields
    before a limit ends it is kept; its status is then "limit".

    Args:
        architectures: to work on.
        work: run in the child; its records are merged.
        limits: of each child.
        jobs: children at a time.
        log: folder for what the children print.
    """
    log.mkdir(parents=True, exist_ok=True)
    waiting, running = iter(architectures), list[_Child]()
    exhausted = False
    try:
        while running or not exhausted:
            while len(running) < jobs and not exhausted:
                architecture = next(waiting, None)
                exhausted = architecture is None
                if architecture is not None:
                    running.append(_start(architecture, work, log))
            for child in list(running):
                if _step(child, limits):
                    running.remove(child)
                    yield _finish(child)
            time.sleep(_POLL_S)
    finally:
        for child in running:
            _end(child)


def _start(architecture: Architecture, work: Work, log: Path) -> _Child:
    read, write = os.pipe()
    path = log / (architecture.name.replace("/", "-") + ".log")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(read)
        _redirect(path)
        with os.fdopen(write, "w") as pipe:
            try:
                for record in work(architecture):
                    print(json.dumps(record), file=pipe, flush=True)
            except BaseException:
                report = {"status": "crashed", "error": traceback.format_exc()}
                print(json.dumps(report), file=pipe, flush=True)
        os._exit(0)
    os.close(write)
    os.set_blocking(read, False)
    return _Child(architecture=architecture, pid=pid, pipe=read, log=path, started=time.monotonic())


def _redirect(path: Path) -> None:
    """Send standard output and error to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _step(child: _Child, limits: Limits) -> bool:
    """Read what came; whether the child has ended, or was ended at a limit."""
    ended = _read(child)
    child.peak = max(child.peak, _resident(child.pid))
    child.seconds = max(child.seconds, _processor_seconds(child.pid))
    wall = time.monotonic() - child.started
    if not ended and (child.seconds > limits.seconds or wall > _IDLE * limits.seconds):
        child.over = f"more than {limits.seconds:g} s"
    elif not ended and child.peak > limits.gib * _GIB:
        child.over = f"more than {limits.gib:g} GiB"
    if child.over:
        _end(child)
        _read(child)
    return ended or bool(child.over)


def _read(child: _Child) -> bool:
    """Whether the pipe is closed."""
    with suppress(BlockingIOError):
        while part := os.read(child.pipe, 1 << 16):
            child.received += part
        return True
    return False


def _resident(pid: int) -> int:
    """Bytes in memory; 0 for a process that has ended."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _processor_seconds(pid: int) -> float:
    """User and system time; 0 for a process that has ended."""
    with suppress(OSError, IndexError):
        # The name of the program, in parentheses, may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _end(child: _Child) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _finish(child: _Child) -> Record:
    _, code = os.waitpid(child.pid, 0)
    os.close(child.pipe)
    record: Record = {"name": child.architecture.name}
    for line in bytes(child.received).splitlines(keepends=True):
        if line.endswith(b"\n"):
            record |= json.loads(line)
    if child.over:
        record |= {"status": "limit", "error": child.over}
    elif "status" not in record:
        tail = child.log.read_text(errors="replace")[-2000:]
        ended = f"signal {os.WTERMSIG(code)}" if os.WIFSIGNALED(code) else f"exit code {code}"
        record |= {"status": "crashed", "error": f"ended by {ended}\n{tail}"}
    return {
        **record,
        "seconds": round(child.seconds, 2),
        "peak_mib": child.peak >> 20,
    }
