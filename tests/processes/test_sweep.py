"""Several processes share a sweep; one that is killed leaves no lock and nothing half done."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from typer.testing import CliRunner

from icsnn_deploy.cli import app
from tests.support.sweeping import write

ROOT = Path(__file__).parents[2]
LIMIT_S = 600
GRID = ["--time-steps=1", "--bits=3,float", "--recipes=opi,diehl", "--targets=generic,speck"]
POINTS = 8


def start(folder: Path, *launcher: str, more: Sequence[str] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("ICSNN_PROGRESS", None)  # the lines are looked at
    arguments = [*write(folder), *GRID, f"--out={folder}/out", *more]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "icsnn_deploy", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def tables(out: Path) -> dict[str, bytes]:
    names = ("table.csv", "table.json", "report.html", "report.md")
    return {name: (out / name).read_bytes() for name in names}


def test_a_killed_sweep_is_finished_by_two_processes_at_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    CliRunner().invoke(app, [*write(undisturbed), *GRID, f"--out={undisturbed}/out"])
    process = start(tmp_path)
    wait_for(tmp_path / "out" / "cells", 1)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)
    kept = len(list((tmp_path / "out" / "cells").glob("*.json")))
    both = [start(tmp_path) for _ in range(2)]
    errors = [each.communicate(timeout=LIMIT_S)[1] for each in both]
    assert [each.returncode for each in both] == [1, 1], errors  # no point will do for speck
    assert tables(tmp_path / "out") == tables(undisturbed / "out")
    measured = sum(len(re.findall(r"\d of 8: (?:opi|diehl), T = ", text)) for text in errors)
    assert measured == POINTS - kept  # each once, and not those that were there


def test_torchrun_starts_processes_of_which_the_first_prints(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    more = ("--max-loss=200", "--targets=generic", "--bits=float")
    process = start(tmp_path, *launcher, more=more)
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert printed.count("generic: take ") == 1


def wait_for(folder: Path, count: int) -> None:
    """Until so many files are there."""
    until = time.monotonic() + LIMIT_S
    while not folder.is_dir() or len(list(folder.glob("*.json"))) < count:
        assert time.monotonic() < until
        time.sleep(0.02)
