"""Measured cells on disk: one JSON file each, named after everything that determines it.

A cell that is there is not measured again, so a run that was stopped goes on where it was, and one
with more recipes or time steps adds to the same folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.errors import DataError

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Key:
    """What determines a cell."""

    ann: str  # hash of the ANN's graph, normalization included
    calibration: str  # sha256 of the file
    calibration_samples: int
    images: str
    labels: str
    limit: int  # images that are classified
    recipe: str  # what it does (accuracy_recipes.describe)
    time_steps: int
    software: str

    def digest(self) -> str:
        """Sixteen hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found."""

    images: int
    correct: int
    ann_correct: int
    agree: int  # images with the ANN's top-1 class
    convert_s: float
    run_s: float
    converted_at: int  # T of the conversion; more than time_steps where T has no say in it
    method: str  # the candidate that was taken
    name: str = ""  # the row it was measured for
    layers: dict[str, Any] | None = None  # what each layer does, where that was asked for

    @property
    def accuracy(self) -> float:
        """Percent."""
        return 100 * self.correct / self.images

    @property
    def ann_accuracy(self) -> float:
        """Percent, on the same images."""
        return 100 * self.ann_correct / self.images

    @property
    def loss(self) -> float:
        """ANN accuracy minus SNN accuracy, percentage points."""
        return self.ann_accuracy - self.accuracy


class CellFolder:
    """The cells below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: Key) -> Result | None:
        """The measured cell, or None; raises DataError where its file is damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        found, result = read_cell(path)
        if found != key:
            raise DataError(f"{path}: is the cell of something else; delete it to measure again")
        return result

    def all(self) -> list[tuple[Key, Result]]:
        """Every cell, in the order of their file names."""
        return [read_cell(path) for path in sorted(self.folder.glob("*.json"))]

    def keep(self, key: Key, result: Result) -> None:
        """Write a cell, all of it or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"format": FORMAT, "key": asdict(key), "result": asdict(result)}, indent=1
        )
        write_whole(self._path(key), text + "\n")

    def _path(self, key: Key) -> Path:
        return self.folder / f"t{key.time_steps}-{key.digest()}.json"


def read_cell(path: Path) -> tuple[Key, Result]:
    """One file; raises DataError with its name where it is no cell."""
    try:
        value = json.loads(path.read_text())
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, {FORMAT} is needed")
        key, result = Key(**value["key"]), Result(**value["result"])
        _check_types(key, value["key"])
        _check_types(result, value["result"])
        if not 0 <= result.correct <= result.images or result.images < 1:
            raise ValueError(f"{result.correct} of {result.images} images are right")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a measured cell ({type(error).__name__}: {error}); delete it to measure "
            "it again"
        ) from error
    return key, result


def _check_types(value: Key | Result, given: Mapping[str, Any]) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {
        "str": str,
        "int": int,
        "float": (int, float),
    }
    for name, annotation in type(value).__annotations__.items():
        got = given.get(name, "")
        if annotation in kinds and not isinstance(got, kinds[annotation]):
            raise TypeError(f"{name} is {got!r}, {annotation} is needed")


def write_whole(path: Path, text: str) -> None:
    """So that a file is there completely or not at all."""
    with atomic_write(path) as draft:
        draft.write_text(text)


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
