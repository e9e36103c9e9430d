"""Whatever happens to the Lava worker: one clear error in time, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.errors import BackendUnavailableError, SimulationError
from icsnn_deploy.lava.environment import find_worker
from icsnn_deploy.lava.launch import STEP_LIMIT_VARIABLE, run_netlists
from icsnn_deploy.lava.netlist import Netlist
from icsnn_deploy.lava.simulator import Connections, LavaSimulator
from icsnn_deploy.progress import silent
from tests.support.graphs import residual_network, samples

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Found:
    """A process of a worker."""

    pid: int
    parent: int


def workers(parent: int | None = None) -> set[int]:
    """Process groups of the Lava workers that a process (default: this one) started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        if b"icsnn_lava" in command and int(fields[1]) == (parent or os.getpid()):
            found.add(int(fields[2]))
    return found


def alive(group: int) -> list[Found]:
    """Processes of a group that are no zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, pgrp = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state not in "ZX":
            found.append(Found(int(folder.name), int(parent)))
    return found


def gone_within(group: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def files_of(group: int) -> tuple[set[Path], set[Path]]:
    """Blocks of shared memory and the request folder of a group."""
    memory, folders = set(), set()
    for process in alive(group):
        folder = Path("/proc") / str(process.pid)
        for line in (folder / "maps").read_text().splitlines():
            if "/dev/shm/psm_" in line:
                memory.add(Path(line.split()[-1]))
        for word in (folder / "cmdline").read_text().split("\0"):
            if "icsnn-lava-" in word:
                folders.add(Path(word))
    return memory, folders


def long_run(images: int = 400) -> Netlist:
    """A run of thousands of steps: images one after the other."""
    graph = residual_network()
    simulator = LavaSimulator(graph, arithmetic="float", connections="batched", memory=1)
    (netlist,) = simulator.netlists(samples(graph, images))
    assert netlist.steps > 8 * images
    return netlist


class At:
    """Progress that does something once, in the middle of a run, and remembers the group."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.act = act
        self.group = 0
        self.memory: set[Path] = set()
        self.folders: set[Path] = set()
        self.acted_at = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if done >= 5 and not self.group:
            (self.group,) = workers()
            self.memory, self.folders = files_of(self.group)
            self.acted_at = time.monotonic()
            self.act(self.group)


def break_off(act: Callable[[int], None], limit: float = 60.0) -> tuple[str, float]:
    """Run, act on the worker's group in mid-run; the error's message and the seconds it took."""
    at = At(act)
    with pytest.raises(SimulationError) as caught:
        run_netlists(find_worker().python, [long_run()], step_limit_s=limit, progress=at)
    seconds = time.monotonic() - at.acted_at
    assert at.group
    assert alive(at.group) == []
    assert at.memory
    assert at.folders
    assert not any(block.exists() for block in at.memory)
    assert not any(folder.exists() for folder in at.folders)
    return str(caught.value), seconds


def actor(group: int) -> int:
    """One of Lava's processes; the first child only hands out shared memory."""
    children = [found.pid for found in alive(group) if found.parent == group]
    return sorted(children)[-3]


def test_a_killed_worker() -> None:
    message, seconds = break_off(lambda group: os.kill(group, signal.SIGKILL))
    assert message.startswith("the Lava worker was killed by SIGKILL. Memory, ")
    assert seconds < 10


def test_a_killed_process_of_lava() -> None:
    message, seconds = break_off(lambda group: os.kill(actor(group), signal.SIGKILL))
    assert "killed by SIGKILL" in message
    assert seconds < 10


def test_a_hang() -> None:
    message, seconds = break_off(lambda group: os.kill(actor(group), signal.SIGSTOP), limit=12.0)
    assert message.startswith("Lava hangs: no step finished for 12 s, after step ")
    assert STEP_LIMIT_VARIABLE in message
    assert seconds < 40


def test_control_c_in_the_parent() -> None:
    def interrupt(group: int) -> None:
        raise KeyboardInterrupt

    at = At(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_netlists(find_worker().python, [long_run()], progress=at)
    assert at.group
    assert alive(at.group) == []


def broken(kind: str, **options: object) -> Netlist:
    """A short run in which a process of that kind has wrong options."""
    graph = residual_network(time_steps=2)
    connections: Connections = "batched" if kind == "batch-connection" else "stock"
    simulator = LavaSimulator(graph, arithmetic="float", connections=connections)
    (netlist,) = simulator.netlists(samples(graph, 2))
    changed = [
        replace(process, options={**process.options, **options})
        if process.kind == kind
        else process
        for process in netlist.processes
    ]
    assert any(process.kind == kind for process in netlist.processes)
    return replace(netlist, processes=changed)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("soft-reset-if", {"period": 0}, r"in stem\.if \(SoftResetIF\): ZeroDivisionError: "),
        ("batch-connection", {"source": "x"}, r"in connection/.* \(BatchConnection\): KeyError: "),
        ("conv", {"groups": 3}, r"in the worker: ValueError: Expected number of in_channels"),
        ("spike-recorder", {"file": "no/such/folder"}, r"\(SpikeRecorder\): FileNotFoundError"),
    ],
)
def test_a_crash_inside_a_process(kind: str, options: dict[str, object], message: str) -> None:
    started = time.monotonic()
    groups: list[set[int]] = []
    with pytest.raises(SimulationError, match=message) as caught:
        run_netlists(
            find_worker().python,
            [broken(kind, **options)],
            progress=lambda stage, done, total: groups.append(workers()),
        )
    assert "`icsnn lava status` tests the environment" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 30
    assert all(alive(group) == [] for group in set().union(*groups))


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    script = """
    import sys, time
    from tests.unit.lava.test_worker import long_run, find_worker, run_netlists
    run_netlists(find_worker().python, [long_run()], progress=lambda s, d, t: print(d, flush=True))
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert parent.stdout is not None
    for line in parent.stdout:
        if int(line) >= 5:
            break
    (group,) = workers(parent.pid)
    assert len(alive(group)) > 10
    memory, (folder,) = files_of(group)
    parent.kill()
    parent.wait()
    assert gone_within(group, 10)
    assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert memory
    assert not any(block.exists() for block in memory)


def test_an_environment_without_python(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"can't be started .* icsnn lava setup"):
        run_netlists(tmp_path / "python", [long_run(1)])


def test_a_worker_without_lava() -> None:
    with pytest.raises(
        SimulationError,
        match=r"in the worker: ModuleNotFoundError: .*'lava'.*`icsnn lava status` tests",
    ):
        run_netlists(Path(sys.executable), [long_run(1)])


def test_files_where_it_is_started_are_not_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "lava", "json", "icsnn_lava"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the module')")
    worker, netlist = find_worker(), long_run(1)  # ICSNN_LAVA may be relative
    monkeypatch.chdir(tmp_path)
    (result,) = run_netlists(worker.python, [netlist])
    assert result.versions["lava-nc"] == "0.10.0"


def test_a_long_path_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the address of a socket may be."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    (result,) = run_netlists(find_worker().python, [long_run(1)])
    assert result.versions["lava-nc"] == "0.10.0"
    assert list(folder.iterdir()) == []


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SimulationError, match=r"a folder for temporary files .*TMPDIR"):
        run_netlists(find_worker().python, [long_run(1)])


def test_a_python_that_does_nothing(tmp_path: Path) -> None:
    idle = tmp_path / "python"
    idle.write_text("#!/bin/sh\n")
    idle.chmod(0o755)
    with pytest.raises(
        SimulationError, match=r"worker ended with exit code 0\. `icsnn lava status`"
    ):
        run_netlists(idle, [long_run(1)])


def test_the_parents_python_settings_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    (result,) = run_netlists(find_worker().python, [long_run(1)])
    assert result.versions["lava-nc"] == "0.10.0"


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan"])
def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(STEP_LIMIT_VARIABLE, given)
    with pytest.raises(SimulationError, match=f"{STEP_LIMIT_VARIABLE}='{given}'"):
        run_netlists(find_worker().python, [long_run(1)])


def test_progress_counts_every_step() -> None:
    netlist = long_run(2)
    seen: list[tuple[int, int | None]] = []
    (result,) = run_netlists(
        find_worker().python, [netlist], progress=lambda s, done, total: seen.append((done, total))
    )
    assert seen[0] == (0, netlist.steps)
    assert seen[-1] == (netlist.steps, netlist.steps)
    assert len(np.frombuffer(result.readout)) == 10 * 8 * 2
    silent("", 0, None)
