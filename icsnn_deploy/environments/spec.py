"""What sorts of environment there are, and where each is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """A sort of environment that a command of this package makes."""

    title: str  # of what runs in it, as messages call it
    name: str  # of its folder and files
    command: str  # that makes it
    variable: str  # of the shell; names its folder
    option: str = ""  # of the command, for the same

    @property
    def another(self) -> str:
        """How to name another folder."""
        return " or ".join(filter(None, (self.option, self.variable)))

    @property
    def stamp(self) -> str:
        """The file in the folder that says the environment is ready; written last."""
        return f"icsnn-{self.name}.json"

    @property
    def unfinished(self) -> str:
        """The file that marks a folder as ours while it is made; locked by who makes it."""
        return f"icsnn-{self.name}.unfinished"


def default_folder(kind: EnvironmentSpec) -> Path:
    """Where it is made: the variable's folder, or beside the active one, or with the user."""
    named = os.environ.get(kind.variable)
    if named:
        return Path(named).absolute()
    if sys.prefix != sys.base_prefix:
        return Path(sys.prefix).parent / f".venv-{kind.name}"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "icsnn-deploy" / f"venv-{kind.name}"


def python_of(folder: Path) -> Path:
    """The Python of the environment in a folder."""
    return folder / "bin" / "python"
