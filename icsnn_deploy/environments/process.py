"""Runs one program in another environment: with a time-out, and nothing left behind."""

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

POLL_S = 0.1  # how often a worker is looked at while it is silent

SIGTERM_GRACE_S = 5.0  # between asking a group to end and killing it
_TRACKER_S = 1.0  # for the resource tracker to clean up
KILL_POLL_S = 0.005
_MOST_BYTES = 2**20  # of what a program printed, kept from its end
_LOG_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A program that runs, in a process group of its own."""

    process: subprocess.Popen[bytes]
    heartbeat: int  # a pipe to read; every process of the group holds the other end


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
    """A running program; whatever happens, its whole process group is gone after it.

    Args:
        python: the environment's.
        command: module and arguments, given the file descriptor of the pipe's other end.
        cwd: where -m looks first: not among the user's own files.
        setup: the command that makes the environment.
        output: what it prints. A file, not a pipe: who is left behind would keep that open.
        log: what it says on standard error; may be the same.

    Raises:
        BackendUnavailableError: it can't be started.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment = {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # a worker may fork: threads of a BLAS do not survive that
    }
    heartbeat, ours = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                [str(python), "-m", *command(ours)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=environment,
                cwd=cwd,
                start_new_session=True,
                pass_fds=(ours,),
            )
        except OSError as error:
            raise BackendUnavailableError(
                f"{python}: can't be started ({error}); run: {setup}"
            ) from error
        finally:
            os.close(ours)
        try:
            yield Worker(process=process, heartbeat=heartbeat)
        finally:
            _end_group(process, heartbeat)
    finally:
        os.close(heartbeat)


def run_to_end(
    python: Path, module: str, *arguments: str, cwd: Path, setup: str, timeout_s: float
) -> str:
    """Run a program in another environment to its end; returns what it printed.

    Args:
        python: the environment's.
        module: run as `python -m module`.
        arguments: of its command line; paths are absolute.
        cwd: where -m looks first.
        setup: the command that makes the environment.
        timeout_s: after this many seconds it is ended.

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
    """End every process of the group: asked first, so that shared memory is given back.

    Python's resource tracker ignores SIGTERM; when the others are gone it removes the shared
    memory that they left, and ends.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)  # a stopped process takes no other signal
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
    """Whether no process holds the other end; waits a little where one does."""
    ready, _, _ = select.select([pipe], [], [], POLL_S)
    while ready:
        if not os.read(pipe, 4096):
            return True
        ready, _, _ = select.select([pipe], [], [], 0)
    return False


def _tail(log: BinaryIO) -> str:
    """The last lines of a log, ready to stand behind a sentence."""
    lines = [line.rstrip() for line in _text(log).splitlines() if line.strip()]
    return "".join(f"\n  | {line[:300]}" for line in lines[-_LOG_LINES:])


def _text(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_BYTES))
    return file.read().decode(errors="replace")
