"""A small part of each attack; more with `python -m tests.attack.NAME --count N --seed S`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.attack.formats import FORMATS

ROOT = Path(__file__).parents[2]
QUICK = ("export nir", "export onnx-step", "import")


def attack(name: str, *arguments: str) -> str:
    """Run an attack in a process of its own, which forks; returns what it found."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.attack.{name}", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.slow
def test_changed_numbers_of_every_export_are_found() -> None:
    found = attack("mutations", "--count", "34", "--seed", "5")
    assert "NOT FOUND" not in found
    assert "all 34" in found


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["KILL", "INT"])
def test_a_command_that_is_ended_leaves_the_old_or_the_new_bundle(signal: str) -> None:
    found = attack("kills", "--count", "12", "--signal", signal, "--commands", *QUICK)
    assert f"SIG{signal}: 12, faults: 0" in found


@pytest.mark.slow
def test_hostile_inputs_end_in_one_clear_error() -> None:
    found = attack("fuzz", "--count", "25", "--seed", "7")
    assert found.count("faults: 0") == len(FORMATS), found


@pytest.mark.slow
def test_two_commands_at_once_lose_nothing() -> None:
    found = attack("races", "--count", "4", "--commands", *QUICK)
    assert "races: 24, faults: 0" in found
