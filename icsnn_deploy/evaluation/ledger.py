"""A folder that keeps what an evaluation has finished, so that it can be broken off and go on.

    settings.json          what is evaluated, and how; another evaluation is refused here
    shard-00000012.json    counts of one shard, the sha256 of the samples they were made on, and a
                           sha256 of all that and the settings
    result.json            the whole, once it is there

Every file is put in its place whole or not at all. Several processes may share the folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.bundle.manifest import json_bytes, read_json
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.evaluation.counts import Counts, from_json

_LIMIT = 1 << 26  # bytes of a shard's file; each diverging image takes a few hundred
_SHARD = re.compile(r"shard-(\d{8})\.json")
_SETTINGS = "settings.json"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One finished shard."""

    digest: str  # sha256 of its samples and labels
    counts: Counts


class Ledger:
    """The finished shards of one evaluation.

    Args:
        folder: made where it is not there.
        settings: JSON values that say what is evaluated, and how.

    Raises:
        DataError: the folder holds another evaluation, or something else, or can't be used.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self._settled = folder / _SETTINGS
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: can't hold results ({error.strerror})") from error
        self._check()

    def begin(self) -> None:
        """Note the settings, before the first shard comes.

        Raises:
            DataError: another evaluation began here meanwhile, or the folder can't be written.
        """
        self._check()
        if not self._settled.exists():
            self._write(_SETTINGS, self.settings)

    def finished(self) -> dict[int, Shard]:
        """The shards that are there, by number."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            match = _SHARD.fullmatch(path.name)
            if match:
                found[int(match[1])] = self._shard(path, int(match[1]))
        return found

    def keep(self, number: int, shard: Shard) -> None:
        """Write a finished shard."""
        content = {"digest": shard.digest, "counts": shard.counts.to_json()}
        seal = self._seal(number, content)
        self._write(f"shard-{number:08d}.json", {**content, "seal": seal})

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result."""
        self.begin()
        self._write("result.json", result)

    def _check(self) -> None:
        """Raise DataError where the folder holds something else.

        Settings that are gone don't matter: each shard's seal says which evaluation it is of.
        """
        if not self._settled.exists():
            names = [path.name for path in self.folder.iterdir() if path.name[0] != "."]
            # Another process may be putting settings here at this moment.
            if names and not any(name == _SETTINGS or _SHARD.fullmatch(name) for name in names):
                raise DataError(
                    f"{self.folder}: holds {names[0]}, but no evaluation; name a new folder"
                )
            return
        wanted = self.settings
        try:
            there = read_json(self._settled, limit=_LIMIT)
        except BundleError as error:
            raise DataError(f"{error}; delete it, and it is made again") from error
        names = sorted({*there, *wanted})
        other = [name for name in names if there.get(name) != wanted.get(name)]
        if other:
            listed = ", ".join(
                f"{name} {there.get(name)!r:.70}, now {wanted.get(name)!r:.70}" for name in other
            )
            raise DataError(
                f"{self.folder}: holds another evaluation ({listed}). Name another folder, or "
                "delete this one"
            )

    def _seal(self, number: int, content: Mapping[str, Any]) -> str:
        """What tells a shard from a damaged one, and from one of another evaluation."""
        return hashlib.sha256(json_bytes([dict(self.settings), number, content])).hexdigest()

    def _shard(self, path: Path, number: int) -> Shard:
        remedy = "delete it, and it is made again"
        try:
            content = read_json(path, limit=_LIMIT)
        except BundleError as error:
            raise DataError(f"{error}; {remedy}") from error
        if content.pop("seal", None) != self._seal(number, content):
            raise DataError(f"{path}: damaged, or a shard of another evaluation; {remedy}")
        return Shard(digest=content["digest"], counts=from_json(content["counts"]))

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            with atomic_write(self.folder / name) as draft:
                draft.write_bytes(json_bytes(content))
        except OSError as error:
            raise DataError(f"{self.folder / name}: can't be written ({error.strerror})") from error
