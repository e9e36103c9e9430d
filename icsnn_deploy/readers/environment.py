"""The environments of the readers; each uses torch and NumPy of the running environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec, default_folder, python_of
from icsnn_deploy.environments.stamp import read_stamp, read_strings
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.readers.versions import TESTED

SETUP = "icsnn readers setup"

ENVIRONMENTS: Mapping[str, EnvironmentSpec] = {
    "sinabs": EnvironmentSpec(
        title="sinabs", name="sinabs", command=SETUP, variable="ICSNN_SINABS"
    ),
    "readers": EnvironmentSpec(
        title="NIR readers", name="readers", command=SETUP, variable="ICSNN_READERS"
    ),
}
"""By name. sinabs needs nir <= 1.0.4, which the other readers can't run with."""

READERS: Mapping[str, tuple[str, ...]] = {
    "sinabs": ("sinabs",),
    "readers": ("snntorch", "spikingjelly", "norse", "nirtorch"),
}
"""The readers of each environment."""


@dataclass(frozen=True, kw_only=True)
class ReaderEnvironment:
    """An environment that is ready."""

    folder: Path
    python: Path
    versions: Mapping[str, str]  # of its readers' distributions


def find_environment(name: str) -> ReaderEnvironment:
    """Find one of the environments; nothing is started.

    Args:
        name: a name of ENVIRONMENTS.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that creates it.
    """
    spec = ENVIRONMENTS[name]
    folder = default_folder(spec)

    def check(content: bytes, where: str) -> dict[str, str]:
        return check_versions(name, content, where)

    versions = read_stamp(spec, folder, check, spec.command)
    return ReaderEnvironment(folder=folder, python=python_of(folder), versions=versions)


def environment_of(reader: str) -> str:
    """Name of the environment that holds a reader."""
    return next(name for name, readers in READERS.items() if reader in readers)


def pins(name: str) -> dict[str, str]:
    """The distributions of an environment's readers, with the tested versions."""
    return {
        package: version for reader in READERS[name] for package, version in TESTED[reader].items()
    }


def check_versions(name: str, content: bytes, where: str) -> dict[str, str]:
    """Read the versions of an environment's readers from a JSON object, and check them.

    Raises:
        BackendUnavailableError: versions are missing, or are not the tested ones.
    """
    tested = pins(name)
    installed = read_strings(content, where, tuple(tested))
    wrong = [
        f"{package} {installed[package][:40]}, tested with {version}"
        for package, version in tested.items()
        if installed[package] != version
    ]
    if wrong:
        raise BackendUnavailableError(f"{where}: {'; '.join(wrong)}")
    return installed
