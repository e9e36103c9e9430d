"""Several processes give what one gives, to the last bit; one that is killed ends the run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from icsnn_deploy.distributed import SINGLE
from tests.support import conversions
from tests.support.evaluating import build, data

ROOT = Path(__file__).parents[2]
LIMIT_S = 600  # of anything here; a hang is a failure
MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    )

def different():
    import os
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.ReLU(), nn.Linear(4, 5))
"""


def torchrun(processes: int, *arguments: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, "--nproc-per-node", str(processes), *arguments]


def finished(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )


def test_calibration_on_three_processes(tmp_path: Path) -> None:
    """26 samples to fit and 8 to judge, in batches of 4: neither count divides by three."""
    found = finished(torchrun(3, "--module", "tests.support.conversions", "2"), tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == conversions.results(SINGLE)


def test_an_interrupted_distillation_goes_on_in_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first of them has read the state; without it the other would start anew."""
    states = tmp_path / "states"

    def interrupt(stage: str, done: int, _: int | None) -> None:
        if (stage, done) == ("distillation", 3):
            raise KeyboardInterrupt

    monkeypatch.setattr("icsnn_deploy.conversion.calibration.distill._SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        conversions.distilled(SINGLE, states, interrupt)
    # "1": what the second process has is printed
    module = ("--module", "tests.support.conversions", "1", str(states))
    found = finished(torchrun(2, *module), tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == conversions.distilled(SINGLE, None)
    (kept,) = states.glob("*.csv")
    assert len(kept.read_text().splitlines()) == 1 + 5  # one point an iteration, of both runs


TRAINED = """
from pathlib import Path
import torch
from icsnn_deploy.distributed import open_ranks

def threads():
    return {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}

with open_ranks() as ranks:
    ranks.gather(torch.ones(2))
    torch.optim.Adam([torch.ones(2)])
    during = threads()
print(any("gloo" in name for name in during), any("gloo" in name for name in threads()))
"""


def test_no_thread_of_the_exchange_outlives_it(tmp_path: Path) -> None:
    """One that holds a tensor at the end of the interpreter would abort the process."""
    (tmp_path / "trained.py").write_text(TRAINED)
    found = finished(torchrun(2, "trained.py"), tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["True False"] * 2


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tiny.py").write_text(MODEL)
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


CONVERT = ("convert", "--calibration", "images.npy", "--mean", ".5,.5,.5", "--std", ".2,.2,.2")
QUICK = ("--recipe", "auto", "--effort", "quick", "--time-steps", "3", "--batch-size", "4")


def alone(place: Path, *arguments: str) -> str:
    """What the command prints in this one process."""
    there = os.getcwd()
    os.chdir(place)  # the same names as the other processes are given
    try:
        found = CliRunner().invoke(app, list(arguments))
    finally:
        os.chdir(there)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_command_writes_the_same_bundle(place: Path) -> None:
    arguments = ("tiny.py:make", *CONVERT[1:], *QUICK, "--json", "--out")
    one = alone(place, "convert", *arguments, "one")
    two = finished(torchrun(2, "-m", "icsnn_deploy", "convert", *arguments, "two"), place)
    assert two.returncode == 0, two.stderr
    for name in ("graph.safetensors", "ann.safetensors", "samples.safetensors"):
        assert (place / "two" / name).read_bytes() == (place / "one" / name).read_bytes()
    hashes = {json.loads(printed)["graph_hash"] for printed in (one, two.stdout)}  # once each
    assert len(hashes) == 1


def test_processes_with_different_models_stop(place: Path) -> None:
    arguments = ("tiny.py:different", *CONVERT[1:], *QUICK, "--out", "bundle")
    found = finished(torchrun(2, "-m", "icsnn_deploy", "convert", *arguments), place)
    assert found.returncode != 0
    assert "error: the traced ANN: process 1 has" in found.stderr
    assert not (place / "bundle").exists()


def test_other_commands_run_alone(place: Path) -> None:
    found = finished(torchrun(2, "-m", "icsnn_deploy", "inspect", "bundle"), place)
    assert found.returncode != 0
    assert "error: inspect runs in one process, not under torchrun" in found.stderr


# Evaluation


def evaluation(place: Path, count: int) -> tuple[str, ...]:
    """A bundle and a data set, and the command that evaluates it."""
    build(place / "bundle")
    data(place, count)
    names = ("evaluate", "bundle", "--images", "x.npy", "--labels", "y.npy")
    return (*names, "--shard-size", "4", "--json")


def shards(folder: Path) -> int:
    return len(list(folder.glob("shard-*.json")))


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    more = ("--parity-backend", "reference", "--early-exit", "0.2", "--out")
    command = (*evaluation(tmp_path, 43), *more)
    one = alone(tmp_path, *command, "one")
    two = finished(torchrun(2, "-m", "icsnn_deploy", *command, "two"), tmp_path)
    assert two.returncode == 0, two.stderr
    assert two.stdout == one
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def workers(launcher: int) -> list[int]:
    """Processes that a launcher has started."""
    children = Path(f"/proc/{launcher}/task").glob("*/children")
    found = [int(pid) for path in children for pid in path.read_text().split()]
    return [p for p in found if b"icsnn_deploy" in Path(f"/proc/{p}/cmdline").read_bytes()]


def wait_for_shards(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while shards(folder) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_process_ends_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    command = (*evaluation(tmp_path, 1600), "--out", "out")
    launched = subprocess.Popen(
        torchrun(2, "-m", "icsnn_deploy", *command),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_shards(tmp_path / "out", 10, launched)
    os.kill(workers(launched.pid)[1], signal.SIGKILL)
    printed, errors = launched.communicate(timeout=LIMIT_S)
    assert launched.returncode != 0
    assert printed == ""
    assert "SIGKILL" in errors
    assert 10 <= shards(tmp_path / "out") < 400
    assert not (tmp_path / "out" / "result.json").exists()
    again = finished(torchrun(2, "-m", "icsnn_deploy", *command), tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == alone(tmp_path, *command[:-2])


def started(place: Path, rank: int, port: int, *arguments: str) -> subprocess.Popen[str]:
    """One of two processes without a launcher that would watch them, as on two machines."""
    known = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "icsnn_deploy", *arguments],
        cwd=place,
        env={**os.environ, **known, "MASTER_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_without_a_launcher_the_other_process_notices(tmp_path: Path) -> None:
    command = (*evaluation(tmp_path, 800), "--out", "out", "--wait", "60")
    port = free_port()
    both = [started(tmp_path, rank, port, *command) for rank in (0, 1)]
    wait_for_shards(tmp_path / "out", 10, both[0])
    both[0].kill()  # the one that the other found its way through
    both[0].communicate()
    printed, errors = both[1].communicate(timeout=LIMIT_S)
    assert both[1].returncode == 2
    assert "another process of this run is gone" in errors
    assert printed == ""  # the first process alone prints
    assert not (tmp_path / "out" / "result.json").exists()
    assert shards(tmp_path / "out") >= 100  # its own share is kept


def test_a_process_that_never_comes(tmp_path: Path) -> None:
    command = (*evaluation(tmp_path, 8), "--wait", "3")
    process = started(tmp_path, 0, free_port(), *command)
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert json.loads(printed)["error"] == "RankError"
    assert "the other processes of this run did not join, or can't be reached" in errors
