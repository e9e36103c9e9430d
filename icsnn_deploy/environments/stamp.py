"""Whether an environment is ready: its stamp says so, nothing is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.environments.spec import EnvironmentSpec, python_of
from icsnn_deploy.errors import BackendUnavailableError

_MOST_BYTES = 2**16

Check = Callable[[bytes, str], dict[str, str]]
"""The versions in the text of a stamp, which its second argument names in messages; raises
BackendUnavailableError where they are not the ones that are needed.
"""


def read_stamp(kind: EnvironmentSpec, folder: Path, check: Check, hint: str) -> dict[str, str]:
    """The versions in an environment.

    Args:
        kind: of environment.
        folder: where it is.
        check: its versions.
        hint: the command that makes it.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command.
    """
    stamp = folder / kind.stamp
    try:
        with stamp.open("rb") as file:
            versions = check(file.read(_MOST_BYTES), str(stamp))
    except FileNotFoundError as error:
        raise BackendUnavailableError(
            f"{folder}: no environment for {kind.title} is set up here; run: {hint}"
        ) from error
    except NotADirectoryError as error:
        raise BackendUnavailableError(
            f"{folder}: is no folder; name another with {kind.another}"
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
    """The strings under these names in a JSON object.

    Raises:
        BackendUnavailableError: they are not there.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(n), str) for n in names):
        raise BackendUnavailableError(f"{where}: no JSON object that names {', '.join(names)}")
    return {name: found[name] for name in names}


def write_stamp(kind: EnvironmentSpec, folder: Path, versions: Mapping[str, str]) -> None:
    """Say that an environment is ready."""
    with atomic_write(folder / kind.stamp) as draft:
        draft.write_text(json.dumps(dict(versions), indent=2, sort_keys=True) + "\n")
