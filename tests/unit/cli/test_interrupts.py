"""Ctrl-C ends with 130 wherever it is pressed; a working directory that is gone is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from icsnn_deploy.cli.interrupts import exit_code_of


@pytest.fixture(autouse=True)
def _usual_handler() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_and_lose() -> None:
    """As a destructor or a callback of a library does."""
    try:
        press()
    except KeyboardInterrupt:
        return


def press_and_fail() -> None:
    try:
        press()
    except KeyboardInterrupt:
        raise SystemExit(99) from None


@pytest.mark.parametrize("command", [press, press_and_lose, press_and_fail])
def test_an_interrupt_is_130_whatever_becomes_of_it(command: object) -> None:
    assert callable(command)
    assert exit_code_of(command) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("raised", "code"),
    [(None, 0), (SystemExit(), 0), (SystemExit(2), 2), (SystemExit("text"), 1)],
)
def test_other_ends_are_kept(raised: SystemExit | None, code: int) -> None:
    def command() -> None:
        if raised is not None:
            raise raised

    assert exit_code_of(command) == code


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert exit_code_of(press) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


GONE = """
import os, sys
os.rmdir(os.getcwd())
sys.path.append({root!r})
sys.argv = ["icsnn", "targets"]
from icsnn_deploy.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    found = subprocess.run(
        [sys.executable, "-c", GONE.format(root=root)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "error: the working directory does not exist any more; change to another\n"
    )
