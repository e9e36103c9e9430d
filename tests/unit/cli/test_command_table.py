"""The table of commands, and the choices that their options offer."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import get_args

from typer.testing import CliRunner

import icsnn_deploy.cli as cli
from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.frontend.replace_max_pool import REPLACEMENTS
from icsnn_deploy.exporters.nir.metadata import NirProfile, VInitEncoding
from icsnn_deploy.exporters.onnx.contract import RUNTIMES, TIMED_LAYOUTS

SHARED = {
    "__init__",
    "arguments",
    "convert_options",
    "freed_memory",
    "interrupts",
    "input_arrays",
    "labeled_samples",
    "notes",
    "printing",
    "sweep_options",
    "tasks",
}


def test_every_command_has_a_file() -> None:
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - SHARED
    homes = {inspect.getmodule(command) for command in cli.COMMANDS.values()}
    assert {home.__name__.rpartition(".")[2] for home in homes if home} == files - {
        "lava",
        "readers",
        "tools",
    }
    for name, command in cli.COMMANDS.items():
        assert command.__name__.removesuffix("_nir") == name


def test_choices_of_convert_are_those_of_the_library() -> None:
    module = inspect.getmodule(cli.COMMANDS["convert"])
    assert module is not None
    assert get_args(vars(module)["Effort"]) == get_args(auto.Effort)
    assert get_args(vars(module)["Replacement"]) == REPLACEMENTS


def test_help_and_errors_list_the_choices() -> None:
    for option, choices in (
        ("--layout", ("auto", *TIMED_LAYOUTS)),
        ("--runtime", RUNTIMES),
        ("--profile", get_args(NirProfile)),
        ("--v-init-encoding", get_args(VInitEncoding)),
    ):
        result = CliRunner().invoke(cli.app, ["export", "b", "--format", "onnx", option, "wrong"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "'wrong' is not one of" in result.stderr
        for choice in choices:
            assert f"'{choice}'" in result.stderr
