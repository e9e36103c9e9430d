"""Names of temporary files and folders, which tell what is left of a process that was killed.

    .NAME.MACHINE-PID-RANDOM.tmp         a draft beside NAME, which is not finished
    .NAME.MACHINE-PID-RANDOM.old         a folder NAME that is being replaced, of the same process
    icsnn-KIND-MACHINE-PID-RANDOM        a folder of temporary files in $TMPDIR

MACHINE stands for the machine and the namespace of process ids: elsewhere, the same id is another
process. Such a name is removed once its process is gone; of another machine, after a day.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DRAFT, REPLACED = "tmp", "old"
"""Endings of names beside a file or folder."""

_FOREIGN_AGE_S = 24 * 3600.0
_LONGEST_NAME = 200  # the rest of the 255 bytes of a name is for what is added
_BESIDE = re.compile(r"\.(?P<name>.+)\.(?P<owner>[0-9a-f]{8}-\d{1,10})-[0-9a-f]{8}\.(tmp|old)")
_TEMPORARY = re.compile(r"icsnn-[a-z]+-(?P<owner>[0-9a-f]{8}-\d{1,10})-[0-9a-f]{8}")


def name_beside(target: Path, ending: str = DRAFT) -> Path:
    """A hidden, random path beside `target`: several processes may write the same target."""
    return target.parent / f".{_label(target)}.{_owner()}-{secrets.token_hex(4)}.{ending}"


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone have left in a folder; errors are ignored.

    A folder that was being replaced is kept where it is the only copy (`find_replaced`).
    """
    for entry in _entries(folder):
        match = _BESIDE.fullmatch(entry.name)
        if match is None or not _is_stale(Path(entry.path), match["owner"]):
            continue
        if entry.name.endswith(REPLACED) and not os.path.lexists(folder / match["name"]):
            continue
        _remove(Path(entry.path))


def find_replaced(target: Path) -> Path | None:
    """The folder that was `target`, if its process ended before it put another in its place."""
    label, newest = _label(target), None
    for entry in _entries(target.parent):
        match = _BESIDE.fullmatch(entry.name)
        if match is None or match["name"] != label or not entry.name.endswith(REPLACED):
            continue
        if not _is_alive(match["owner"]):
            newest = max(filter(None, (newest, Path(entry.path))), key=_changed)
    return newest


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """An empty folder in $TMPDIR for this user alone; removed after the body.

    Folders of the same kind that killed processes have left are removed first.

    Args:
        kind: of the files, in lower-case letters; part of the name.

    Raises:
        OSError: the folder can't be created.
    """
    parent = Path(tempfile.gettempdir())
    for entry in _entries(parent, f"icsnn-{kind}-"):
        match = _TEMPORARY.fullmatch(entry.name)
        if match is not None and _is_stale(Path(entry.path), match["owner"]):
            _remove(Path(entry.path))
    folder = parent / f"icsnn-{kind}-{_owner()}-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _label(target: Path) -> str:
    """The name of a target, cut where nothing could be added to it."""
    encoded = os.fsencode(target.name)
    if len(encoded) <= _LONGEST_NAME:
        return target.name
    return f"{os.fsdecode(encoded[:64])}~{hashlib.sha256(encoded).hexdigest()[:16]}"


def _owner() -> str:
    return f"{_machine()}-{os.getpid()}"


@functools.cache
def _machine() -> str:
    """Machine and namespace of process ids, as eight hexadecimal digits."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


def _is_alive(owner: str) -> bool:
    """Whether the process may still run; one of another machine may."""
    machine, _, number = owner.partition("-")
    if machine != _machine():
        return True
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return not _has_ended(int(number))


def _has_ended(process: int) -> bool:
    """Whether a process has ended, and waits for its parent to notice."""
    try:
        status = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[:1] == [b"Z"]


def _is_stale(path: Path, owner: str) -> bool:
    machine, _, _ = owner.partition("-")
    if machine == _machine():
        return not _is_alive(owner)
    return time.time() - _changed(path) > _FOREIGN_AGE_S


def _changed(path: Path) -> float:
    """Time of the last change, in seconds since 1970; of a path that is gone, now."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def _entries(folder: Path, prefix: str = ".") -> Iterator[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        yield from [entry for entry in entries if entry.name.startswith(prefix)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
