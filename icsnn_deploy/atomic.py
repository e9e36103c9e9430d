"""Files that are seen whole or not at all: written under another name, then renamed.

The other name is in the same folder, since a rename is atomic within one file system alone. Nothing
is synced to the disk: this holds against errors and killed processes, not against a power cut.
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
    """A free path beside `target`; the body writes it, and then it takes the target's place.

    Where the body or the rename fails, the target is as it was and the other file is gone.

    Raises:
        OSError: the rename fails.
    """
    draft = _beside(target)
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, for drafts that the body renames itself; gone at the end.

    Raises:
        OSError: it can't be made.
    """
    folder = _beside(target)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(draft: Path, target: Path) -> None:
    """Rename a folder beside `target` to it, over a folder that is there.

    A rename replaces no folder that holds something, so the old one goes aside first: for a moment
    there is none. It is back where the second rename fails.

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


def _beside(target: Path) -> Path:
    """A hidden name of its own: several processes may write the same target."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
