"""Run netlists in a worker process of Lava's environment, and read back their recordings.

The worker has its own process group. It writes one byte to a pipe per step of Lava; if no byte
arrives within the limit, it hangs. A limit on the total time would depend on the machine, the
network and its load.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from icsnn_deploy.environments.process import Worker, run_worker
from icsnn_deploy.environments.watch import follow
from icsnn_deploy.errors import SimulationError
from icsnn_deploy.lava.netlist import Netlist
from icsnn_deploy.lava.worker_process import WORKER
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.progress import Progress, silent

logger = logging.getLogger(__name__)

STEP_LIMIT_S = 120.0
STEP_LIMIT_VARIABLE = "ICSNN_LAVA_STEP_LIMIT"
"""Environment variable: longest time in seconds for one step of Lava, and for its start."""

_NO_SPACE = "Memory, $TMPDIR or /dev/shm may be full: run fewer images at a time"
_REMEDIES = (
    ("killed by", _NO_SPACE),
    ("MemoryError", _NO_SPACE),
    ("No space left", _NO_SPACE),
)
_IF_SLOW = (
    f"If it is only slow, raise {STEP_LIMIT_VARIABLE} (seconds per step), or run fewer images at "
    "a time"
)
_DEFAULT_REMEDY = (
    "`icsnn lava status` tests the environment; the whole traceback is in the log "
    f"{__name__}, at level debug"
)


@dataclass(frozen=True, kw_only=True)
class LavaResult:
    """The recordings of one netlist; rows are steps, starting at each recorder's offset."""

    readout: bytes
    spikes: Mapping[str, bytes]
    potentials: Mapping[str, bytes]
    overflows: Mapping[str, int]  # by population, how often a potential exceeded 24 bits
    versions: Mapping[str, str]


def step_limit() -> float:
    """The time limit for one step, in seconds: the environment variable's, or the default.

    Raises:
        SimulationError: the variable does not hold a positive number.
    """
    given = os.environ.get(STEP_LIMIT_VARIABLE)
    if given is None:
        return STEP_LIMIT_S
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise SimulationError(f"{STEP_LIMIT_VARIABLE}={given!r}: a number of seconds > 0 is needed")
    return limit


def run_netlists(
    python: Path,
    netlists: Sequence[Netlist],
    *,
    step_limit_s: float | None = None,
    progress: Progress = silent,
) -> list[LavaResult]:
    """Run netlists one after the other in one worker.

    Args:
        python: interpreter of Lava's environment.
        netlists: the netlists to run.
        step_limit_s: longest time for one step; default: `step_limit()`.
        progress: called with the number of steps that are done.

    Raises:
        SimulationError: Lava fails, hangs or is killed; no process is left.
        BackendUnavailableError: the worker can't be started.
    """
    limit = step_limit() if step_limit_s is None else step_limit_s
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder("lava")).absolute()
        except OSError as error:
            raise SimulationError(
                f"can't create a folder for temporary files ({error}). {_NO_SPACE}"
            ) from error
        try:
            for number, netlist in enumerate(netlists):
                _write(folder / str(number), netlist)
        except OSError as error:
            raise SimulationError(f"{folder}: can't be written ({error}). {_NO_SPACE}") from error
        steps = sum(netlist.steps for netlist in netlists)
        with (folder / "log").open("w+b") as log, _start(python, folder, log) as worker:
            follow(worker, steps, limit, title="Lava", hint=_IF_SLOW, progress=progress)
        code = worker.process.returncode
        if code != 0 or not (folder / str(len(netlists) - 1) / "result.json").exists():
            raise _fault(folder, code)
        return [_read(folder / str(number), netlist) for number, netlist in enumerate(netlists)]


def _write(folder: Path, netlist: Netlist) -> None:
    folder.mkdir()
    arrays: dict[str, Any] = {}
    processes = []
    for number, process in enumerate(netlist.processes):
        keys = {name: f"{number}-{name}" for name in process.arrays}
        arrays |= {keys[name]: array for name, array in process.arrays.items()}
        processes.append(
            {
                "kind": process.kind,
                "name": process.name,
                "options": dict(process.options),
                "arrays": keys,
            }
        )
    np.savez(folder / "arrays.npz", **arrays)
    description = {
        "tag": netlist.tag,
        "steps": netlist.steps,
        "processes": processes,
        "wires": [[wire.source, wire.target, wire.transforms] for wire in netlist.wires],
    }
    (folder / "network.json").write_text(json.dumps(description))


def _start(python: Path, folder: Path, log: BinaryIO) -> AbstractContextManager[Worker]:
    """Start icsnn_lava with the folder, this process's id and the heartbeat pipe."""

    def command(heartbeat: int) -> list[str]:
        return ["icsnn_lava", str(folder), str(os.getpid()), str(heartbeat)]

    return run_worker(python, command, cwd=WORKER, setup="icsnn lava setup", output=log, log=log)


def _fault(folder: Path, code: int) -> SimulationError:
    """The error that the worker recorded before it ended, or its exit status."""
    log = (folder / "log").read_text(errors="replace")
    logger.debug("Lava worker:\n%s", log)
    try:
        fault = json.loads((folder / "fault.json").read_text())
        logger.debug("Lava worker: %s", fault["trace"])
        message = f"Lava failed in {fault['where']}: {fault['what']}"
    except FileNotFoundError:
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
        message = f"the Lava worker {killed or f'ended with exit code {code}'}"
    remedies = [remedy for text, remedy in _REMEDIES if text in message]
    return SimulationError(f"{message}. {remedies[0] if remedies else _DEFAULT_REMEDY}")


def _read(folder: Path, netlist: Netlist) -> LavaResult:
    result = json.loads((folder / "result.json").read_text())
    return LavaResult(
        readout=(folder / netlist.readout).read_bytes(),
        spikes={name: (folder / file).read_bytes() for name, file in netlist.spikes.items()},
        potentials={
            name: (folder / file).read_bytes() for name, file in netlist.potentials.items()
        },
        overflows=result["overflows"],
        versions=result["versions"],
    )
