"""Run one program in another environment, with a timeout; no process of it is left afterwards."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from icsnn_deploy.errors import BackendUnavailableError

POLL_S = 0.1  # between two checks of a worker's heartbeat

SIGTERM_GRACE_S = 5.0  # between SIGTERM and SIGKILL
_TRACKER_S = 1.0  # for the resource tracker to clean up
KILL_POLL_S = 0.005
_MAX_BYTES = 2**20  # of a program's output, kept from its end
_LOG_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A running program, in its own process group."""

    process: subprocess.Popen[bytes]
    heartbeat: int  # read end of a pipe; every process of the group holds the write end


@contextmanager
def run_worker(
    python: Path,
    command: Callable[[int], Sequence[str]],
    *,
    cwd: Path,
    setup: str,
    output: BinaryIO,
    log: BinaryIO,
) -> Iterator[Worker]:
    """Start a program, and end its whole process group after the body in every case.

    Args:
        python: the environment's interpreter.
        command: module and arguments, given the file descriptor of the pipe's write end.
        cwd: where -m looks first; not a folder of the user's own files.
        setup: the command that creates the environment.
        output: receives standard output. A file, not a pipe: a process that is left would keep a
            pipe open.
        log: receives standard error; may be the same file.

    Raises:
        BackendUnavailableError: it can't be started.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # a worker may fork, and BLAS threads do not survive a fork
    }
    heartbeat, write_end = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [str(python), "-m", *command(write_end)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=environment,
                cwd=cwd,
                start_new_session=True,
                pass_fds=(write_end,),
            )
        except OSError as error:
            raise BackendUnavailableError(
                f"{python}: can't be started ({error}); run: {setup}"
            ) from error
        finally:
            os.close(write_end)
        try:
            yield Worker(process=process, heartbeat=heartbeat)
        finally:
            _end_group(process, heartbeat)
    finally:
        os.close(heartbeat)


def run_to_end(
    python: Path, module: str, *arguments: str, cwd: Path, setup: str, timeout_s: float
) -> str:
    """Run a program in another environment to its end; returns its standard output.

    Args:
        python: the environment's interpreter.
        module: run as `python -m module`.
        arguments: of its command line; paths are absolute.
        cwd: where -m looks first.
        setup: the command that creates the environment.
        timeout_s: it is ended after this many seconds.

    Raises:
        BackendUnavailableError: it can't be started, fails or hangs; with the end of its log.
    """

    def command(heartbeat: int) -> list[str]:
        return [module, *arguments]

    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        with run_worker(python, command, cwd=cwd, setup=setup, output=output, log=log) as worker:
            try:
                code = worker.process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:
                raise BackendUnavailableError(
                    f"{module} hangs: ended after {timeout_s:g} s{_tail(log)}"
                ) from error
        if code != 0:
            raise BackendUnavailableError(f"{module} fails with exit code {code}{_tail(log)}")
        return _text(output)


def _end_group(process: subprocess.Popen[bytes], heartbeat: int) -> None:
    """End every process of the group, by SIGTERM first, so that shared memory is released.

    Python's resource tracker ignores SIGTERM; after the other processes have ended it removes the
    shared memory that they left, and ends.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)  # a stopped process handles no other signal
        deadline = time.monotonic() + SIGTERM_GRACE_S
        while time.monotonic() < deadline and not _is_closed(heartbeat):
            process.poll()
        process.poll()
        deadline = time.monotonic() + _TRACKER_S
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(KILL_POLL_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_closed(pipe: int) -> bool:
    """Whether no process holds the write end; waits up to POLL_S if one does."""
    ready, _, _ = select.select([pipe], [], [], POLL_S)
    while ready:
        if not os.read(pipe, 4096):
            return True
        ready, _, _ = select.select([pipe], [], [], 0)
    return False


def _tail(log: BinaryIO) -> str:
    """The last lines of a log, formatted to follow a sentence."""
    lines = [line.rstrip() for line in _text(log).splitlines() if line.strip()]
    return "".join(f"\n  | {line[:300]}" for line in lines[-_LOG_LINES:])


def _text(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_BYTES))
    return file.read().decode(errors="replace")
