"""Replace an export of a bundle, with its entries in the manifest, as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from icsnn_deploy.bundle.manifest import Manifest, write_manifest

DATA = ".data"
"""Suffix of an export's data file, which holds its parameters if one file can't."""


def swap_export(
    bundle: Path, manifest: Manifest, updated: Manifest, drafts: Sequence[Path], *, backup: Path
) -> None:
    """Move finished files into place and update the manifest, or restore the previous state.

    Args:
        bundle: the folder.
        manifest: of the bundle.
        updated: the manifest that lists the files.
        drafts: the data file, if any, and last the export, a file or a folder. A previous data file
            that the export no longer has is removed.
        backup: folder for the previous files, which is made.
    """
    name = drafts[-1].name
    targets = [bundle / (name + DATA), bundle / name]
    is_listed = name in manifest.files or bool(manifest.files_in(name))
    existing = [target for target in targets if target.exists()]
    if is_listed:  # the manifest must not list the old files once they are moved
        write_manifest(bundle, manifest.without(name, name + DATA))
    backup.mkdir()
    try:
        for target in existing:
            os.replace(target, backup / target.name)
        for draft in drafts:
            os.replace(draft, bundle / draft.name)
        write_manifest(bundle, updated)
    except BaseException:
        for target in targets:
            if (backup / target.name).exists():
                _remove(target)
                os.replace(backup / target.name, target)
            elif target not in existing:
                _remove(target)
        if is_listed:
            write_manifest(bundle, manifest)
        raise


def _remove(target: Path) -> None:
    """Remove a file or a folder, if it exists: a file replaces another, a folder does not."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
