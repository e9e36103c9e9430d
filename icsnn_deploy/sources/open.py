"""A text from the command line as a source of samples."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.errors import DataError
from icsnn_deploy.sources.image_folder import may_hold_images, open_image_folder
from icsnn_deploy.sources.images import SUFFIXES
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.returned import PIXELS_NEEDED, open_callable
from icsnn_deploy.sources.source import NamedArrays, Source
from icsnn_deploy.sources.torchvision_sets import PREFIX, open_torchvision

FORMS = (
    "give FILE.npz:array or FILE.npy, FILE.py:callable or package.module:callable, a folder of "
    "images, or torchvision:NAME:ROOT:SPLIT"
)
"""The forms of a spec."""


_DEFAULTS = Reading()


def open_source(
    spec: str, reading: Reading = _DEFAULTS, *, channels: int | None
) -> Source | NamedArrays | None:
    """Open samples that are not in array files.

    Args:
        spec: package.module:callable, path/to/file.py:callable, a folder of images, or
            torchvision:NAME:ROOT:SPLIT.
        reading: how, and which, samples are read.
        channels: of a network that takes pixels; None: it takes other numbers.

    Returns:
        The source; None if the spec names array files, which icsnn_deploy.data reads.

    Raises:
        DataError: names the spec, and what is wrong with it.
        BackendUnavailableError: Pillow or torchvision is needed and missing.
    """
    kind = source_kind(spec)
    if kind == "unknown":
        raise DataError(f"{spec!r}: {FORMS}")
    if kind == "empty":
        raise DataError(
            f"{spec}: the folder holds no images ({', '.join(SUFFIXES)}), no folders of images, "
            "and no .npy or .npz files"
        )
    if kind == "arrays":
        reading.options.require_only(spec, "arrays in files", "channels_last")
        return None
    if kind == "callable":
        return open_callable(spec, reading, channels=channels)
    if channels is None:
        raise DataError(f"{spec}: images, but {PIXELS_NEEDED}")
    opener = open_torchvision if kind == "torchvision" else open_image_folder
    return opener(spec, reading.of_images, channels, reading.selection)


def source_kind(spec: str) -> str:
    """What a spec names: arrays, callable, images, torchvision, an empty folder, or unknown.

    A file or folder that is there decides; then the form of the text does.
    """
    if spec.startswith(PREFIX):
        return "torchvision"
    place, _, name = spec.rpartition(":")
    if spec.endswith((".npy", ".npz", ".safetensors")) or place.endswith(".npz"):
        return "arrays"
    if _is_folder(spec):
        return _folder_kind(Path(spec))
    if place.endswith(".py"):
        return "callable"
    if _is_folder(place) and _folder_kind(Path(place)) == "arrays":
        return "arrays"
    if name and place and all(part.isidentifier() for part in place.split(".")):
        return "callable"
    return "arrays" if _is_folder(place) else "unknown"


def _folder_kind(folder: Path) -> str:
    """What a folder holds: arrays, images or nothing."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        if any(entry.suffix in (".npy", ".npz") for entry in entries):
            return "arrays"
        return "images" if any(map(may_hold_images, entries)) else "empty"
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error


def _is_folder(text: str) -> bool:
    try:
        return bool(text) and Path(text).is_dir()
    except (OSError, ValueError):  # a name that the file system does not accept
        return False
