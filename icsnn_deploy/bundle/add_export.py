"""Add an export to a bundle, under the bundle's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from icsnn_deploy.atomic import folder_beside
from icsnn_deploy.bundle.manifest import (
    FileEntry,
    Manifest,
    read_manifest,
    sha256_of,
    write_manifest,
)
from icsnn_deploy.bundle.swap import DATA, settle, swap_export
from icsnn_deploy.errors import BundleError
from icsnn_deploy.locks import locked_folder


def add_export(
    bundle: Path,
    opened: Manifest,
    export_format: str,
    name: str,
    write: Callable[[Path], None],
    *,
    losses: Sequence[str],
) -> Manifest:
    """Write an export into a bundle; the manifest never names a partly written file.

    Other commands may have added exports since the bundle was opened: their entries are kept.

    Args:
        bundle: the folder.
        opened: the manifest as the bundle was opened with.
        export_format: name of the export format.
        name: file name inside the bundle.
        write: writes the file, or a folder of files, to the given path.
        losses: what the format can't express of the network, one sentence each.

    Returns:
        the manifest with the export.

    Raises:
        BundleError: the export can't be written, or the bundle was replaced by another network's;
            the bundle is unchanged.
    """
    try:
        with locked_folder(bundle):
            settle(bundle)
            manifest = read_manifest(bundle)
            if manifest.graph_hash != opened.graph_hash:
                raise replaced(bundle)
            _refuse_unlisted(bundle, manifest, name)
            with folder_beside(bundle / name) as draft:
                write(draft / name)
                updated = manifest.with_export(
                    export_format,
                    name,
                    _entries(draft, name),
                    losses=losses,
                    data_file=name + DATA,
                )
                write_manifest(draft, updated)
                swap_export(bundle, draft, name)
    except OSError as error:
        raise BundleError(f"{bundle / name}: can't be written ({error.strerror})") from error
    return updated


def replaced(bundle: Path) -> BundleError:
    """The error of a bundle that another command has changed since it was opened."""
    return BundleError(
        f"{bundle}: another command changed the bundle while this one used it; run this one again"
    )


def _entries(draft: Path, name: str) -> dict[str, FileEntry]:
    """Entries of what was written: the data file, if any, and the file or the folder's files."""
    data_file = draft / (name + DATA)
    paths = [*([data_file] if data_file.exists() else []), draft / name]
    files = [file for path in paths for file in _files_of(path)]
    return {
        file.relative_to(draft).as_posix(): FileEntry(
            sha256=sha256_of(file), size=file.stat().st_size
        )
        for file in files
    }


def _files_of(path: Path) -> list[Path]:
    """A written file; or the files of a written folder, by name."""
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _refuse_unlisted(bundle: Path, manifest: Manifest, name: str) -> None:
    """Raise BundleError where an export would replace a folder with files of the user's."""
    folder = bundle / name
    if not folder.is_dir() or folder.is_symlink():
        return
    listed = {Path(file).name for file in manifest.files_in(name)}
    if not listed:
        raise BundleError(f"{folder}: a folder that the manifest does not list; move it elsewhere")
    others = sorted({path.name for path in folder.iterdir()} - listed)
    if others:
        raise BundleError(
            f"{folder}: the export would delete {', '.join(others[:5])}; move what is yours "
            "elsewhere (`make clean` deletes what make built there)"
        )
