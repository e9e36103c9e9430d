"""Wait for a worker: only the time since its last step is limited, not the total time."""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import suppress

from icsnn_deploy.environments.process import POLL_S, Worker
from icsnn_deploy.errors import SimulationError
from icsnn_deploy.progress import Progress


def follow(
    worker: Worker, steps: int, limit_s: float, *, title: str, hint: str, progress: Progress
) -> None:
    """Wait until a worker ends; it writes one byte to its heartbeat pipe per step.

    Args:
        worker: the running worker.
        steps: number of steps that it will make; 0: unknown.
        limit_s: longest time between two steps.
        title: what runs, for messages.
        hint: what to do if it is only slow.
        progress: called with the number of steps that are done.

    Raises:
        SimulationError: no step was finished within limit_s.
    """
    done = 0
    last = time.monotonic()
    total = steps or None
    progress(title, 0, total)
    while worker.process.poll() is None:
        ready, _, _ = select.select([worker.heartbeat], [], [], POLL_S)
        beats = os.read(worker.heartbeat, 4096) if ready else b""
        if beats:
            done += len(beats)
            last = time.monotonic()
            progress(title, done, total)
        elif ready:  # every process has closed the pipe
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(POLL_S)
        if time.monotonic() - last > limit_s:
            where = f"after step {done} of {steps}" if done else "before its first step"
            raise SimulationError(
                f"{title} hangs: no step finished for {limit_s:g} s, {where}; its processes were "
                f"ended. {hint}"
            )
