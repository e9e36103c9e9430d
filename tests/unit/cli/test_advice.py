"""What messages tell a person to run exists: the commands, and the options that go with them."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from icsnn_deploy.cli import COMMANDS, app

ROOT = Path(__file__).parents[3]
FOLDERS = ("icsnn_deploy", "exporters", "targets")
_COMMAND = re.compile(r"\bicsnn ([a-z]+)\b([^\"`;.]*)")
_PLAIN_WORDS = frozenset({"command"})  # "the icsnn command"


def advice() -> list[tuple[str, str, str]]:
    """(file, command, what follows) of each command that a source file names."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = re.sub(r'"\s*\n\s*f?"', "", path.read_text())  # strings over several lines
            name = str(path.relative_to(ROOT))
            found += [(name, match[1], match[2]) for match in _COMMAND.finditer(text)]
    return [one for one in found if one[1] not in _PLAIN_WORDS]


def options() -> dict[str, set[str]]:
    """The options of each command; of a group those of its commands."""
    group = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in getattr(group, "commands").items():  # noqa: B009, of click.Group
        inner = list(getattr(command, "commands", {}).values()) or [command]
        found[name] = {
            flag
            for one in inner
            for parameter in one.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
    return found


def test_every_command_that_a_message_names_exists() -> None:
    named = advice()
    assert len(named) > 40
    known = options()
    assert set(COMMANDS) <= set(known)
    assert [one for one in named if one[1] not in known] == []


def test_every_option_that_a_message_names_with_a_command_exists() -> None:
    known = options()
    wrong = [
        (file, command, flag)
        for file, command, rest in advice()
        for flag in re.findall(r"--[a-z][a-z-]+", rest.split("\n")[0])
        if flag not in known.get(command, set()) and flag != "--help"
    ]
    assert wrong == []
