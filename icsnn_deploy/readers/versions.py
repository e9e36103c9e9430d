"""Which versions of each reader were tested, and whether they are here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from icsnn_deploy.errors import BackendUnavailableError

TESTED: Mapping[str, Mapping[str, str]] = {
    "snntorch": {"snntorch": "1.0.0", "nirtorch": "2.6"},
    "spikingjelly": {"spikingjelly": "2.0.0", "nirtorch": "2.6"},
    "norse": {"norse": "1.1.0", "nirtorch": "2.6"},
    "nirtorch": {"nirtorch": "2.6"},
    "sinabs": {"sinabs": "3.1.3", "nirtorch": "2.0.2", "nir": "1.0.4"},
}
"""By reader, the distributions that decide what it does with a NIR file, and their versions. What
the helpers correct was found in these; in another one it may be mended, or broken otherwise.
"""


def require(reader: str) -> None:
    """Raise unless the running Python holds a reader, in the versions that were tested.

    Raises:
        BackendUnavailableError: says what is missing or what was found, and what to run.
    """
    wrong = []
    for package, tested in TESTED[reader].items():
        found = _version(package)
        if found != tested:
            wrong.append(f"{package} {found or 'is missing'}, tested with {tested}")
    if wrong:
        pins = " ".join(f"{package}=={tested}" for package, tested in TESTED[reader].items())
        raise BackendUnavailableError(
            f"{reader}: {'; '.join(wrong)}. What it does with a NIR file changes from version to "
            f"version. Run: icsnn readers setup, or in this environment: pip install {pins}"
        )


def is_here(reader: str) -> bool:
    """Whether the running Python holds a reader in the versions that were tested."""
    return all(_version(package) == tested for package, tested in TESTED[reader].items())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
