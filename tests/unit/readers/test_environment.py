"""The readers' environments: where they are, how they are made, and what runs in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from icsnn_deploy.errors import BackendUnavailableError, DataError, ExportError, SimulationError
from icsnn_deploy.exporters import export
from icsnn_deploy.readers import setup
from icsnn_deploy.readers.environment import ENVIRONMENTS, find_environment, pins
from icsnn_deploy.readers.launch import Request, run_requests
from icsnn_deploy.readers.simulator import ReaderSimulator
from icsnn_deploy.readers.versions import TESTED, is_installed, require
from tests.support.graphs import residual_network, samples

pytestmark = pytest.mark.slow


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for both environments, where none is yet."""
    for name, kind in ENVIRONMENTS.items():
        monkeypatch.setenv(kind.variable, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    export(residual_network(), tmp_path / "n.nir", "nir-portable")
    return tmp_path / "n.nir"


# Where they are, and what is in them


def test_a_missing_environment_names_the_command(nowhere: Path, file: Path) -> None:
    for reader in ("norse", "sinabs"):
        with pytest.raises(BackendUnavailableError, match="run: icsnn readers setup"):
            ReaderSimulator(file, reader)
    done = CliRunner().invoke(app, ["readers", "status"])
    assert done.exit_code == 2
    assert "run: icsnn readers setup" in done.stderr


def test_an_environment_of_other_versions_is_not_used(nowhere: Path) -> None:
    (nowhere / "sinabs").mkdir()
    stamp = nowhere / "sinabs" / ENVIRONMENTS["sinabs"].stamp
    stamp.write_text(json.dumps({**pins("sinabs"), "sinabs": "9.0"}))
    with pytest.raises(
        BackendUnavailableError, match=r"sinabs 9\.0, tested with 3\.1\.3; run: ics"
    ):
        find_environment("sinabs")


def test_a_version_that_was_not_tested_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"snntorch": "1.1.0", "nirtorch": "2.6"}
    monkeypatch.setattr(metadata, "version", found.__getitem__)
    assert not is_installed("snntorch")
    with pytest.raises(
        BackendUnavailableError,
        match=r"snntorch 1\.1\.0, tested with 1\.0\.0.*pip install snntorch==1\.0\.0 nirtorch",
    ):
        require("snntorch")
    found["snntorch"] = "1.0.0"
    require("snntorch")
    assert is_installed("snntorch")


def test_a_reader_that_is_missing_is_said_to_be() -> None:
    for reader in TESTED:
        with pytest.raises(BackendUnavailableError, match=f"{reader}: .* is missing, tested with"):
            require(reader)


# How they are made


def test_they_share_what_is_installed_here(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    commands = []

    def run(kind: Any, command: list[str], lock: int, remedies: Any) -> None:
        commands.append(command)
        if "venv" in command:
            version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            (nowhere / "sinabs" / "lib" / version / "site-packages").mkdir(parents=True)
            (nowhere / "sinabs" / "bin").mkdir()
            (nowhere / "sinabs" / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(setup, "run_program", run)
    monkeypatch.setattr(setup, "self_test", lambda name, python: None)
    made = setup.set_up("sinabs")
    assert made.versions == {"sinabs": "3.1.3", "nirtorch": "2.0.2", "nir": "1.0.4"}
    assert commands[-1][-4:] == ["--no-deps", "sinabs==3.1.3", "nirtorch==2.0.2", "nir==1.0.4"]
    (shared,) = (nowhere / "sinabs").rglob("*.pth")
    assert str(Path(np.__file__).parents[1]) in shared.read_text()
    count = len(commands)
    assert setup.set_up("sinabs") == made
    assert len(commands) == count


def test_what_fails_its_self_test_is_not_left(
    monkeypatch: pytest.MonkeyPatch, nowhere: Path
) -> None:
    def fail(name: str, python: Path) -> None:
        raise BackendUnavailableError("self-test: sends other spikes")

    monkeypatch.setattr(setup, "run_program", lambda *arguments: None)
    monkeypatch.setattr(setup, "_share", lambda folder: None)
    monkeypatch.setattr(setup, "self_test", fail)
    with pytest.raises(BackendUnavailableError, match="other spikes"):
        setup.set_up("readers")
    assert not (nowhere / "readers").exists()


def test_the_command_tells_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[str] = []
    monkeypatch.setattr(setup, "self_test", lambda name, python: tested.append(name))
    for command in ("status", "setup"):
        done = CliRunner().invoke(app, ["readers", command, "--json"])
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        assert {n: facts["versions"] for n, facts in said.items()} == {
            n: pins(n) for n in ENVIRONMENTS
        }
    assert tested == [*ENVIRONMENTS, *ENVIRONMENTS]


def test_three_neurons_run_in_a_reader() -> None:
    setup.self_test("sinabs", find_environment("sinabs").python)


# What runs in them


def request(file: Path, reader: str = "nirtorch", count: int = 2) -> Request:
    return Request(reader=reader, file=file, inputs=samples(residual_network(), count))


def workers(parent: int) -> list[int]:
    """Running workers of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            state, above = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, IndexError):
            continue
        if b"icsnn_deploy.readers.worker" in command and int(above) == parent and state not in "ZX":
            found.append(int(folder.name))
    return found


def test_the_helpers_errors_come_back_as_they_are(file: Path, tmp_path: Path) -> None:
    python = find_environment("readers").python
    export(residual_network(), tmp_path / "spec.nir", "nir")
    with pytest.raises(ExportError, match="norse can't run it"):
        run_requests(python, [request(tmp_path / "spec.nir", "norse")])
    wrong = Request(reader="nirtorch", file=file, inputs=np.zeros((1, 3, 3)))
    with pytest.raises(DataError, match=r"input of shape \(1, 3, 3\)"):
        run_requests(python, [wrong])


def test_a_hang_is_ended(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "requests"))
    with pytest.raises(SimulationError, match=r"nirtorch hangs: no step .* 0\.2 s, before"):
        run_requests(find_environment("readers").python, [request(file)], step_limit_s=0.2)
    assert workers(os.getpid()) == []
    assert list((tmp_path / "requests").iterdir()) == []


def test_a_kill_is_told(file: Path) -> None:
    def kill(stage: str, done: int, total: int | None) -> None:
        if done:
            for worker in workers(os.getpid()):
                os.kill(worker, signal.SIGKILL)

    with pytest.raises(SimulationError, match="the worker of nirtorch was killed by SIGKILL"):
        run_requests(find_environment("readers").python, [request(file, count=200)], progress=kill)
    assert workers(os.getpid()) == []


def test_no_worker_outlives_who_started_it(file: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from icsnn_deploy.readers.environment import find_environment\n"
        "from icsnn_deploy.readers.launch import Request, run_requests\n"
        "def leave(stage, done, total):\n"
        "    if done: os._exit(7)\n"
        "one = Request(reader='nirtorch', file=Path(sys.argv[1]), inputs=np.zeros((9, 2, 6, 6)))\n"
        "run_requests(find_environment('readers').python, [one] * 2000, progress=leave)\n"
    )
    folder = tmp_path / "requests"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", code, file], env=environment, timeout=120)
    assert done.returncode == 7
    deadline = time.monotonic() + 20
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(folder.iterdir()) == []
