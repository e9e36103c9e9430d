"""Folders of recordings: in the order of their names; or in a folder for each class.

Of folders of classes, one recording of each class follows the other, so that the first N hold all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.recording import (
    SUFFIXES,
    is_recording,
    names_events,
    read_recording,
)
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class RecordingFolder:
    """Recordings in the order in which they are samples.

    Args:
        paths: of the files.
        classes: names of the folders of the classes, sorted; empty without such folders.
    """

    paths: tuple[Path, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def labels(self) -> Array | None:
        """Class indices [N] by the folder of each recording; None without folders of classes."""
        if not self.classes:
            return None
        return np.array([self.classes.index(path.parent.name) for path in self.paths], np.int64)

    def in_order(self, values: Array) -> Array:
        """Values of the recordings by their names (class, then file), as those are samples.

        Args:
            values: one for each recording, [N, ...], sorted by the paths of the recordings.

        Raises:
            DataError: another number of values.
        """
        if len(values) != len(self.paths):
            raise DataError(
                f"{len(values)} labels for {len(self.paths)} recordings in folders of classes: one "
                "label per recording is needed, by class, then by file name"
            )
        ranks = {path: rank for rank, path in enumerate(sorted(self.paths, key=_name))}
        ordered: Array = values[np.array([ranks[path] for path in self.paths], np.int64)]
        return ordered

    def first(self, limit: int | None) -> RecordingFolder:
        """The first recordings; all without a limit.

        Raises:
            DataError: a limit below 1.
        """
        if limit is None:
            return self
        if limit < 1:
            raise DataError(f"--limit {limit}: at least 1 is needed")
        return RecordingFolder(paths=self.paths[:limit], classes=self.classes)


def find_recordings(spec: str) -> RecordingFolder | None:
    """The recordings that a file, a folder, or a folder with a folder for each class holds.

    Args:
        spec: path of a recording or a folder.

    Returns:
        None where it is something else: arrays of frames or spikes.

    Raises:
        DataError: a folder with both recordings and other arrays, or a damaged file.
    """
    path = Path(spec)
    try:
        if path.is_file():
            found = path.suffix in SUFFIXES and is_recording(path)
            return RecordingFolder(paths=(path,)) if found else None
        if not path.is_dir():
            return None
        inner = sorted(each for each in path.iterdir() if each.is_dir() and _is_shown(each))
        files = _files(path)
        within = {each.name: _files(each) for each in inner}
        if any(own and is_recording(own[0]) for own in within.values()):
            return _of_classes(path, files, within)
    except OSError as error:
        raise DataError(f"{spec}: {error.strerror}") from error
    if not files or not is_recording(files[0]):
        return None
    return RecordingFolder(paths=_checked(files))


def refuse_recordings(spec: str, remedy: str) -> None:
    """Raise DataError where a spec names recordings, for a network that takes none.

    Arrays [N, 4] are not refused, which may be samples of four values.

    Args:
        spec: path of a file or a folder.
        remedy: what to do with recordings.
    """
    path = Path(spec)
    try:
        files = [path] if path.is_file() and path.suffix in SUFFIXES else []
        if path.is_dir():
            inner = sorted(each for each in path.iterdir() if each.is_dir() and _is_shown(each))
            files = [file for folder in (path, *inner) for file in _files(folder)[:1]]
        found = next((file for file in files if names_events(file)), None)
    except OSError:  # what reads the samples says so
        return
    if found is not None:
        raise DataError(f"{found}: a recording of events (t, x, y, p): {remedy}")


def _of_classes(
    folder: Path, files: Sequence[Path], within: Mapping[str, Sequence[Path]]
) -> RecordingFolder:
    """Recordings in a folder for each class; raises DataError where the classes are not clear."""
    if files:
        raise DataError(
            f"{files[0]}: beside folders of recordings ({next(iter(within))}); give a folder with "
            "one folder of recordings per class, or with recordings alone"
        )
    for name, own in within.items():
        if not own:
            raise DataError(
                f"{folder / name}: no recordings ({', '.join(SUFFIXES)}); each folder is a class, "
                "so remove it if it is none"
            )
    turns = zip_longest(*within.values())  # one of each class in turn
    taken = [file for turn in turns for file in turn if file is not None]
    return RecordingFolder(paths=_checked(taken), classes=tuple(within))


def _name(path: Path) -> tuple[str, str]:
    return path.parent.name, path.name


def _is_shown(path: Path) -> bool:
    """Whether an entry is not hidden, as what systems and tools leave behind is."""
    return not path.name.startswith(".")


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and _is_shown(path) and path.is_file()
    )


def _checked(files: Sequence[Path]) -> tuple[Path, ...]:
    for file in files:
        if not is_recording(file):
            raise DataError(
                f"{file}: no recording (t, x, y, p), but others in its folder are; keep them apart"
            )
    return tuple(files)


def bin_recordings(paths: Sequence[Path], binning: EventBinning) -> Array:
    """The spikes of some recordings, uint8 [T, N, C, H, W].

    Raises:
        DataError: names the recording, and what is wrong with it.
    """
    found = np.empty((binning.time_steps, len(paths), *binning.shape), np.uint8)
    for number, path in enumerate(paths):
        found[:, number] = binning.spikes(read_recording(path), str(path))
    return found


def map_recordings(paths: Sequence[Path], binning: EventBinning) -> Array:
    """As bin_recordings, in an unnamed temporary file that is mapped: memory holds one recording.

    Raises:
        DataError: names the recording, and what is wrong with it.
    """
    shape = (len(paths), binning.time_steps, *binning.shape)
    with tempfile.TemporaryFile() as file:
        for path in paths:
            file.write(binning.spikes(read_recording(path), str(path)).tobytes())
        file.flush()
        mapped = np.memmap(file, np.uint8, "r", shape=shape)  # keeps the file alive
    return np.moveaxis(mapped, 0, 1)
