"""Run a circuit in the worker of a tool, and read back its spikes."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.environments.process import run_worker
from icsnn_deploy.environments.watch import follow
from icsnn_deploy.errors import SimulationError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.progress import Progress
from icsnn_deploy.tools.circuit import Circuit
from icsnn_deploy.tools.environment import Tool

logger = logging.getLogger(__name__)

WORKER = Path(__file__).parent / "worker"
"""The folder that holds the package icsnn_tools."""

IMAGE_LIMIT_S = 600.0
"""Longest time for one image, and for the start of a tool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ToolResult:
    """What a tool recorded of a batch."""

    spikes: Mapping[str, Array]  # uint8 [T, B, *shape], of the populations that it ran
    report: Mapping[str, Any]  # what else its worker reported


def run_tool(
    python: Path,
    tool: Tool,
    circuit: Circuit,
    inputs: Array,
    hosted: Mapping[str, Array],
    settings: Mapping[str, Any],
    progress: Progress,
) -> ToolResult:
    """Run a batch of inputs in a tool, in one worker.

    Args:
        python: interpreter of the tool's environment.
        tool: the tool.
        circuit: the network.
        inputs: [B, *shape], or [T, B, *shape] if they are spikes.
        hosted: spikes of the populations that the host runs, [T, B, *shape].
        settings: of the worker.
        progress: called with the number of images that are done.

    Raises:
        SimulationError: the tool fails, hangs or is killed; no process is left.
    """
    with temporary_folder("tools") as folder:
        try:
            _write(folder, circuit, inputs, hosted, settings)
        except OSError as error:
            raise SimulationError(
                f"{folder}: can't be written ({error}). Run fewer images at a time"
            ) from error

        def command(heartbeat: int) -> list[str]:
            return [tool.module, str(folder), str(heartbeat)]

        images = inputs.shape[circuit.graph.input.batch_axis]
        with (
            (folder / "log").open("w+b") as log,
            run_worker(
                python, command, cwd=WORKER, setup=tool.spec.command, output=log, log=log
            ) as worker,
        ):
            follow(
                worker,
                images,
                IMAGE_LIMIT_S,
                title=tool.title,
                hint="Run a smaller network",
                progress=progress,
            )
        if worker.process.returncode != 0:
            raise _fault(folder, tool, worker.process.returncode)
        return _read(folder, circuit, images)


def _write(
    folder: Path,
    circuit: Circuit,
    inputs: Array,
    hosted: Mapping[str, Array],
    settings: Mapping[str, Any],
) -> None:
    """Write circuit.json, which names the arrays, and arrays.npz."""
    graph = circuit.graph
    arrays: dict[str, Any] = {}
    sent = dict(hosted)
    if graph.input.is_timed:
        sent[graph.input.name] = inputs
    listed: dict[str, Any] = {
        "time_steps": graph.steps,
        "settings": dict(settings),
        "sources": [],
        "neurons": [],
        "synapses": [],
    }
    for number, (name, spikes) in enumerate(sent.items()):
        steps, images = spikes.shape[:2]
        arrays[f"source{number}"] = spikes.reshape(steps, images, -1).astype(np.uint8)
        listed["sources"].append({"name": name, "offset": circuit.plan.offsets[name]})
    run = [each for each in circuit.neurons if not each.on_host]
    for number, each in enumerate(run):
        for field in ("v_threshold", "v_init", "bias"):
            arrays[f"{field}{number}"] = getattr(each, field)
        if each.v_reset is not None:
            arrays[f"v_reset{number}"] = each.v_reset
        listed["neurons"].append({"name": each.name, "offset": each.offset})
    for number, some in enumerate(circuit.synapses):
        for field in ("starts", "targets", "weights"):
            arrays[f"{field}{number}"] = getattr(some, field)
        listed["synapses"].append(
            {"source": some.source, "target": some.target, "delay": some.delay}
        )
    np.savez(folder / "arrays.npz", **arrays)
    (folder / "circuit.json").write_text(json.dumps(listed))


def _read(folder: Path, circuit: Circuit, images: int) -> ToolResult:
    graph = circuit.graph
    spikes = {}
    run = [each for each in circuit.neurons if not each.on_host]
    with np.load(folder / "spikes.npz", allow_pickle=False) as arrays:
        for number, each in enumerate(run):
            shape = (graph.steps, images, *graph.shape(each.name))
            spikes[each.name] = arrays[f"spikes{number}"].astype(np.uint8).reshape(shape)
    report = json.loads((folder / "report.json").read_text())
    return ToolResult(spikes=spikes, report=report)


def _fault(folder: Path, tool: Tool, code: int) -> SimulationError:
    """The error that the worker recorded before it ended, or its exit status."""
    log = (folder / "log").read_text(errors="replace")
    logger.debug("worker of %s:\n%s", tool.title, log)
    try:
        fault = json.loads((folder / "fault.json").read_text())
    except FileNotFoundError:
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
        tail = "".join(f"\n  | {line[:300]}" for line in log.strip().splitlines()[-4:])
        return SimulationError(
            f"the worker of {tool.title} {killed or f'ended with exit code {code}'}. Run fewer "
            f"images at a time{tail}"
        )
    return SimulationError(f"{tool.title}: {fault['message']}")
