"""Find Lava's environment, and check that it is ready."""

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
        """Whether this Python is not one that Lava supports, so that icsnn_lava.shim is used."""
        return not self.versions["python"].startswith("3.10.")


def find_worker(at: Path | None = None) -> WorkerEnvironment:
    """Find the environment that Lava runs in; nothing is started.

    Args:
        at: its folder; default: the folder that ICSNN_LAVA names, else the running environment if
            it holds Lava, else `default_folder`.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that creates it.
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
    """The running environment, if it holds Lava on a Python that Lava supports; else None."""
    if sys.version_info[:2] != (3, 10):
        return None
    try:
        versions = {name: metadata.version(name) for name in ("lava-nc", "numpy")}
    except metadata.PackageNotFoundError:
        return None
    if versions["lava-nc"] != LAVA_VERSION:
        return None
    return WorkerEnvironment(
        folder=Path(sys.prefix),
        python=Path(sys.executable),
        versions={"python": platform.python_version(), **versions},
    )


def read_versions(content: bytes, where: str) -> dict[str, str]:
    """Read the versions of python, lava-nc and numpy from a JSON object, and check lava-nc's.

    Raises:
        BackendUnavailableError: versions are missing, or lava-nc's is not the tested one.
    """
    versions = read_strings(content, where, _NAMES)
    if versions["lava-nc"] != LAVA_VERSION:
        raise BackendUnavailableError(
            f"{where}: lava-nc {versions['lava-nc'][:40]}, {LAVA_VERSION} is needed"
        )
    return versions
