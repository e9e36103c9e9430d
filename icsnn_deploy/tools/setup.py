"""Create and test the environment of a tool; an environment that fails is removed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.self_test import three_neurons
from icsnn_deploy.environments.build import lock_folder, run_program
from icsnn_deploy.environments.spec import default_folder, python_of
from icsnn_deploy.environments.stamp import write_stamp
from icsnn_deploy.errors import BackendUnavailableError, IcsnnError
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.tools.environment import Tool, ToolEnvironment, find_environment
from icsnn_deploy.tools.simulator import ToolSimulator


def set_up(tool: Tool, progress: Progress = silent) -> ToolEnvironment:
    """Create a tool's environment; if it exists, test it.

    Args:
        tool: the tool.
        progress: called at each stage.

    Raises:
        BackendUnavailableError: the folder holds other files, or pip or the self-test fails; the
            unfinished environment is removed, other files are not.
    """
    try:
        ready = find_environment(tool)
    except BackendUnavailableError:
        pass
    else:
        check(tool, ready)
        return ready
    folder = default_folder(tool.spec)
    with lock_folder(tool.spec, folder) as lock:
        _build(tool, folder, lock, progress)
    return find_environment(tool)


def check(tool: Tool, environment: ToolEnvironment) -> None:
    """Run the self-test in an existing environment; raises BackendUnavailableError if it fails."""
    try:
        self_test(tool, environment.python)
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"{environment.folder}: exists but fails its self-test; remove it and run: "
            f"{tool.spec.command}\n{error}"
        ) from error


def self_test(tool: Tool, python: Path) -> None:
    """Run three neurons in a tool.

    Raises:
        BackendUnavailableError: the tool fails, hangs, or gives wrong spikes.
    """
    network, inputs = three_neurons("rate"), np.ones((6, 2, 1), np.int8)
    expected = ReferenceSimulator(network).run(inputs).spikes["population"]
    try:
        recording = ToolSimulator(network, tool, python=python).run(inputs)
    except IcsnnError as error:
        raise BackendUnavailableError(f"self-test: {error}") from error
    if (recording.spikes["population"] != expected).any():
        raise BackendUnavailableError(f"self-test: {tool.title} gives wrong spikes")


def _build(tool: Tool, folder: Path, lock: int, progress: Progress) -> None:
    """Create the virtual environment, install and test the tool, write the stamp."""
    spec, python = tool.spec, python_of(folder)
    remedies = (
        (
            "No space left on device",
            f"Free {tool.megabytes} MB, or choose another folder with {spec.variable}",
        ),
        (
            "No matching distribution",
            f"Check the network, which index pip asks, and whether {spec.title} "
            f"exists for Python {sys.version_info[0]}.{sys.version_info[1]}",
        ),
        ("Connection", "Check the network, and which index pip asks"),
    )
    progress(f"{spec.title}: virtual environment", 0, 1)
    run_program(spec, [sys.executable, "-I", "-m", "venv", str(folder)], lock, remedies)
    progress(f"{spec.title}: packages", 0, 1)
    exact = [f"{package}=={version}" for package, version in tool.pins.items()]
    install = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", "install"]
    run_program(spec, [*install, *exact], lock, remedies)
    progress(f"{spec.title}: self-test", 0, 1)
    self_test(tool, python)
    write_stamp(spec, folder, tool.pins)
