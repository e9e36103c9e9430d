"""Runs one program in Lava's environment: with a time-out, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from icsnn_deploy.errors import BackendUnavailableError

WORKER = Path(__file__).parent / "worker"
"""The folder that holds the package icsnn_lava."""

_MOST_BYTES = 2**20  # of what a program printed, kept from its end
_LOG_LINES = 15


def run_in_worker(python: Path, module: str, *arguments: str, timeout_s: float) -> str:
    """Run `python -m module` in Lava's environment; returns what it printed.

    Args:
        python: the environment's.
        module: a module of the package icsnn_lava.
        arguments: of its command line.
        timeout_s: Lava hangs on many a fault; after this many seconds it is ended.

    Raises:
        BackendUnavailableError: it can't be started, fails or hangs; with the end of its log.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(WORKER),
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # Lava forks: threads of a BLAS do not survive that
    }
    # files, not pipes: a child that was left behind would keep a pipe open
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                [python, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise BackendUnavailableError(f"{python}: can't be started ({error})") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BackendUnavailableError(
                f"{module} hangs: ended after {timeout_s:g} s{_tail(log)}"
            ) from error
        finally:  # Lava's processes outlive a parent that fails
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            raise BackendUnavailableError(f"{module} fails with exit code {code}{_tail(log)}")
        return _text(output)


def _tail(log: BinaryIO) -> str:
    """The last lines of a log, ready to stand behind a sentence."""
    lines = [line.rstrip() for line in _text(log).splitlines() if line.strip()]
    return "".join(f"\n  | {line[:300]}" for line in lines[-_LOG_LINES:])


def _text(file: BinaryIO) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_BYTES))
    return file.read().decode(errors="replace")
