"""icsnn sweep: what it prints, writes and refuses."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from icsnn_deploy.cli import COMMANDS, app
from icsnn_deploy.lattice.options import LatticeEffort
from icsnn_deploy.sweeping import options
from tests.support.sweeping import write


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("ICSNN_PROGRESS", "on")
    return [*write(tmp_path), f"--out={tmp_path}/out"]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_command_writes_a_table_and_a_page_and_names_the_cheapest(
    arguments: list[str], tmp_path: Path
) -> None:
    grid = ["--time-steps=2", "--bits=float", "--recipes=opi", "--max-loss=100"]
    found = invoke(*arguments, *grid)
    assert found.exit_code == 0, found.output
    assert "generic: take opi, T = 2, float: " in found.stdout
    assert "1 of 1: opi, T = 2, float, generic: " in found.stderr
    names = {"table.csv", "table.json", "report.html", "report.md"}
    assert names <= {path.name for path in (tmp_path / "out").iterdir()}
    again = invoke(*arguments, *grid, "--json")
    assert "1 of 1 points are measured already" in again.stderr
    shown = json.loads(again.stdout)
    written = json.loads((tmp_path / "out/table.json").read_text())
    assert shown.pop("files")
    assert shown == written
    assert shown["recommended"]["generic"]["point"]["time_steps"] == 2


def test_the_exit_code_is_1_where_no_point_will_do(arguments: list[str]) -> None:
    found = invoke(*arguments, "--time-steps=1", "--bits=float", "--recipes=opi", "--targets=speck")
    assert found.exit_code == 1
    assert "speck: no recommendation: no point fits" in found.stdout


def test_all_wrong_options_are_reported_at_once(arguments: list[str], tmp_path: Path) -> None:
    found = invoke(
        *arguments,
        *("--mean=1", "--time-steps=2,x", "--bits=3,99,wide", "--recipes=auto:hasty,nope"),
        *("--targets=moon", "--knots=3", "--calibration-labels=x.npy", "--crop=wide"),
    )
    assert found.exit_code == 2
    for part in (
        "--mean and --std go together",
        "--time-steps '2,x'",
        "--bits '3,99,wide'",
        "effort 'hasty'",
        "no recipe 'nope'",
        "no target 'moon'",
        "--knots 3 without --approximate",
        "--calibration-labels x.npy",
        "wide",
    ):
        assert part in found.stderr, part
    assert not (tmp_path / "out").exists()


def test_a_package_that_the_page_needs_is_asked_for_before_anything_is_measured(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = invoke(*arguments, "--time-steps=2", "--bits=float", "--recipes=opi")
    assert found.exit_code == 2
    assert "pip install 'icsnn-deploy[report]'" in found.stderr
    assert not (tmp_path / "out").exists()


def test_choices_of_sweep_are_those_of_the_library() -> None:
    command = inspect.getmodule(COMMANDS["sweep"])
    assert command is not None
    assert get_args(command.Cost) == get_args(options.Cost)
    assert get_args(command.LatticeEffort) == get_args(LatticeEffort)
