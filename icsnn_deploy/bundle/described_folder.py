"""Folders that hold bundles and a description of their own: splits and deployments."""

from __future__ import annotations

import os
from pathlib import Path

from icsnn_deploy.atomic import restore_folder
from icsnn_deploy.bundle.manifest import read_json
from icsnn_deploy.errors import BundleError


def check_free_folder(
    path: Path, *, description: str, written_as: str, command: str, overwrite: bool
) -> None:
    """Raise BundleError if no folder can be written; only one of the same kind is overwritten.

    Args:
        path: the folder.
        description: name of the JSON file that describes such a folder.
        written_as: its field "format".
        command: of the command line, that writes such folders.
        overwrite: whether one that exists may be replaced.
    """
    try:
        restore_folder(path)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be a folder ({error})") from error
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise BundleError(f"{path}: exists already; choose another folder or pass --overwrite")
    try:
        ours = not path.is_symlink() and read_json(path / description).get("format") == written_as
    except BundleError:
        ours = False
    if not ours:
        raise BundleError(
            f"{path}: exists and was not written by icsnn {command}; it will not be overwritten"
        )
