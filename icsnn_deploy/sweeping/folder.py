"""What a sweep has measured, on disk: a sweep that was stopped goes on from there.

    probe/                        the model converted once, so that options are checked at the start
    conversions/T8-KEY/           the bundle of one conversion, or T8-KEY.json: why there is none
    networks/T8-4bit-speck-KEY/   the bundle of one integer network
    cells/T8-4bit-speck-KEY.json  what was measured of one point
    runs/KEY.json                 figures of one network, shared by the points that have it
    locks/                        who works on what

Each name ends in a hash of all that its content depends on, so sweeps of other options, models and
samples may share a folder. Files and bundles are written under a temporary name and renamed, so
they are there completely or not at all.

Processes take work by a lock of the kernel (flock), which ends with the process that holds it: no
lock is ever left over by one that was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.bundle.manifest import json_bytes, read_json
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.sweeping.faults import SweepFaultError

FORMAT = "icsnn-sweep-1"
_FOLDERS = ("conversions", "networks", "cells", "runs", "locks")
_DIGITS = 16


def key_of(content: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that differ where any of the JSON values does.

    Of the JSON of a file (json_bytes), but for text that UTF-8 can't hold: there it is "?".
    """
    text = json.dumps(dict(content), indent=2, sort_keys=True) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


class SweepFolder:
    """The folder of a sweep.

    Args:
        path: created if it does not exist.

    Raises:
        DataError: the folder can't be used, or holds other files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holders: set[str] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            names = {found.name for found in path.iterdir() if found.name[0] != "."}
            if names and not names & {*_FOLDERS, "probe"}:
                raise DataError(
                    f"{path}: holds {sorted(names)[0]}, but no sweep; choose a new folder"
                )
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{path}: can't be used ({error.strerror}); choose another folder"
            ) from error

    def read(self, folder: str, name: str) -> dict[str, Any] | None:
        """The JSON of one finished piece of work; None where it is not finished.

        Raises:
            SweepFaultError: the file is damaged.
        """
        path = self.path / folder / f"{name}.json"
        if not path.exists():
            return None
        try:
            content = read_json(path)
        except BundleError as error:
            raise SweepFaultError(f"{error}; delete the file, and it is measured again") from error
        seal = content.pop("seal", None)
        if content.get("format") != FORMAT or seal != key_of({"name": name, **content}):
            raise SweepFaultError(
                f"{path}: damaged, or of another version; delete the file, and it is measured again"
            )
        return content

    def keep(self, folder: str, name: str, content: Mapping[str, Any]) -> None:
        """Write the JSON of a finished piece of work; raises DataError."""
        sealed = {"format": FORMAT, **content}
        sealed["seal"] = key_of({"name": name, **sealed})
        write_file(self.path / folder / f"{name}.json", json_bytes(sealed))

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Yield whether this process got the lock of that name; another may hold it.

        Raises:
            DataError: the file system has no locks.
        """
        path = self.path / "locks" / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.holders.add(os.pread(descriptor, 200, 0).decode(errors="replace"))
                yield False
                return
            except OSError as error:
                raise DataError(
                    f"{path}: can't be locked ({error.strerror}); choose a folder on a file system "
                    "with locks"
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{socket.gethostname()} {os.getpid()}".encode(), 0)
            yield True
        finally:
            os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Write one file, all of it or nothing; raises DataError."""
    try:
        with atomic_write(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror})") from error


def file_name(*parts: str) -> str:
    """A name of a file of these parts, without characters that a path can't have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(parts))
