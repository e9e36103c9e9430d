"""The results of a coverage run in a file of JSON lines; the last line of a name counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import icsnn_deploy

Record = dict[str, Any]
Key = tuple[str, str]
"""Stage ("trace" or "deploy") and name of the architecture."""


def read(path: Path) -> dict[Key, Record]:
    """The results so far; a line that was cut off is left out."""
    found: dict[Key, Record] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["stage"], record["name"]] = record
    return found


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one result; a line that was cut off is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read() != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")


_PACKAGES = (
    "icsnn-deploy",
    "torch",
    "torchvision",
    "timm",
    "pytorchcv",
    "segmentation-models-pytorch",
    "ultralytics",
)


def versions() -> Record:
    """A record of the versions that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"stage": "versions", "name": "versions", "versions": found}


def package_digest() -> str:
    """Of the source of the package that is imported: results of another one are measured again."""
    digest = hashlib.sha256()
    root = Path(icsnn_deploy.__file__).parent
    for path in sorted(root.rglob("*.py")) + sorted(
        file for link in ("exporters", "targets") for file in (root / link).resolve().rglob("*.py")
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
