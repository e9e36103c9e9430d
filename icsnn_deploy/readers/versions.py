"""The tested versions of each reader, and checks that they are installed."""

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
"""By reader, the distributions that determine what it does with a NIR file, and their versions. The
faults that the readers' modules correct were found in these; other versions may have other faults.
"""


def require(reader: str) -> None:
    """Check that a reader is installed here in the tested versions.

    Raises:
        BackendUnavailableError: names what is missing or wrong, and the command to run.
    """
    wrong = []
    for package, tested in TESTED[reader].items():
        installed = _version(package)
        if installed != tested:
            wrong.append(f"{package} {installed or 'is missing'}, tested with {tested}")
    if wrong:
        pins = " ".join(f"{package}=={tested}" for package, tested in TESTED[reader].items())
        raise BackendUnavailableError(
            f"{reader}: {'; '.join(wrong)}. Its versions read NIR files differently. Run: icsnn "
            f"readers setup, or in this environment: pip install {pins}"
        )


def is_installed(reader: str) -> bool:
    """Whether a reader is installed here in the tested versions."""
    return all(_version(package) == tested for package, tested in TESTED[reader].items())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
