"""Makes the environment that Lava runs in: whole and tested, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.environment import (
    LAVA_VERSION,
    STAMP,
    WorkerEnvironment,
    default_folder,
    find_worker,
    python_of,
    read_versions,
)
from icsnn_deploy.lava.interpreters import Interpreter, find_interpreter
from icsnn_deploy.lava.worker_process import run_in_worker
from icsnn_deploy.progress import Progress, silent

_UNFINISHED = "icsnn-lava.unfinished"
"""The file that marks a folder as ours while it is made; locked by the process that makes it."""

_LAVA = f"lava-nc=={LAVA_VERSION}"
# What lava-nc asks for, but for its limits on Python and NumPy, which the shim lifts.
_DEPENDENCIES = (
    "asteval>=0.9.31,<0.10",
    "networkx<=2.8.7",
    "numpy<2.4",
    "scikit-learn>=1.5,<2",
    "scipy>=1.10.1,<2",
)
_SELF_TEST_TIMEOUT_S = 120  # it takes two seconds
_LOG_LINES = 8

_REMEDIES = (
    ("No space left on device", "Free 400 MB, or choose another folder with --at"),
    ("No matching distribution", "Check the network, and that the index pip asks holds lava-nc"),
    ("Connection", "Check the network, and which index pip asks"),
)


def set_up(
    at: Path | None = None, python: str | None = None, progress: Progress = silent
) -> WorkerEnvironment:
    """Make Lava's environment, or test the one that is there.

    Args:
        at: its folder; default: as `find_worker`.
        python: the Python to make it with, as `find_interpreter` takes it. An environment of
            another version is made anew.
        progress: told of the three stages.

    Raises:
        BackendUnavailableError: no fitting Python, a folder that is not ours, pip or the self-test
            fails; what was made so far is removed. What was there before is not.
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
    folder = (at or default_folder()).absolute()
    interpreter = interpreter or find_interpreter()
    with _claimed(folder) as mark:
        _build(folder, interpreter, mark, progress)
    return find_worker(folder)


def check(environment: WorkerEnvironment) -> None:
    """Run the self-test in an environment that was ready once.

    Raises:
        BackendUnavailableError: it fails; names what to do.
    """
    try:
        self_test(environment.python)
    except BackendUnavailableError as error:
        ours = (environment.folder / STAMP).exists()
        remedy = (
            f"remove it and run: icsnn lava setup --at {environment.folder}"
            if ours
            else f"run: pip install --force-reinstall {_LAVA}"
        )
        raise BackendUnavailableError(
            f"{environment.folder}: Lava is set up here but does not run; if /dev/shm and $TMPDIR "
            f"have room, {remedy}\n{error}"
        ) from error


def self_test(python: Path) -> dict[str, str]:
    """Run two neurons in Lava; returns the versions that ran.

    Args:
        python: the one of Lava's environment.

    Raises:
        BackendUnavailableError: they do not fire as they should, or the run fails or hangs.
    """
    printed = run_in_worker(python, "icsnn_lava.selftest", timeout_s=_SELF_TEST_TIMEOUT_S)
    return read_versions(printed.encode(), f"{python} -m icsnn_lava.selftest")


def _build(folder: Path, interpreter: Interpreter, mark: int, progress: Progress) -> None:
    """Virtual environment, packages, self-test, and the stamp when all are good.

    Args:
        mark: file descriptor of the folder's lock.
    """
    python = python_of(folder)
    stages = (
        ("Lava: virtual environment", [[interpreter.path, "-I", "-m", "venv", folder]]),
        ("Lava: packages", [[python, *arguments] for arguments in _pip(interpreter)]),
    )
    for stage, commands in stages:
        progress(stage, 0, len(commands))
        for done, command in enumerate(commands, start=1):
            _run([str(part) for part in command], mark)
            progress(stage, done, len(commands))
    progress("Lava: self-test", 0, 1)
    versions = self_test(python)
    progress("Lava: self-test", 1, 1)
    draft = folder / f"{STAMP}.tmp"
    draft.write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")
    os.replace(draft, folder / STAMP)


def _pip(interpreter: Interpreter) -> list[list[str]]:
    """The pip runs that install Lava."""
    install = ["-I", "-m", "pip", "--disable-pip-version-check", "install"]
    if interpreter.version == (3, 10):
        return [[*install, _LAVA]]
    return [
        [*install, *_DEPENDENCIES],
        [*install, "--ignore-requires-python", "--no-deps", _LAVA],
    ]


def _run(command: list[str], mark: int) -> None:
    """Run a program to its end; raises BackendUnavailableError with the end of what it said.

    It holds the folder's lock as well: killed alone, this process leaves a pip that goes on.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(mark,),
        )
    except OSError as error:
        raise BackendUnavailableError(f"{command[0]}: can't be started ({error})") from error
    if done.returncode != 0:
        remedies = [remedy for sign, remedy in _REMEDIES if sign in done.stdout]
        tail = "".join(f"\n  | {line[:300]}" for line in done.stdout.splitlines()[-_LOG_LINES:])
        raise BackendUnavailableError(
            f"Lava could not be set up: {' '.join(command)} failed. "
            f"{remedies[0] if remedies else 'See what it said'}, then run this again.{tail}"
        )


@contextmanager
def _claimed(folder: Path) -> Iterator[int]:
    """The lock of the folder, which is emptied; removed again if the work in it fails.

    Raises:
        BackendUnavailableError: it holds something else, another process has it, or it can't be
            written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in folder.iterdir()}
        if held and not held & {STAMP, _UNFINISHED}:
            raise BackendUnavailableError(
                f"{folder}: exists and was not made by icsnn lava setup, it will not be "
                "overwritten; choose another folder with --at"
            )
        with (folder / _UNFINISHED).open("w") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _clear(folder)
                yield mark.fileno()
                (folder / _UNFINISHED).unlink()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except BlockingIOError as error:
        raise BackendUnavailableError(
            f"{folder}: another process is setting Lava up here; wait until it is done"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise BackendUnavailableError(
            f"{folder}: is no folder; name another with --at or ICSNN_LAVA"
        ) from error
    except OSError as error:
        raise BackendUnavailableError(
            f"{folder}: can't be written ({error}); name another folder with --at or ICSNN_LAVA"
        ) from error


def _clear(folder: Path) -> None:
    """Remove what is in the folder: the stamp first, the mark never."""
    (folder / STAMP).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _UNFINISHED:
            path.unlink()
