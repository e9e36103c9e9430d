"""Find a Python that Lava runs on; each candidate is started to check its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.errors import BackendUnavailableError

VERSIONS = ((3, 10), (3, 11), (3, 12))
"""The Python versions that Lava runs on, best first: all but 3.10 need icsnn_lava.shim."""

_PROBE_CODE = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
_PROBE_TIMEOUT_S = 20
_UNSUPPORTED = "lava-nc supports 3.10, and runs on 3.11 and 3.12 with icsnn-deploy's shim"
_NAME_ANOTHER = "; pass --python 3.10, 3.11, 3.12 or the path of one of these"
_HOW_TO_GET_ONE = (
    "install one (python.org, your system's packages, `pyenv install 3.10` or "
    "`uv python install 3.10`) and name it: icsnn lava setup --python PATH"
)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that starts and can create virtual environments."""

    path: Path
    version: tuple[int, int]

    @property
    def name(self) -> str:
        """Its version as "3.10"."""
        return _name(self.version)


def find_interpreter(wanted: str | None = None) -> Interpreter:
    """Find the Python to create Lava's environment with.

    Args:
        wanted: a version ("3.10"), a path, or a name on PATH; None: any supported version.

    Raises:
        BackendUnavailableError: lists what was tried, and how to install a supported Python.
    """
    versions = [version for version in VERSIONS if wanted in (None, _name(version))]
    if wanted is not None and not versions:
        if re.fullmatch(r"\d+(\.\d+)*", wanted):
            raise BackendUnavailableError(f"Python {wanted}: {_UNSUPPORTED}{_NAME_ANOTHER}")
        try:
            return _probe(Path(wanted))
        except BackendUnavailableError as error:
            raise BackendUnavailableError(f"{error}{_NAME_ANOTHER}") from error
    refused = []
    for candidate in _candidates(versions):
        try:
            return _probe(candidate)
        except BackendUnavailableError as error:
            refused.append(f"\n  {error}")
    names = " or ".join(_name(version) for version in versions)
    tried = f" Tried:{''.join(refused)}" if refused else ""
    raise BackendUnavailableError(f"no Python {names} for Lava; {_HOW_TO_GET_ONE}.{tried}")


def _candidates(versions: Sequence[tuple[int, int]]) -> Iterator[Path]:
    """For each version: the running Python, the one on PATH, and those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in versions:
        name = f"python{_name(version)}"
        if sys.version_info[:2] == version:
            yield Path(sys.executable)
        on_path = shutil.which(name)
        if on_path is not None:
            yield Path(on_path)
        yield from sorted(pyenv.glob(f"{_name(version)}.*/bin/{name}"), reverse=True)


def _name(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _probe(path: Path) -> Interpreter:
    """Start the Python at `path` and read its version; raises BackendUnavailableError."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", _PROBE_CODE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailableError(f"{path}: can't be started ({error})") from error
    fields = done.stdout.split()
    if done.returncode != 0 or len(fields) != 2 or not all(f.isdigit() for f in fields):
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        problem = lines[-1 if lines[0].startswith("Traceback") else 0]
        raise BackendUnavailableError(
            f"{path}: not a working Python with venv and ensurepip ({problem[:200]})"
        )
    version = (int(fields[0]), int(fields[1]))
    if version not in VERSIONS:
        raise BackendUnavailableError(f"{path}: Python {_name(version)}: {_UNSUPPORTED}")
    return Interpreter(path=path, version=version)
