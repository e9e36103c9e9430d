"""Hostile files and models, given to the commands that read them.

    python -m tests.attack.fuzz --count 1000 --seed 0 --which arrays checkpoints

Every input is made from its format, seed and number alone, so that --first N --count 1 makes one
again (--keep FOLDER keeps its files). Inputs run in forked processes, each some hundred of them;
one in a thousand also runs as a real command.
"""

from __future__ import annotations

import argparse
import collections
import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.attack.formats import FORMATS
from tests.attack.formats.format import Format
from tests.attack.inputs import Runner

CHUNK = 250
"""Inputs of one process."""
WALL_LIMIT_S = 120
"""Longest time of an input: the machine may be busy."""
REAL = 1000
"""One of so many inputs runs as a command of its own as well."""
_MODULES = (
    *(
        "torch",
        "torch.fx",
        "torch.export",
        "torch._inductor.standalone_compile",  # torch.fx loads it where a model fails
        "onnx",
        "onnxruntime",
        "h5py",
        "nir",
        "safetensors.numpy",
    ),
    *("icsnn_deploy.cli", "icsnn_deploy.backends.onnx.onnxruntime", "icsnn_deploy.backends.nir"),
    *(
        "icsnn_deploy.conversion.convert",
        "icsnn_deploy.parity.verify",
        "icsnn_deploy.evaluation.run",
    ),
    *("icsnn_deploy.lattice.quantize", "icsnn_deploy.backends.torch.simulator", "rich.table"),
    *("icsnn_deploy.exporters.nir.read.file", "icsnn_deploy.report.tables", "unittest.mock"),
    *("icsnn_deploy.conversion.frontend.load_model", "icsnn_deploy.conversion.calibration.recipe"),
    *("icsnn_deploy.backends.recording_file", "icsnn_deploy.backends.onnx.openvino"),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found.

    Args:
        codes: how many inputs ended with each exit code.
        faults: a line for each way in which an input broke the contract.
        product_s: processor seconds in commands.
        making_s: processor seconds in making inputs.
    """

    codes: collections.Counter[str]
    faults: list[str]
    product_s: float
    making_s: float


def attack(name: str, seed: int, first: int, count: int, folder: Path) -> Result:
    """Run inputs of one format."""
    folder = folder.resolve()
    good = folder / "good"
    good.mkdir(parents=True, exist_ok=True)
    _in_child(lambda: FORMATS[name](good).prepare())
    codes: collections.Counter[str] = collections.Counter()
    faults: list[str] = []
    at, end = first, first + count
    product_s = making_s = 0.0
    place = mmap.mmap(-1, 8)
    while at < end:
        stop = min(end, at + CHUNK)
        report = folder / "report"
        report.write_text("")
        process = os.fork()
        if not process:
            _work(FORMATS[name](good), name, seed, at, stop, folder / "work", report, place)
        status = _watch(process, place)
        for line in report.read_text().splitlines():
            entry = json.loads(line)
            codes[entry["code"]] += 1
            product_s += entry["product_s"]
            making_s += entry["making_s"]
            faults += [f"{name} {entry['input']}: {fault}" for fault in entry["faults"]]
        at = stop
        if status:
            died = int.from_bytes(place[:8], "little")
            ended = os.waitstatus_to_exitcode(status)
            how = signal.Signals(-ended).name if ended < 0 else f"exit {ended}"
            hangs = how in ("SIGPROF", "SIGKILL")
            faults.append(f"{name} {died}: {'hangs' if hangs else 'process died'} ({how})")
            codes["died"] += 1
            at = died + 1
    return Result(codes=codes, faults=faults, product_s=product_s, making_s=making_s)


def _watch(process: int, place: mmap.mmap) -> int:
    """Wait for a process; end it if it stays at one input."""
    last, since = place[:8], time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        if place[:8] != last:
            last, since = place[:8], time.monotonic()
        elif time.monotonic() - since > WALL_LIMIT_S:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _work(
    form: Format,
    name: str,
    seed: int,
    start: int,
    stop: int,
    work: Path,
    report: Path,
    place: mmap.mmap,
) -> None:
    code = 1
    try:
        import torch

        torch.set_num_threads(1)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        tempfile.tempdir = str(work)
        runner = Runner(work)
        with report.open("a", buffering=1) as file:
            for number in range(start, stop):
                place[:8] = number.to_bytes(8, "little")
                started = time.process_time()
                for path in work.iterdir():
                    shutil.rmtree(
                        path
                    ) if path.is_dir() and not path.is_symlink() else path.unlink()
                rng = random.Random(f"{name} {seed} {number}")
                arguments = form.make(rng, work)
                making_s = time.process_time() - started
                found = runner.run(arguments, runs_code=form.runs_code)
                faults = list(found.faults)
                if number % REAL == REAL - 1 and not faults:
                    faults += _really(arguments, work, found.code)
                entry = {
                    "input": number,
                    "code": str(found.code),
                    "faults": faults,
                    "product_s": found.seconds,
                    "making_s": making_s,
                }
                file.write(json.dumps(entry) + "\n")
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def _really(arguments: list[str], work: Path, code: int) -> list[str]:
    """Run the same as a command; what differs."""
    command = [sys.executable, "-m", "icsnn_deploy", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(
        command, cwd=work, capture_output=True, timeout=300, env=environment, errors="replace"
    )
    if ran.returncode == code and "Traceback" not in ran.stderr:
        return []
    return [f"the command ends with {ran.returncode}, in process {code}: {ran.stderr[-300:]!r}"]


def _in_child(call: object) -> None:
    process = os.fork()
    if not process:
        code = 1
        try:
            call()  # type: ignore[operator]
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(process, 0)
    if status:
        raise SystemExit("the good files could not be made")


def kind_of(fault: str) -> str:
    """A fault without its number and its names, to count those of a kind."""
    return re.sub(r"\d+", "#", fault.partition(": ")[2])[:110]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--which", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--keep", type=Path, help="folder that keeps the files of the last input")
    parser.add_argument("--show", type=int, default=3, help="faults of each kind to print")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for module in _MODULES:
        __import__(module)
    failed = False
    for name in given.which:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="icsnn-fuzz-") as made:
            folder = given.keep or Path(made)
            found = attack(name, given.seed, given.first, given.count, folder)
        kinds = collections.defaultdict(list)
        for fault in found.faults:
            kinds[kind_of(fault)].append(fault)
        failed |= bool(found.faults)
        for each in sorted(kinds.values(), key=len, reverse=True):
            print(f"  {len(each)} times:", *each[: given.show], sep="\n      ")
        counted = ", ".join(f"{code}: {n}" for code, n in sorted(found.codes.items()))
        took, number = time.monotonic() - started, sum(found.codes.values())
        print(
            f"{name}: {number} inputs, faults: {len(found.faults)}; exit {counted}; {took:.0f} s; "
            f"ms per input: {1e3 * found.product_s / number:.1f} in commands, "
            f"{1e3 * found.making_s / number:.1f} in making it"
        )
        sys.stdout.flush()
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
