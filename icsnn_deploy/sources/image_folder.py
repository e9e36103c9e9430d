"""A folder of images: FOLDER/class/*.png, or images alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.sources.batches import Batch
from icsnn_deploy.sources.images import SUFFIXES, read_image, require_pillow
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.selection import Selection
from icsnn_deploy.sources.source import ALL, ItemSource

_ARRAYS = (".npy", ".npz")
_OTHER_IMAGES = (".tif", ".tiff", ".gif", ".heic", ".avif")

SAME_SIZE = "give --resize H,W, or --resize N with --crop N"
"""What to do where images differ in size."""


def open_image_folder(
    folder: str, options: SourceOptions, channels: int, selection: Selection = ALL
) -> ItemSource:
    """Open a folder of images; each is decoded when it is read.

    Args:
        folder: with one folder of images per class, or with images alone. The order is that of
            torchvision's ImageFolder: classes sorted by name, then files.
        options: resize and crop.
        channels: of the network's input, 1 or 3.
        selection: which images are used, and in which order.

    Returns:
        Samples uint8 [channels, H, W]; labels count the sorted class folders.

    Raises:
        DataError: no images, or a folder whose classes are not clear; later: a damaged image.
        BackendUnavailableError: Pillow is not installed.
    """
    require_pillow(folder)
    options.require_only(folder, "an image folder", "resize", "crop")
    paths, labels, classes = _list(Path(folder))

    return ItemSource(
        folder,
        lambda number: Batch(read_image(paths[number], options, channels)),
        len(paths),
        selection=selection,
        labels=np.asarray(labels, np.int64) if classes else None,
        class_names=tuple(classes) if classes else None,
        item_name=lambda number: str(paths[number]),
        remedy=SAME_SIZE,
    )


def may_hold_images(entry: Path) -> bool:
    """Whether an entry of a folder is an image, by its name, or a folder."""
    return entry.suffix.lower() in SUFFIXES + _OTHER_IMAGES or entry.is_dir()


def _list(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """All images in order, the class of each, and the classes' names."""
    try:
        shown = sorted(e for e in os.listdir(folder) if not e.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
    classes = [name for name in shown if (folder / name).is_dir()]
    loose = _images([folder / name for name in shown if name not in classes])
    if loose and classes:
        raise DataError(
            f"{folder}: holds images ({loose[0].name}) beside folders ({classes[0]}); give a "
            "folder with one folder of images per class, or with images alone"
        )
    if not classes:
        return loose, [], []
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _below(folder / name)
        if not found:
            _refuse_arrays(folder / name)
            raise DataError(
                f"{folder / name}: no images ({', '.join(SUFFIXES)}); each folder is a class, so "
                "remove it if it is none"
            )
        paths += found
        labels += [label] * len(found)
    return paths, labels, classes


def _refuse_arrays(folder: Path) -> None:
    """Raise DataError where the folder of a class holds arrays."""
    found = next((path for path in sorted(folder.iterdir()) if path.suffix in _ARRAYS), None)
    if found is not None:
        raise DataError(
            f"{found}: an array in a folder of a class, where images are read. Put arrays into one "
            "folder without classes, FOLDER of .npy files or FOLDER:array of .npz files, and give "
            "labels with --labels. Recordings of events need a network of --encoding events"
        )


def _below(folder: Path) -> list[Path]:
    """The images of a class, those in folders of its own included; links are not followed."""
    found: list[Path] = []

    def unreadable(error: OSError) -> None:  # os.walk would leave the folder out
        raise DataError(f"{error.filename}: {error.strerror}") from error

    for place, _, names in sorted(os.walk(folder, onerror=unreadable)):
        found += _images([Path(place, name) for name in sorted(names) if name[0] != "."])
    return found


def _images(paths: list[Path]) -> list[Path]:
    other = [path for path in paths if path.suffix.lower() in _OTHER_IMAGES]
    if other:
        raise DataError(
            f"{other[0]}: {other[0].suffix} images are not read ({len(other)} here); save them as "
            "PNG or JPEG"
        )
    return [path for path in paths if path.suffix.lower() in SUFFIXES]
