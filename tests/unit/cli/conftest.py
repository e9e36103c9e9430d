"""A desk, and a bundle as the commands make it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.desk import EXPORTS, Desk, succeeded


@pytest.fixture
def place(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the commands make it, with every export."""
    place = Desk(tmp_path_factory.mktemp("cli"))
    succeeded(place.convert("bundle"))
    formats = [part for name in EXPORTS for part in ("--format", name)]
    succeeded(place.run("export", str(place.path / "bundle"), *formats))
    return place.path


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "bundle", tmp_path / "bundle"))
