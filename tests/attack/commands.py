"""Commands on small bundles, each in a process that is forked when everything is loaded.

So that a run takes a fraction of a second, and hundreds can be killed at random moments.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.exporters import export, export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import IF, Relu
from tests.support.graphs import residual_network, samples
from tests.support.integer_graphs import on_lattice

MODEL = """
from torch import nn
def model():
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
"""
LIMIT_S = 300.0
"""Longest time of a command: the machine may be busy."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command that writes, or that reads a bundle.

    Args:
        arguments: of icsnn; {here} is the folder that it runs in.
        target: what it writes, below that folder; None: it only reads.
        overwrites: whether it replaces the bundle as a whole.
        exports: format of the export that it adds.
        slow: whether it needs a second or more.
    """

    arguments: tuple[str, ...]
    target: str | None = "b"
    overwrites: bool = False
    exports: str | None = None
    slow: bool = False


COMMANDS: dict[str, Command] = {
    **{
        f"export {name}": Command(
            arguments=("export", "{here}/b", "--format", name),
            exports=name,
            slow=name in ("c", "systemverilog", "testvectors"),
        )
        for name in ("nir", "onnx", "onnx-step", "c", "systemverilog", "testvectors")
    },
    "import": Command(
        arguments=("import", "{here}/other.nir", "--out", "{here}/b", "--overwrite"),
        overwrites=True,
    ),
    "convert": Command(
        arguments=(
            *("convert", "{here}/model.py:model", "--out", "{here}/b", "--overwrite"),
            *("--calibration", "{here}/images.npy", "--time-steps", "3", "--recipe", "ic-snn"),
        ),
        overwrites=True,
        slow=True,
    ),
    "quantize": Command(
        arguments=(
            *("quantize", "{here}/float", "--out", "{here}/b", "--overwrite"),
            *("--calibration", "{here}/samples.npy"),
        ),
        overwrites=True,
        slow=True,
    ),
    "split": Command(
        arguments=("split", "{here}/float", "--out", "{here}/s", "--host-first-layer"),
        target="s",
        slow=True,
    ),
    "evaluate": Command(
        arguments=(
            *("evaluate", "{here}/b", "--images", "{here}/samples.npy", "--backend", "reference"),
            *("--out", "{here}/shards", "--shard-size", "1", "--limit", "4"),
        ),
        target="shards",
        slow=True,
    ),
    "verify": Command(arguments=("verify", "{here}/b", "--backend", "nir"), target=None),
    "inspect": Command(arguments=("inspect", "{here}/b"), target=None),
}


def prepare(folder: Path) -> None:
    """The files that the commands need: bundles b and float, another network, samples."""
    folder.mkdir()
    network, other = small(0), small(1)
    given = samples(network, 4)
    nodes = [Relu(name=n.name, inputs=n.inputs) if isinstance(n, IF) else n for n in network.nodes]
    ann = Graph(nodes=tuple(nodes))
    create_bundle(folder / "float", network=network, ann=ann, samples=given, report={})
    integer = on_lattice(network)
    units = to_input_units(integer, given)
    made = create_bundle(folder / "b", network=integer, ann=None, samples=units, report={})
    export_into(made, "nir", "c")
    export(other, folder / "other.nir", "nir")
    (folder / "model.py").write_text(MODEL)
    np.save(folder / "samples.npy", given)
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.random((8, 2, 6, 6), dtype=np.float32))


def small(seed: int) -> Graph:
    return residual_network(seed=seed, time_steps=2)


def start(name: str, here: Path, log: Path, *, temporary: Path) -> int:
    """Fork a process that runs a command; returns its id."""
    arguments = [each.format(here=here) for each in COMMANDS[name].arguments]
    process = os.fork()
    if process:
        return process
    try:
        _redirect(log)
        import tempfile

        tempfile.tempdir = str(temporary)
        os.environ["TMPDIR"] = str(temporary)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from icsnn_deploy.__main__ import main

        sys.argv = ["icsnn", *arguments]
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _redirect(log: Path) -> None:
    """Give this process standard streams of its own."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115


def wait(process: int) -> int:
    """Wait for a process; returns its exit code, or minus the signal that ended it."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise AssertionError(f"a command did not end within {LIMIT_S:g} s")


def run(name: str, here: Path, temporary: Path) -> tuple[int, str]:
    """Run a command to its end; returns exit code and output."""
    log = temporary.parent / "log"
    code = wait(start(name, here, log, temporary=temporary))
    return code, log.read_text(errors="replace")


def load_all(names: list[str], pristine: Path, temporary: Path) -> dict[str, float]:
    """Import what the commands import; returns the seconds that each takes afterwards.

    The modules are found by running each command in a child: this process must not run any, as
    libraries start threads, which a fork does not copy.
    """
    for name in names:
        here = copy(pristine, temporary.parent / "warm")
        listed = temporary.parent / "modules.json"
        process = os.fork()
        if not process:
            _redirect(temporary.parent / "log")
            sys.argv = ["icsnn", *(a.format(here=here) for a in COMMANDS[name].arguments)]
            _list_modules(listed)
        assert wait(process) == 0, f"{name}: {(temporary.parent / 'log').read_text()}"
        for module in json.loads(listed.read_text()):
            try:
                __import__(module)
            except Exception:
                continue
    durations = {}
    for name in names:
        here = copy(pristine, temporary.parent / "warm")
        before = time.monotonic()
        code, text = run(name, here, temporary)
        assert code == 0, f"{name}: {text}"
        durations[name] = time.monotonic() - before
    return durations


def _list_modules(listed: Path) -> None:
    """Run the command of sys.argv, and write the names of the modules that it loaded."""
    from icsnn_deploy.__main__ import main

    code: object = 1
    try:
        main()
    except SystemExit as error:
        code = error.code
    listed.write_text(json.dumps([name for name in sys.modules if name != "__main__"]))
    sys.stderr.flush()
    os._exit(0 if code in (0, None) else 1)


def copy(pristine: Path, path: Path) -> Path:
    """A fresh copy of the prepared folder."""
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(pristine, path))


def whole(path: Path) -> Bundle:
    """Open a bundle whose files are all listed, all there and undamaged."""
    bundle = open_bundle(path)
    bundle.check_files()
    bundle.network()
    top = {name.partition("/")[0] for name in bundle.manifest.files} | {MANIFEST}
    there = {name for name in os.listdir(path) if not name.startswith(".")}
    assert there == top, f"files that are not listed, or missing: {there ^ top}"
    for name in bundle.exports.values():
        if (path / name).is_dir():
            inside = {f"{name}/{file}" for file in os.listdir(path / name)}
            assert inside == set(bundle.manifest.files_in(name))
    return bundle


def leftovers(here: Path, temporary: Path) -> list[str]:
    """Hidden files below a folder, and whatever is in the folder of temporary files."""
    hidden = [str(path) for path in here.rglob(".*")]
    return hidden + [str(path) for path in temporary.iterdir()]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
