"""Create and test Lava's environment; an environment that fails is removed."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.environments.build import lock_folder, run_program
from icsnn_deploy.environments.spec import default_folder, python_of
from icsnn_deploy.environments.stamp import write_stamp
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.environment import (
    LAVA,
    LAVA_VERSION,
    WorkerEnvironment,
    find_worker,
    read_versions,
)
from icsnn_deploy.lava.interpreters import Interpreter, find_interpreter
from icsnn_deploy.lava.worker_process import run_in_worker
from icsnn_deploy.progress import Progress, silent

_LAVA = f"lava-nc=={LAVA_VERSION}"
# The requirements of lava-nc, without its limits on Python and NumPy, which the shim lifts.
_DEPENDENCIES = (
    "asteval>=0.9.31,<0.10",
    "networkx<=2.8.7",
    "numpy<2.4",
    "scikit-learn>=1.5,<2",
    "scipy>=1.10.1,<2",
)
_SELF_TEST_TIMEOUT_S = 120  # it takes two seconds

_REMEDIES = (
    ("No space left on device", "Free 400 MB, or choose another folder with --at"),
    ("No matching distribution", "Check the network, and that the index pip asks holds lava-nc"),
    ("Connection", "Check the network, and which index pip asks"),
)


def set_up(
    at: Path | None = None, python: str | None = None, progress: Progress = silent
) -> WorkerEnvironment:
    """Create Lava's environment; if it exists, test it.

    Args:
        at: its folder; default: see `find_worker`.
        python: the Python to create it with, see `find_interpreter`. An environment of another
            version is created again.
        progress: called at each stage.

    Raises:
        BackendUnavailableError: no supported Python, the folder holds other files, or pip or the
            self-test fails; the unfinished environment is removed, other files are not.
    """
    interpreter = None if python is None else find_interpreter(python)
    try:
        ready = find_worker(at)
    except BackendUnavailableError:
        pass
    else:
        if interpreter is None or ready.versions["python"].startswith(f"{interpreter.name}."):
            check(ready)
            return ready
    folder = (at or default_folder(LAVA)).absolute()
    interpreter = interpreter or find_interpreter()
    with lock_folder(LAVA, folder) as lock:
        _build(folder, interpreter, lock, progress)
    return find_worker(folder)


def check(environment: WorkerEnvironment) -> None:
    """Run the self-test in an existing environment.

    Raises:
        BackendUnavailableError: it fails; names what to do.
    """
    try:
        self_test(environment.python)
    except BackendUnavailableError as error:
        is_created_here = (environment.folder / LAVA.stamp).exists()
        remedy = (
            f"remove it and run: icsnn lava setup --at {environment.folder}"
            if is_created_here
            else f"run: pip install --force-reinstall {_LAVA}"
        )
        raise BackendUnavailableError(
            f"{environment.folder}: Lava is set up here but does not run; if /dev/shm and $TMPDIR "
            f"are not full, {remedy}\n{error}"
        ) from error


def self_test(python: Path) -> dict[str, str]:
    """Run two neurons in Lava; returns the versions that ran.

    Args:
        python: interpreter of Lava's environment.

    Raises:
        BackendUnavailableError: the spikes are wrong, or the run fails or hangs.
    """
    printed = run_in_worker(python, "icsnn_lava.selftest", timeout_s=_SELF_TEST_TIMEOUT_S)
    return read_versions(printed.encode(), f"{python} -m icsnn_lava.selftest")


def _build(folder: Path, interpreter: Interpreter, lock: int, progress: Progress) -> None:
    """Create the virtual environment, install packages, run the self-test, write the stamp.

    Args:
        folder: of the environment.
        interpreter: to create it with.
        lock: file descriptor of the folder's lock.
        progress: called at each stage.
    """
    python = python_of(folder)
    stages = (
        ("Lava: virtual environment", [[interpreter.path, "-I", "-m", "venv", folder]]),
        ("Lava: packages", [[python, *arguments] for arguments in _pip(interpreter)]),
    )
    for stage, commands in stages:
        progress(stage, 0, len(commands))
        for done, command in enumerate(commands, start=1):
            run_program(LAVA, [str(part) for part in command], lock, _REMEDIES)
            progress(stage, done, len(commands))
    progress("Lava: self-test", 0, 1)
    versions = self_test(python)
    progress("Lava: self-test", 1, 1)
    write_stamp(LAVA, folder, versions)


def _pip(interpreter: Interpreter) -> list[list[str]]:
    """The pip commands that install Lava."""
    install = ["-I", "-m", "pip", "--disable-pip-version-check", "install"]
    if interpreter.version == (3, 10):
        return [[*install, _LAVA]]
    return [
        [*install, *_DEPENDENCIES],
        [*install, "--ignore-requires-python", "--no-deps", _LAVA],
    ]
