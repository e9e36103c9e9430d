"""Data sets of torchvision that are already on disk; nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.errors import BackendUnavailableError, DataError, first_line
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.batches import Batch, as_labels, is_image, split_batch
from icsnn_deploy.sources.image_folder import SAME_SIZE
from icsnn_deploy.sources.images import require_pillow, to_pixels
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.selection import Selection
from icsnn_deploy.sources.source import ALL, ItemSource
from icsnn_deploy.user_code import running

PREFIX = "torchvision:"
FORM = "torchvision:NAME:ROOT:SPLIT"


def open_torchvision(
    spec: str, options: SourceOptions, channels: int, selection: Selection = ALL
) -> ItemSource:
    """Open a data set of torchvision.

    Args:
        spec: torchvision:NAME:ROOT:SPLIT, for example torchvision:CIFAR10:/data:test. SPLIT is
            train or test where the class takes `train`, and what its `split` takes otherwise.
        options: resize and crop.
        channels: of the network's input, 1 or 3.
        selection: which images are used, and in which order.

    Returns:
        Samples uint8 [channels, H, W] and the labels of the data set.

    Raises:
        DataError: an unknown name or split, or files that are missing or damaged.
        BackendUnavailableError: torchvision is not installed.
    """
    options.require_only(spec, "a data set of torchvision", "resize", "crop")
    require_pillow(spec)
    name, root, split = _parts(spec)
    data_set = _make(spec, name, root, split)
    with running(f"{spec}: reading its length", DataError):
        count = len(data_set)

    def item(number: int) -> Batch:
        what = f"{spec}: item {number}"
        with running(what, DataError):
            value = data_set[number]
        image, label = split_batch(value, what)
        if not is_image(image):
            raise DataError(
                f"{what} is of type {type(image).__name__}; data sets of images are read. Give a "
                "callable that returns arrays"
            )
        return Batch(to_pixels(image, options, channels, what), label)

    classes = getattr(data_set, "classes", None)
    return ItemSource(
        spec,
        item,
        count,
        selection=selection,
        labels=_labels(data_set, count),
        class_names=tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else None,
        remedy=SAME_SIZE,
    )


def _parts(spec: str) -> tuple[str, Path, str | None]:
    """Name, folder and split; the folder may hold colons."""
    name, _, rest = spec.removeprefix(PREFIX).partition(":")
    if not name or not rest:
        raise DataError(f"{spec}: {FORM} is needed, such as torchvision:CIFAR10:/data:test")
    try:
        if Path(rest).is_dir():
            return name, Path(rest), None
        root, _, split = rest.rpartition(":")
        if root and Path(root).is_dir():
            return name, Path(root), split
    except OSError as error:  # a name that the file system does not accept
        raise DataError(f"{spec}: {error.strerror}") from error
    raise DataError(f"{spec}: no folder {root or rest}; {FORM} is needed, ROOT as torchvision's")


def _make(spec: str, name: str, root: Path, split: str | None) -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise BackendUnavailableError(
            f"{spec}: torchvision is missing; run: pip install icsnn-deploy[examples]"
        ) from error
    known = [
        one
        for one in datasets.__all__
        if "root" in inspect.signature(getattr(datasets, one).__init__).parameters
    ]
    if name not in known:
        near = ", ".join(one for one in sorted(known) if one[:1].lower() == name[:1].lower())
        raise DataError(
            f"{spec}: torchvision has no data set {name!r} that reads a folder"
            + (f"; with the same letter there are {near}" if near else "")
        )
    make = getattr(datasets, name)
    takes = _parameters(make)
    needed = [
        n for n, p in takes.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    more = [n for n in needed if n not in ("self", "root", "split")]
    hidden = "train" not in takes and any("train" in _parameters(base) for base in make.__mro__)
    if more or hidden:
        raise DataError(
            f"{spec}: {name} takes {', '.join(more) or 'train'} as well; give a callable that "
            "returns it, FILE.py:callable"
        )
    arguments: dict[str, Any] = {"root": str(root)}
    if "download" in takes:
        arguments["download"] = False
    if "train" in takes and "split" not in takes:
        if split not in ("train", "test"):
            raise DataError(f"{spec}: split {split!r}; end it with :train or :test")
        arguments["train"] = split == "train"
    elif "split" in takes:
        if split is None:
            raise DataError(f"{spec}: {name} has several splits; name one, {FORM}")
        arguments["split"] = split
    elif split is not None:
        raise DataError(f"{spec}: {name} has no splits; leave {split!r} out")
    try:
        with running(spec, DataError):
            return make(**arguments)
    except DataError as error:
        cause = error.__cause__
        reason = first_line(cause) if cause is not None else str(error)
        raise DataError(
            f"{spec}: torchvision can't read {name} in {root} ({reason}). Nothing is downloaded "
            f"here: give the folder that torchvision.datasets.{name} takes as root, with the files "
            "in it"
        ) from error


def _parameters(kind: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__init__).parameters  # type: ignore[misc]


def _labels(data_set: Any, count: int) -> Array | None:
    """The labels, where the data set keeps them as a list; otherwise they are read with items."""
    for name in ("targets", "labels", "_labels"):
        found = as_labels(getattr(data_set, name, None))
        if found is not None and found.shape == (count,) and found.dtype.kind in "iu":
            return found.astype(np.int64)
    return None
