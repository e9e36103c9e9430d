"""Run readers in a worker process of their environment, and read back their recordings."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.environments.process import run_worker
from icsnn_deploy.environments.watch import follow
from icsnn_deploy.errors import (
    BackendUnavailableError,
    DataError,
    ExportError,
    IcsnnError,
    SimulationError,
)
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.readers.environment import SETUP

logger = logging.getLogger(__name__)

STEP_LIMIT_S = 120.0
"""Longest time for the start of a reader, or for one step of one population."""

_ERRORS: dict[str, type[IcsnnError]] = {
    error.__name__: error
    for error in (BackendUnavailableError, DataError, ExportError, SimulationError)
}
_HINT = "Run fewer images at a time"


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One file to run in one reader."""

    reader: str
    file: Path
    inputs: Array  # in the form that the reader's `run` takes


def run_requests(
    python: Path,
    requests: Sequence[Request],
    *,
    step_limit_s: float = STEP_LIMIT_S,
    progress: Progress = silent,
) -> list[Recording]:
    """Run files in readers, one after the other, in one worker.

    Args:
        python: interpreter of the readers' environment.
        requests: the files to run.
        step_limit_s: longest time between two steps of populations.
        progress: called with the number of steps of populations that are done.

    Raises:
        ExportError, DataError, BackendUnavailableError: as raised by the reader's module.
        SimulationError: the reader fails, hangs or is killed; no process is left.
    """
    with temporary_folder("readers") as folder:
        try:
            _write(folder, requests)
        except OSError as error:
            raise SimulationError(f"{folder}: can't be written ({error}). {_HINT}") from error

        def command(heartbeat: int) -> list[str]:
            return ["icsnn_deploy.readers.worker", str(folder), str(heartbeat)]

        titles = ", ".join(dict.fromkeys(request.reader for request in requests))
        with (
            (folder / "log").open("w+b") as log,
            run_worker(python, command, cwd=folder, setup=SETUP, output=log, log=log) as worker,
        ):
            follow(worker, 0, step_limit_s, title=titles, hint=_HINT, progress=progress)
        if worker.process.returncode != 0:
            raise _fault(folder, titles, worker.process.returncode)
        return [_read(folder, number, each.reader) for number, each in enumerate(requests)]


def _write(folder: Path, requests: Sequence[Request]) -> None:
    for number, request in enumerate(requests):
        np.save(folder / f"{number}-inputs.npy", request.inputs)
    listed = [{"reader": each.reader, "file": str(each.file.absolute())} for each in requests]
    (folder / "requests.json").write_text(json.dumps(listed))


def _read(folder: Path, number: int, reader: str) -> Recording:
    names = json.loads((folder / f"{number}-names.json").read_text())
    with np.load(folder / f"{number}-result.npz", allow_pickle=False) as arrays:
        return Recording(
            backend=f"nir:{reader}",
            logits=arrays["logits"],
            spikes={name: arrays[str(index)] for index, name in enumerate(names)},
        )


def _fault(folder: Path, title: str, code: int) -> IcsnnError:
    """The error that the worker recorded before it ended, or its exit status."""
    log = (folder / "log").read_text(errors="replace")
    logger.debug("worker of %s:\n%s", title, log)
    try:
        fault = json.loads((folder / "fault.json").read_text())
    except FileNotFoundError:
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
        tail = "".join(f"\n  | {line[:300]}" for line in log.strip().splitlines()[-4:])
        return SimulationError(
            f"the worker of {title} {killed or f'ended with exit code {code}'}. {_HINT}{tail}"
        )
    logger.debug("worker of %s: %s", title, fault["trace"])
    if fault["type"] in _ERRORS:
        return _ERRORS[fault["type"]](fault["message"])
    return SimulationError(f"{title} failed: {fault['type']}: {fault['message']}")
