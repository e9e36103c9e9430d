"""The description of an environment, and its folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """An environment that a command of this package creates.

    Args:
        title: what runs in it, for messages.
        name: part of the names of its folder and files.
        command: that creates it.
        variable: environment variable that names its folder.
        option: of the command, that names its folder as well; "" if there is none.
    """

    title: str
    name: str
    command: str
    variable: str
    option: str = ""

    @property
    def folder_setting(self) -> str:
        """The option and the variable that choose another folder, for messages."""
        return " or ".join(filter(None, (self.option, self.variable)))

    @property
    def stamp(self) -> str:
        """Name of the file that marks the environment as ready; written last."""
        return f"icsnn-{self.name}.json"

    @property
    def unfinished(self) -> str:
        """Name of the file that marks an unfinished environment; locked while it is created."""
        return f"icsnn-{self.name}.unfinished"


def default_folder(spec: EnvironmentSpec) -> Path:
    """The environment's folder.

    It is the one that the variable names; else beside the active environment; else in the user's
    data folder.
    """
    named = os.environ.get(spec.variable)
    if named:
        return Path(named).absolute()
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix).parent / f".venv-{spec.name}"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "icsnn-deploy" / f"venv-{spec.name}"


def python_of(folder: Path) -> Path:
    """The Python of the environment in a folder."""
    return folder / "bin" / "python"
