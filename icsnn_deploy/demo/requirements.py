"""What the demo needs and what it can do without, found before it starts."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.readers.environment import ENVIRONMENTS, READERS, find_environment

_NEEDED = {"sklearn": ("scikit-learn", "demo"), "onnxruntime": ("onnxruntime", "cpu")}
"""Modules that the demo imports: the package that brings each, and the extra that names it."""


def require_packages() -> None:
    """Raise BackendUnavailableError that lists every package that is missing."""
    missing = [names for module, names in _NEEDED.items() if find_spec(module) is None]
    if missing:
        packages = ", ".join(package for package, _ in missing)
        extras = ",".join(extra for _, extra in missing)
        raise BackendUnavailableError(
            f"the demo needs {packages}; run: pip install 'icsnn-deploy[{extras}]'"
        )


def lava_is_ready() -> bool:
    """Whether Lava is set up."""
    return _is_found(find_worker)


def missing_environments() -> list[str]:
    """What is left out because an environment is missing, one sentence each."""
    lines = []
    if not lava_is_ready():
        lines.append("Lava is not set up, and the demo leaves it out; run: icsnn lava setup")
    missing = [name for name in ENVIRONMENTS if not _is_found(find_environment, name)]
    readers = [reader for name in missing for reader in READERS[name]]
    if readers:
        lines.append(
            f"other frameworks that read NIR files ({', '.join(readers)}) are not set up, which "
            "the demo does not need; run: icsnn readers setup"
        )
    return lines


def _is_found(find: Callable[..., object], *names: str) -> bool:
    try:
        find(*names)
    except BackendUnavailableError:
        return False
    return True
