"""Copy a bundle: its manifest and the files that it lists, not what else lies in the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.manifest import write_manifest


def copy_bundle(bundle: Bundle, path: Path) -> Bundle:
    """Copy a bundle to a folder that does not exist yet.

    Object files that make left in an exported folder, and other files of the user's, stay where
    they are.

    Raises:
        BundleError: a file is damaged, or another command changes the bundle.
        OSError: the folder can't be written.
    """
    path.mkdir()
    for name in bundle.manifest.files:
        copy = path / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(bundle.file(name), copy)
    bundle.require_current(bundle.manifest.files)
    write_manifest(path, bundle.manifest)
    return open_bundle(path)
