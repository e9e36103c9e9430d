"""A folder for an environment that is being made: whole, or not there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec
from icsnn_deploy.errors import BackendUnavailableError

_LOG_LINES = 8

Remedies = Sequence[tuple[str, str]]
"""What to do where a program's output holds a sign."""


@contextmanager
def lock_folder(kind: EnvironmentSpec, folder: Path) -> Iterator[int]:
    """An empty folder that nobody else makes an environment in; gone if the body fails.

    Yields:
        the file descriptor of its lock.

    Raises:
        BackendUnavailableError: it holds something else, another process has it, or it can't be
            written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = {path.name for path in folder.iterdir()}
        if held and not held & {kind.stamp, kind.unfinished}:
            raise BackendUnavailableError(
                f"{folder}: exists and was not made by {kind.command}, it will not be "
                f"overwritten; choose another folder with {kind.another}"
            )
        with (folder / kind.unfinished).open("w") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _clear(kind, folder)
                yield mark.fileno()
                (folder / kind.unfinished).unlink()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except BlockingIOError as error:
        raise BackendUnavailableError(
            f"{folder}: another process is setting {kind.title} up here; wait until it is done"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise BackendUnavailableError(
            f"{folder}: is no folder; name another with {kind.another}"
        ) from error
    except OSError as error:
        raise BackendUnavailableError(
            f"{folder}: can't be written ({error}); name another folder with {kind.another}"
        ) from error


def run_program(
    kind: EnvironmentSpec, command: Sequence[str], lock: int, remedies: Remedies
) -> None:
    """Run a program to its end; raises BackendUnavailableError with the end of what it said.

    It holds the folder's lock as well: killed alone, this process leaves a pip that goes on.
    """
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(lock,),
        )
    except OSError as error:
        raise BackendUnavailableError(f"{command[0]}: can't be started ({error})") from error
    if done.returncode != 0:
        fitting = [remedy for sign, remedy in remedies if sign in done.stdout]
        tail = "".join(f"\n  | {line[:300]}" for line in done.stdout.splitlines()[-_LOG_LINES:])
        raise BackendUnavailableError(
            f"{kind.title} could not be set up: {' '.join(command)} failed. "
            f"{fitting[0] if fitting else 'See what it said'}, then run this again.{tail}"
        )


def _clear(kind: EnvironmentSpec, folder: Path) -> None:
    """Remove what is in the folder: the stamp first, the mark never."""
    (folder / kind.stamp).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != kind.unfinished:
            path.unlink()
