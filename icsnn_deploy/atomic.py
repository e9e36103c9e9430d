"""Atomic writes: a file or folder is written under a temporary name and then renamed.

The temporary name is in the same folder, because a rename is atomic only within one file system.
Nothing is synced to the disk: this protects against errors and killed processes, not against a
power cut. What a killed process left is removed by the next one that writes beside it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from icsnn_deploy.leftovers import REPLACED, find_replaced, name_beside, remove_leftovers
from icsnn_deploy.locks import locked_folder

_HERE = -100  # AT_FDCWD: paths are relative to the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2), Linux
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EXDEV)
_cleaned: set[str] = set()


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, and rename it to `target` after the body.

    If the body or the rename fails, the target is unchanged and the temporary file is removed.

    Raises:
        OSError: the rename fails.
    """
    _clean_once(target.parent)
    draft = name_beside(target)
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `target`, and remove it after the body.

    The body renames the files that it wants to keep.

    Raises:
        OSError: the folder can't be created, or the umask denies its owner to use it.
    """
    remove_leftovers(target.parent)
    folder = name_beside(target)
    folder.mkdir()
    try:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            reason = f"the umask lets not even you read new files (folders get mode {mode:03o})"
            raise PermissionError(errno.EACCES, f"{reason}; run: umask 022", str(folder))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_folder(draft: Path, target: Path, check: Callable[[], None]) -> None:
    """Rename the folder `draft` to `target`, under the lock of what exists there.

    Args:
        draft: a finished folder (folder_beside); afterwards it holds what was replaced.
        target: its place.
        check: raises where the present target must not be replaced; called under its lock.

    Raises:
        OSError: a rename fails.
    """
    while True:
        check()
        try:
            if not os.path.lexists(target):
                os.rename(draft, target)
                return
            with locked_folder(target):
                check()
                replace_folder(draft, target)
                return
        except OSError as error:
            moved = (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)  # by another process, just now
            if error.errno not in moved or not draft.is_dir():
                raise


def replace_folder(draft: Path, target: Path) -> None:
    """Rename the folder `draft` to `target`; a folder that exists there is in `draft` afterwards.

    The two are exchanged in one step where the system can (Linux, renameat2). Elsewhere the old
    one is renamed first, and `target` does not exist for a moment; if the process is killed there,
    `restore_folder` brings the old one back, and if the second rename fails, it is done here.

    Raises:
        OSError: a rename fails.
    """
    if not os.path.lexists(target):
        os.rename(draft, target)
    elif not _exchange(draft, target):
        _replace_in_two_steps(draft, target)


def restore_folder(target: Path) -> None:
    """Bring back a folder that a killed process had renamed, to replace it, if `target` is missing.

    Raises:
        OSError: the rename fails.
    """
    if os.path.lexists(target):
        return
    old = find_replaced(target)
    if old is not None:
        with suppress(FileNotFoundError):  # another process has restored it
            os.rename(old, target)


def _replace_in_two_steps(draft: Path, target: Path) -> None:
    old = name_beside(target, REPLACED)
    os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        if not os.path.lexists(target):
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; False where the system or the file system can't.

    Raises:
        OSError: the exchange fails for another reason.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def _clean_once(folder: Path) -> None:
    """Remove leftovers once per process: a ledger writes thousands of files into one folder."""
    key = os.path.abspath(folder)
    if key not in _cleaned:
        _cleaned.add(key)
        remove_leftovers(folder)
