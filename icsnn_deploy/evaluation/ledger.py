"""A folder that keeps the finished shards of an evaluation, so that it can be interrupted.

    settings.json          what is evaluated, and how; another evaluation is refused
    shard-00000012.json    counts of one shard, the sha256 of its samples, and the seal: a sha256 of
                           these and the settings
    result.json            the final result

Files are written atomically. Several processes may share the folder.
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

_MAX_BYTES = 1 << 26  # of a shard's file; each diverging image needs a few hundred
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
        folder: created if it does not exist.
        settings: JSON values that describe the evaluation.

    Raises:
        DataError: the folder holds another evaluation or other files, or can't be used.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings
        self._settings_path = folder / _SETTINGS
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{folder}: can't be created ({error.strerror}); choose another folder"
            ) from error
        self._check()

    def begin(self) -> None:
        """Write the settings, before the first shard.

        Raises:
            DataError: another evaluation has started here, or the folder can't be written.
        """
        self._check()
        if not self._settings_path.exists():
            self._write(_SETTINGS, self.settings)

    def finished(self) -> dict[int, Shard]:
        """Read the finished shards, by number."""
        shards = {}
        for path in sorted(self.folder.iterdir()):
            match = _SHARD.fullmatch(path.name)
            if match:
                shards[int(match[1])] = self._shard(path, int(match[1]))
        return shards

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
        """Raise DataError if the folder holds another evaluation or other files.

        The settings file may be missing, because each shard's seal includes the settings.
        """
        if not self._settings_path.exists():
            names = [path.name for path in self.folder.iterdir() if path.name[0] != "."]
            # Another process may be writing the settings at this moment.
            if names and not any(name == _SETTINGS or _SHARD.fullmatch(name) for name in names):
                raise DataError(
                    f"{self.folder}: holds {names[0]}, but no evaluation; choose a new folder"
                )
            return
        new = self.settings
        try:
            old = read_json(self._settings_path, limit=_MAX_BYTES)
        except BundleError as error:
            raise DataError(f"{error}; delete the file, and it is written again") from error
        changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        if changed:
            listed = ", ".join(
                f"{name} {old.get(name)!r:.70}, now {new.get(name)!r:.70}" for name in changed
            )
            raise DataError(
                f"{self.folder}: holds another evaluation ({listed}). Choose another folder, or "
                "delete this one"
            )

    def _seal(self, number: int, content: Mapping[str, Any]) -> str:
        """The hash by which damaged shards, and shards of another evaluation, are recognized."""
        return hashlib.sha256(json_bytes([dict(self.settings), number, content])).hexdigest()

    def _shard(self, path: Path, number: int) -> Shard:
        remedy = "delete the file, and the shard is run again"
        try:
            content = read_json(path, limit=_MAX_BYTES)
        except BundleError as error:
            raise DataError(f"{error}; {remedy}") from error
        if content.pop("seal", None) != self._seal(number, content):
            raise DataError(f"{path}: damaged, or a shard of another evaluation; {remedy}")
        try:
            counts = from_json(content.get("counts"))
        except DataError as error:
            raise DataError(f"{path}: {error}; {remedy}") from error
        return Shard(digest=str(content.get("digest")), counts=counts)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            with atomic_write(self.folder / name) as draft:
                draft.write_bytes(json_bytes(content))
        except OSError as error:
            raise DataError(f"{self.folder / name}: can't be written ({error.strerror})") from error
