"""Atomic writes: a file or folder is written under a temporary name and then renamed.

The temporary name is in the same folder, because a rename is atomic only within one file system.
Nothing is synced to the disk: this protects against errors and killed processes, not against a
power cut.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, and rename it to `target` after the body.

    If the body or the rename fails, the target is unchanged and the temporary file is removed.

    Raises:
        OSError: the rename fails.
    """
    draft = _temporary_path(target)
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
        OSError: the folder can't be created.
    """
    folder = _temporary_path(target)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(draft: Path, target: Path) -> None:
    """Rename the folder `draft` to `target`, replacing a folder that exists there.

    A rename can't replace a folder that is not empty, so the old one is renamed first; for a moment
    `target` does not exist. If the second rename fails, the old folder is restored.

    Raises:
        OSError: a rename fails.
    """
    old = draft.with_name(f"{draft.name}.replaced")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(draft, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _temporary_path(target: Path) -> Path:
    """A hidden, random path beside `target`: several processes may write the same target."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
