"""The environments that hold the readers, each with torch and NumPy of the running one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec, default_folder, python_of
from icsnn_deploy.environments.stamp import read_stamp, read_strings
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.readers.versions import TESTED

SETUP = "icsnn readers setup"

KINDS: Mapping[str, EnvironmentSpec] = {
    "sinabs": EnvironmentSpec(
        title="sinabs", name="sinabs", command=SETUP, variable="ICSNN_SINABS"
    ),
    "readers": EnvironmentSpec(
        title="NIR readers", name="readers", command=SETUP, variable="ICSNN_READERS"
    ),
}
"""sinabs asks for nir <= 1.0.4, which the others can't run with."""

READERS: Mapping[str, tuple[str, ...]] = {
    "sinabs": ("sinabs",),
    "readers": ("snntorch", "spikingjelly", "norse", "nirtorch"),
}
"""Which environment holds which readers."""


@dataclass(frozen=True, kw_only=True)
class ReaderEnvironment:
    """An environment that is ready."""

    folder: Path
    python: Path
    versions: Mapping[str, str]  # of its readers' distributions


def find_environment(name: str) -> ReaderEnvironment:
    """One of the two environments; nothing is started.

    Args:
        name: of KINDS.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that makes it.
    """
    kind = KINDS[name]
    folder = default_folder(kind)

    def check(content: bytes, where: str) -> dict[str, str]:
        return check_versions(name, content, where)

    versions = read_stamp(kind, folder, check, kind.command)
    return ReaderEnvironment(folder=folder, python=python_of(folder), versions=versions)


def environment_of(reader: str) -> str:
    """Name of the environment that holds a reader."""
    return next(name for name, readers in READERS.items() if reader in readers)


def pins(name: str) -> dict[str, str]:
    """The distributions of an environment's readers with their versions."""
    return {
        package: version for reader in READERS[name] for package, version in TESTED[reader].items()
    }


def check_versions(name: str, content: bytes, where: str) -> dict[str, str]:
    """The versions of an environment's readers in a JSON object.

    Raises:
        BackendUnavailableError: they are not there, or not the ones that were tested.
    """
    tested = pins(name)
    found = read_strings(content, where, tuple(tested))
    wrong = [f"{p} {found[p][:40]}, tested with {v}" for p, v in tested.items() if found[p] != v]
    if wrong:
        raise BackendUnavailableError(f"{where}: {'; '.join(wrong)}")
    return found
