"""Kill and interrupt every command that writes, at random moments.

    python -m tests.attack.kills --count 500 --seed 0 --signal KILL
    python -m tests.attack.kills --count 300 --seed 0 --signal INT

After each: the bundle is the old one or the new one, whole; the same command succeeds; then nothing
is left beside it, in the folder of temporary files, in /dev/shm and in the process table. An
interrupted command ends with 130, or 0 where it was done before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.manifest import Manifest
from tests.attack import commands
from tests.attack.commands import COMMANDS, copy, leftovers, load_all, prepare, start, wait, whole

MARK = "ICSNN_ATTACK"
_LATE = 0.5  # share of the kills in the last fifth of a command, where it writes
_DONE = ", done"
_FASTER, _SLOWER = 0.93, 1.03
_GRACE_S = 20.0  # for what a killed process had started


def attack(
    names: list[str], count: int, seed: int, number: int
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Send a signal `count` times, in turn to every command.

    Returns:
        what was found after each, by command; and every fault.
    """
    rng = random.Random(seed)
    mark = f"{os.getpid()}-{seed}"
    os.environ[MARK] = mark
    found: dict[str, Counter[str]] = {name: Counter() for name in names}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        pristine, temporary = Path(folder, "pristine"), Path(folder, "tmp")
        temporary.mkdir()
        prepare(pristine)
        durations = load_all(names, pristine, temporary)
        ends = {name: _ends(name, pristine, temporary) for name in names}
        shared = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")}
        for turn in range(count):
            if turn and turn % 50 == 0:
                print(f"{turn} done, faults: {len(faults)}", file=sys.stderr)
            name = names[turn % len(names)]
            here = copy(pristine, Path(folder, "here"))
            share = rng.uniform(0.8, 1.05) if rng.random() < _LATE else rng.random()
            try:
                state = _one(name, here, temporary, share * durations[name], number, ends[name])
                assert until_gone(mark), "a process is left"
                assert commands.until(lambda: not _unused(shared), _GRACE_S), _unused(shared)
                found[name][state] += 1
                # the machine may be busier or idler than when the commands were timed
                durations[name] *= _FASTER if state.endswith(_DONE) else _SLOWER
            except Exception as error:
                faults.append(f"{turn} {name} after {share:.0%}: {type(error).__name__}: {error}")
                print(faults[-1], file=sys.stderr)
    return found, faults


def _ends(name: str, pristine: Path, temporary: Path) -> tuple[Manifest | None, Manifest | None]:
    """The manifest before and after a command; None: it writes no bundle."""
    if COMMANDS[name].target != "b":
        return None, None
    before = open_bundle(pristine / "b").manifest
    here = copy(pristine, temporary.parent / "warm")
    code, text = commands.run(name, here, temporary)
    assert code == 0, text
    return before, open_bundle(here / "b").manifest


def _one(
    name: str,
    here: Path,
    temporary: Path,
    delay: float,
    number: int,
    ends: tuple[Manifest | None, Manifest | None],
) -> str:
    """Signal one command after a delay, check what is there, and run it again."""
    log = temporary.parent / "log"
    process = start(name, here, log, temporary=temporary)
    time.sleep(delay)
    done, _ = os.waitpid(process, os.WNOHANG) if delay > 0 else (0, 0)
    if done:
        code = 0
    else:
        os.kill(process, number)
        code = wait(process)
    text = log.read_text(errors="replace")
    assert "Traceback" not in text, text[-600:]
    if number == signal.SIGINT:
        assert code in (0, 130, -signal.SIGINT), f"exit code {code}: {text[-300:]}"
    state = _state(name, here, ends) + (_DONE if code == 0 else "")
    code, text = commands.run(_again(name), here, temporary)
    if name == "split" and (here / "s").exists() and "exists already" in text:
        code = 0  # it was done
    assert code == 0, f"the next command ends with {code}: {text[-300:]}"
    left = leftovers(here, temporary)
    assert not left, f"left: {left}"
    return state


def _again(name: str) -> str:
    return name


def _state(name: str, here: Path, ends: tuple[Manifest | None, Manifest | None]) -> str:
    """Whether what a command writes is the old or the new state; it must be whole."""
    if COMMANDS[name].target == "b":
        manifest, (old, new) = whole(here / "b").manifest, ends
        # reports hold times: a new bundle is told by its network and its exports
        keys = [(m.graph_hash, dict(m.exports)) for m in (manifest, old, new) if m is not None]
        assert keys[0] in keys[1:], "neither the old nor the new bundle"
        return "old" if keys[0] == keys[1] else "new"
    whole(here / "b")
    if name == "split":
        if not (here / "s").exists():
            return "old"
        whole(here / "s" / "host")
        whole(here / "s" / "chip")
        return "new"
    files = [p for p in (here / "shards").rglob("*.json") if not p.name.startswith(".")]
    for file in files:
        json.loads(file.read_text())
    return "some shards" if files else "old"


def until_gone(mark: str) -> bool:
    """Whether no process that a command started is there any more, after a while."""
    return commands.until(lambda: not _started(mark), _GRACE_S)


def _started(mark: str) -> list[str]:
    """Programs that were started with the mark in their environment, other than this one."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if wanted in Path("/proc", process, "environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def _unused(before: set[str]) -> set[str]:
    """Shared memory that was not there before and that no process uses, those of others too."""
    new = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")} - before
    for process in filter(str.isdigit, os.listdir("/proc") if new else []):
        with suppress(OSError):
            maps = Path("/proc", process, "maps").read_text()
            new = {path for path in new if path not in maps}
            for file in Path("/proc", process, "fd").iterdir():
                new.discard(os.readlink(file))
    return new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", choices=("KILL", "INT"), default="KILL")
    writing = [name for name, command in COMMANDS.items() if command.target is not None]
    parser.add_argument("--commands", nargs="*", default=writing)
    given = parser.parse_args()
    number = signal.Signals[f"SIG{given.signal}"]
    found, faults = attack(given.commands, given.count, given.seed, number)
    for name, states in found.items():
        print(f"{name:20}", ", ".join(f"{state} {n}" for state, n in sorted(states.items())))
    print(f"SIG{given.signal}: {given.count}, faults: {len(faults)}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
