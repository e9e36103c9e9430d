"""Run a program of icsnn_lava in Lava's environment."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.environments.process import run_to_end

WORKER = Path(__file__).parent / "worker"
"""The folder that holds the package icsnn_lava."""


def run_in_worker(python: Path, module: str, *arguments: str, timeout_s: float) -> str:
    """Run a program to its end; returns its standard output.

    Args:
        python: the environment's interpreter.
        module: run as `python -m module` in WORKER.
        arguments: of its command line; paths are absolute.
        timeout_s: it is ended after this many seconds, because Lava hangs on many faults.

    Raises:
        BackendUnavailableError: it can't be started, fails or hangs; with the end of its log.
    """
    return run_to_end(
        python, module, *arguments, cwd=WORKER, setup="icsnn lava setup", timeout_s=timeout_s
    )
