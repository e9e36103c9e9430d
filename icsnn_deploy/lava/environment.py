"""Where Lava's environment is, and whether it is ready."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec, default_folder, python_of
from icsnn_deploy.environments.stamp import read_stamp, read_strings
from icsnn_deploy.errors import BackendUnavailableError

LAVA_VERSION = "0.10.0"
LAVA = EnvironmentSpec(
    title="Lava", name="lava", command="icsnn lava setup", variable="ICSNN_LAVA", option="--at"
)

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
            has Lava itself, else `default_folder`.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that makes it.
    """
    if at is None and not os.environ.get("ICSNN_LAVA"):
        own = own_environment()
        if own is not None:
            return own
    folder = (at or default_folder(LAVA)).absolute()
    hint = LAVA.command if at is None else f"{LAVA.command} --at {folder}"
    versions = read_stamp(LAVA, folder, read_versions, hint)
    return WorkerEnvironment(folder=folder, python=python_of(folder), versions=versions)


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


def read_versions(content: bytes, where: str) -> dict[str, str]:
    """The versions of python, lava-nc and numpy in a JSON object.

    Raises:
        BackendUnavailableError: they are not there, or not the ones that are needed.
    """
    found = read_strings(content, where, _NAMES)
    if found["lava-nc"] != LAVA_VERSION:
        raise BackendUnavailableError(
            f"{where}: lava-nc {found['lava-nc'][:40]}, {LAVA_VERSION} is needed"
        )
    return found
