"""No command runs for longer than three seconds without a change of what it shows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from icsnn_deploy.environments.build import run_program
from icsnn_deploy.lava.environment import LAVA
from icsnn_deploy.progress import inner_progress
from tests.support.slow_clock import SlowClock, slow_clock
from tests.support.sweeping import MODEL, data

pytestmark = pytest.mark.slow

LONGEST_S = 3.0
ON_IMAGES = "--images images.npy --labels labels.npy --limit 12"
FORMATS = "nir onnx onnx-step netx c systemverilog testvectors"
COMMANDS = {
    "convert": "net.py:tiny --calibration calibration.npy --time-steps 4 --effort quick --out out",
    "quantize": "float --calibration calibration.npy --out out",
    "export": f"integer {' '.join(f'--format {name}' for name in FORMATS.split())} --lossy",
    "verify": f"exported {ON_IMAGES}",
    "evaluate": f"exported {ON_IMAGES} --parity-backend reference --parity-backend onnxruntime",
    "report": f"exported {ON_IMAGES} --out report.html",
    "sweep": "net.py:tiny --calibration calibration.npy --images images.npy --labels labels.npy "
    "--time-steps 2 --bits float,8 --recipes fast --targets generic --max-loss 100 --out out",
    "inspect": "integer --images images.npy --limit 12 --backend torch",
    "targets": "",
    "check": "integer --target loihi2",
    "split": "float --host-first-layer --out out",
    "deploy": "float --target generic --calibration calibration.npy --out out",
    "import": "exported/network.nir --out out",
}
ELSEWHERE = {
    "cost": "runs SANA-FE in an environment of its own, which reports each sample",
    "demo": "runs the functions of convert, quantize, export and verify",
    "lava setup": "pip, whose packages are counted",
    "lava status": "one self-test, in an environment of its own",
    "readers setup": "pip, whose packages are counted",
    "readers status": "self-tests, in environments of their own",
    "tools setup": "pip, whose packages are counted",
    "tools status": "one self-test, in an environment of its own",
}
"""What these tests do not run, and why."""
SHORT = {"targets", "check", "import"}
"""Commands that run no layer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, samples, and bundles of a float and of an integer network."""
    path = tmp_path_factory.mktemp("silence")
    found = data()
    (path / "net.py").write_text(MODEL)
    for name in ("calibration", "images", "labels"):
        np.save(path / f"{name}.npy", getattr(found, name))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        run("convert net.py:tiny --calibration calibration.npy --recipe fast --out float")
        for name in ("integer", "exported"):
            run(f"quantize float --calibration calibration.npy --out {name}")
        run("export exported --format nir --format onnx")
    return path


@pytest.fixture
def clock(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowClock]:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        yield slow_clock(patch)


def run(line: str) -> None:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code in (0, 1), f"{line}\n{result.output}\n{result.exception!r}"


def test_every_command_is_named() -> None:
    found = set()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name} if inner is None else {f"{name} {each}" for each in inner}
    assert found == {*COMMANDS, *ELSEWHERE}


def test_the_packages_that_pip_names_are_counted(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    printed = "Collecting a\\n  Downloading a.whl\\nRequirement already satisfied: b\\n"
    command = [sys.executable, "-I", "-c", f"print('{printed}')"]
    lock = (tmp_path / "lock").open("w")
    with lock, inner_progress(lambda *given: told.append(given)):
        run_program(LAVA, command, lock.fileno(), ())
    assert told == [("packages collected", 1, None), ("packages collected", 2, None)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_never_silent_for_long(command: str, clock: SlowClock) -> None:
    run(f"{command} {COMMANDS[command]}")
    assert clock.silences(LONGEST_S) == []
    if command not in SHORT:
        assert clock.now > 10  # enough for a silence
