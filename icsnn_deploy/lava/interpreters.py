"""Finds a Python that Lava runs on: candidates are started, a name on PATH proves nothing."""

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
"""What Lava runs on, best first: it is made for 3.10, later ones need icsnn_lava.shim."""

_PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
_PROBE_TIMEOUT_S = 20
_WHY_NOT = "lava-nc is made for 3.10 and made to run on 3.11 and 3.12; it was tried on no other"
_NAME_ANOTHER = "; pass --python 3.10, 3.11, 3.12 or the path of one of these"
_HOW_TO_GET_ONE = (
    "install one (python.org, your system's packages, `pyenv install 3.10` or "
    "`uv python install 3.10`) and name it: icsnn lava setup --python PATH"
)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that starts and can make virtual environments."""

    path: Path
    version: tuple[int, int]

    @property
    def name(self) -> str:
        """Its version as "3.10"."""
        return _name(self.version)


def find_interpreter(wanted: str | None = None) -> Interpreter:
    """The Python to make Lava's environment with.

    Args:
        wanted: one of this version ("3.10"), or this one and no other: a path, or a name on PATH.

    Raises:
        BackendUnavailableError: lists what was tried, and how to get a fitting one.
    """
    versions = [version for version in VERSIONS if wanted in (None, _name(version))]
    if wanted is not None and not versions:
        if re.fullmatch(r"\d+(\.\d+)*", wanted):
            raise BackendUnavailableError(f"Python {wanted}: {_WHY_NOT}{_NAME_ANOTHER}")
        try:
            return _fitting(Path(wanted))
        except BackendUnavailableError as error:
            raise BackendUnavailableError(f"{error}{_NAME_ANOTHER}") from error
    refused = []
    for candidate in _candidates(versions):
        try:
            return _fitting(candidate)
        except BackendUnavailableError as error:
            refused.append(f"\n  {error}")
    names = " or ".join(_name(version) for version in versions)
    tried = f" Tried:{''.join(refused)}" if refused else ""
    raise BackendUnavailableError(f"no Python {names} for Lava; {_HOW_TO_GET_ONE}.{tried}")


def _candidates(versions: Sequence[tuple[int, int]]) -> Iterator[Path]:
    """By version: the running Python, the one on PATH, those of pyenv."""
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


def _fitting(path: Path) -> Interpreter:
    """The Python at `path`, started once; raises BackendUnavailableError."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", _PROBE],
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
        said = lines[-1 if lines[0].startswith("Traceback") else 0]
        raise BackendUnavailableError(
            f"{path}: does not run as a Python with venv and ensurepip ({said[:200]})"
        )
    version = (int(fields[0]), int(fields[1]))
    if version not in VERSIONS:
        raise BackendUnavailableError(f"{path}: Python {_name(version)}: {_WHY_NOT}")
    return Interpreter(path=path, version=version)
