"""Replace an export of a bundle, with its entries in the manifest, as a whole or not at all.

The finished files and the manifest that lists them lie in a hidden folder of the bundle. One rename
gives it the name .NAME.finished: before it, the bundle is the old one; from then on it is the new
one, because whoever opens the bundle next moves the files into place, if this process can't.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from icsnn_deploy.bundle.manifest import MANIFEST, read_manifest
from icsnn_deploy.errors import BundleError
from icsnn_deploy.locks import locked_folder

DATA = ".data"
"""Suffix of an export's data file, which holds its parameters if one file can't."""

_FINISHED = re.compile(r"\.([A-Za-z0-9_][A-Za-z0-9_.-]{0,99})\.finished")
_OLD = "old"  # folder for the previous files, in the finished folder


def swap_export(bundle: Path, draft: Path, name: str) -> None:
    """Move finished files into place and update the manifest, or restore the previous state.

    Args:
        bundle: the folder, locked (locks.locked_folder).
        draft: a folder in the bundle with the export, its data file, if any, and the manifest that
            lists them. A previous data file that the export no longer has is removed.
        name: of the export's file or folder.

    Raises:
        OSError: a rename fails.
    """
    finished = bundle / f".{name}.finished"
    os.rename(draft, finished)
    try:
        _move_into_place(bundle, finished, name)
    except OSError:
        with suppress(OSError):  # otherwise the next command finishes the export
            _move_back(bundle, finished, name)
            os.rename(finished, draft)
        raise
    except BaseException:
        with suppress(OSError):
            _move_into_place(bundle, finished, name)
        raise


def settle(bundle: Path) -> None:
    """Move into place what a killed process had finished; under the bundle's lock.

    Raises:
        OSError: a rename fails.
        BundleError: what lies there was not written by this package.
    """
    for finished, name in _finished(bundle):
        _move_into_place(bundle, finished, name)


def settle_if_needed(bundle: Path) -> None:
    """Wait for a process that moves files into place, or finish its work if it was killed.

    A bundle that can't be written is left as it is: its files are compared with the manifest.
    """
    if any(True for _ in _finished(bundle)):
        with suppress(OSError), locked_folder(bundle):
            settle(bundle)


def _finished(bundle: Path) -> Iterator[tuple[Path, str]]:
    """The finished folders in a bundle, and the name of the export in each."""
    with suppress(OSError):
        for entry in sorted(os.listdir(bundle)):
            match = _FINISHED.fullmatch(entry)
            if match is not None:
                yield bundle / entry, match[1]


def _move_into_place(bundle: Path, finished: Path, name: str) -> None:
    """Do what is left to do of the renames: the manifest is last."""
    if os.path.lexists(finished / MANIFEST):
        _require_folder(finished)
        manifest = read_manifest(finished)
        (finished / _OLD).mkdir(exist_ok=True)
        _require_folder(finished / _OLD)
        for target in (name + DATA, name):
            is_new = os.path.lexists(finished / target)
            is_gone = target.endswith(DATA) and target not in manifest.files
            if (is_new or is_gone) and os.path.lexists(bundle / target):
                os.replace(bundle / target, finished / _OLD / target)
            if is_new:
                os.replace(finished / target, bundle / target)
        os.replace(finished / MANIFEST, bundle / MANIFEST)
    shutil.rmtree(finished, ignore_errors=True)


def _move_back(bundle: Path, finished: Path, name: str) -> None:
    """Undo the renames; what is undone could be done again at any point."""
    manifest = read_manifest(finished)
    for target in (name, name + DATA):
        is_listed = target in manifest.files or bool(manifest.files_in(target))
        if is_listed and not os.path.lexists(finished / target):
            os.replace(bundle / target, finished / target)
        if os.path.lexists(finished / _OLD / target):
            os.replace(finished / _OLD / target, bundle / target)


def _require_folder(path: Path) -> None:
    """Raise BundleError for a link, through which files elsewhere would be moved."""
    if path.is_symlink() or not path.is_dir():
        raise BundleError(f"{path}: not a folder that icsnn-deploy made; remove it")
