"""Create an environment's folder; if that fails, the folder is removed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.progress import report_inner

_LOG_LINES = 8
_PACKAGE = ("Collecting ", "Requirement already satisfied: ")  # how a line of pip begins

Remedies = Sequence[tuple[str, str]]
"""Pairs of a text that a failed program may print, and what to do then."""


@contextmanager
def lock_folder(spec: EnvironmentSpec, folder: Path) -> Iterator[int]:
    """Empty a folder and lock it against other processes; it is removed if the body fails.

    Yields:
        the file descriptor of the lock.

    Raises:
        BackendUnavailableError: the folder holds other files, is locked, or can't be written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and not names & {spec.stamp, spec.unfinished}:
            raise BackendUnavailableError(
                f"{folder}: exists and was not created by {spec.command}, so it will not be "
                f"overwritten; choose another folder with {spec.folder_setting}"
            )
        with (folder / spec.unfinished).open("w") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                _clear(spec, folder)
                yield mark.fileno()
                (folder / spec.unfinished).unlink()
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except BlockingIOError as error:
        raise BackendUnavailableError(
            f"{folder}: another process is setting {spec.title} up here; wait until it is done"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise BackendUnavailableError(
            f"{folder}: not a folder; choose another with {spec.folder_setting}"
        ) from error
    except OSError as error:
        raise BackendUnavailableError(
            f"{folder}: can't be written ({error}); choose another with {spec.folder_setting}"
        ) from error


def run_program(
    spec: EnvironmentSpec, command: Sequence[str], lock: int, remedies: Remedies
) -> None:
    """Run a program to its end; raises BackendUnavailableError with the end of its output.

    The program inherits the folder's lock: if only this process is killed, pip continues and the
    folder stays locked. Packages that pip names are counted, for inner_progress.
    """
    try:
        with subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(lock,),
        ) as program:
            assert program.stdout is not None  # a pipe
            try:
                printed = list(_counted(program.stdout))
            except BaseException:
                program.kill()
                raise
    except OSError as error:
        raise BackendUnavailableError(f"{command[0]}: can't be started ({error})") from error
    if program.returncode != 0:
        text_of_all = "".join(printed)
        known = [remedy for text, remedy in remedies if text in text_of_all]
        tail = "".join(f"\n  | {line[:300]}" for line in text_of_all.splitlines()[-_LOG_LINES:])
        raise BackendUnavailableError(
            f"{spec.title} could not be set up: {' '.join(command)} failed. "
            f"{known[0] if known else 'See its output below'}, then run this again.{tail}"
        )


def _counted(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a program; those in which pip names a package are reported."""
    packages = 0
    for line in lines:
        if line.startswith(_PACKAGE):
            packages += 1
            report_inner("packages collected", packages, None)
        yield line


def _clear(spec: EnvironmentSpec, folder: Path) -> None:
    """Remove the folder's contents: the stamp first, the lock file never."""
    (folder / spec.stamp).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != spec.unfinished:
            path.unlink()
