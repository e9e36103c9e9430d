"""Where Lava's environment is, and whether it is ready."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from icsnn_deploy.errors import BackendUnavailableError

LAVA_VERSION = "0.10.0"
STAMP = "icsnn-lava.json"
"""The file in the folder that says the environment is ready; written last."""

_COMMAND = "icsnn lava setup"
_MOST_BYTES = 2**16
_NAMES = ("python", "lava-nc", "numpy")


@dataclass(frozen=True, kw_only=True)
class WorkerEnvironment:
    """An environment that is ready to run Lava."""

    folder: Path
    python: Path
    versions: Mapping[str, str]  # of python, lava-nc and numpy

    @property
    def is_shimmed(self) -> bool:
        """Whether Lava runs on a Python that it was not made for, with icsnn_lava.shim."""
        return not self.versions["python"].startswith("3.10.")


def find_worker(at: Path | None = None) -> WorkerEnvironment:
    """The environment that Lava runs in; nothing is started.

    Args:
        at: its folder; default: the folder ICSNN_LAVA names, else the running environment if it
            has Lava itself, else `default_folder()`.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that makes it.
    """
    if at is None and not os.environ.get("ICSNN_LAVA"):
        own = own_environment()
        if own is not None:
            return own
    folder = (at or default_folder()).absolute()
    hint = _COMMAND if at is None else f"{_COMMAND} --at {folder}"
    try:
        with (folder / STAMP).open("rb") as file:
            versions = read_versions(file.read(_MOST_BYTES), str(folder / STAMP))
    except FileNotFoundError as error:
        raise BackendUnavailableError(f"{folder}: Lava is not set up here; run: {hint}") from error
    except NotADirectoryError as error:
        raise BackendUnavailableError(
            f"{folder}: is no folder; name another with --at or ICSNN_LAVA"
        ) from error
    except OSError as error:
        raise BackendUnavailableError(f"{folder}: can't be read ({error}); run: {hint}") from error
    except BackendUnavailableError as error:
        raise BackendUnavailableError(f"{error}; run: {hint}") from error
    python = python_of(folder)
    if not python.is_file():
        raise BackendUnavailableError(f"{python}: does not exist (any more); run: {hint}")
    return WorkerEnvironment(folder=folder, python=python, versions=versions)


def default_folder() -> Path:
    """Where the environment is made: ICSNN_LAVA, or beside the active one, or with the user."""
    named = os.environ.get("ICSNN_LAVA")
    if named:
        return Path(named).absolute()
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix).parent / ".venv-lava"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "icsnn-deploy" / "venv-lava"


def own_environment() -> WorkerEnvironment | None:
    """The running environment, if it is one that Lava was made for and holds it."""
    if sys.version_info[:2] != (3, 10):
        return None
    try:
        found = {name: metadata.version(name) for name in ("lava-nc", "numpy")}
    except metadata.PackageNotFoundError:
        return None
    if found["lava-nc"] != LAVA_VERSION:
        return None
    return WorkerEnvironment(
        folder=Path(sys.prefix),
        python=Path(sys.executable),
        versions={"python": platform.python_version(), **found},
    )


def python_of(folder: Path) -> Path:
    """The Python of the environment in a folder."""
    return folder / "bin" / "python"


def read_versions(content: bytes, where: str) -> dict[str, str]:
    """The versions of python, lava-nc and numpy in a JSON object.

    Raises:
        BackendUnavailableError: they are not there, or not the ones that are needed.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(n), str) for n in _NAMES):
        raise BackendUnavailableError(f"{where}: no JSON object that names {', '.join(_NAMES)}")
    if found["lava-nc"] != LAVA_VERSION:
        raise BackendUnavailableError(
            f"{where}: lava-nc {found['lava-nc'][:40]}, {LAVA_VERSION} is needed"
        )
    return {name: found[name] for name in _NAMES}
