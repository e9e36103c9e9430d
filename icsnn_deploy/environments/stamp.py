"""The stamp file, which marks an environment as ready and lists its versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.environments.spec import EnvironmentSpec, python_of
from icsnn_deploy.errors import BackendUnavailableError

_MAX_BYTES = 2**16

StampCheck = Callable[[bytes, str], dict[str, str]]
"""check(content, name): the versions in a stamp's content; `name` is for messages. Raises
BackendUnavailableError if they are not the versions that are needed.
"""


def read_stamp(spec: EnvironmentSpec, folder: Path, check: StampCheck, hint: str) -> dict[str, str]:
    """Read the versions of an environment from its stamp; nothing is started.

    Args:
        spec: of the environment.
        folder: of the environment.
        check: checks the versions.
        hint: the command that creates it.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command.
    """
    stamp = folder / spec.stamp
    try:
        with stamp.open("rb") as file:
            versions = check(file.read(_MAX_BYTES), str(stamp))
    except FileNotFoundError as error:
        raise BackendUnavailableError(
            f"{folder}: no environment for {spec.title} is set up here; run: {hint}"
        ) from error
    except NotADirectoryError as error:
        raise BackendUnavailableError(
            f"{folder}: not a folder; choose another with {spec.folder_setting}"
        ) from error
    except OSError as error:
        raise BackendUnavailableError(f"{folder}: can't be read ({error}); run: {hint}") from error
    except BackendUnavailableError as error:
        raise BackendUnavailableError(f"{error}; run: {hint}") from error
    python = python_of(folder)
    if not python.is_file():
        raise BackendUnavailableError(f"{python}: does not exist (any more); run: {hint}")
    return versions


def read_strings(content: bytes, where: str, names: tuple[str, ...]) -> dict[str, str]:
    """Parse a JSON object and return the strings under these names.

    Raises:
        BackendUnavailableError: a name is missing, or its value is not a string.
    """
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict) or not all(isinstance(parsed.get(n), str) for n in names):
        raise BackendUnavailableError(
            f"{where}: a JSON object with a string for each of {', '.join(names)} is needed"
        )
    return {name: parsed[name] for name in names}


def write_stamp(spec: EnvironmentSpec, folder: Path, versions: Mapping[str, str]) -> None:
    """Mark an environment as ready."""
    with atomic_write(folder / spec.stamp) as draft:
        draft.write_text(json.dumps(dict(versions), indent=2, sort_keys=True) + "\n")
