"""Kill the replacement of a bundle at every system call that changes something, with strace.

    python -m tests.attack.system_calls

Each time a fresh process is ended as it enters the call, before the call has any effect.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from tests.attack.commands import small, whole

CALLS = "rename,renameat,renameat2,mkdir,unlink,unlinkat,rmdir,flock,link,symlink"
KINDS = ("overwrite", "export")


def make(path: Path, seed: int = 0) -> Bundle:
    """A bundle with one export; another seed gives another network."""
    made = create_bundle(
        path, network=small(seed), ann=None, samples=None, report={}, overwrite=True
    )
    return made.with_export("nir", "network.nir", lambda file: _write(file, "old"))


def work(kind: str, path: Path) -> None:
    """What is killed: the replacement of the whole bundle, or of its export."""
    if kind == "overwrite":
        create_bundle(path, network=small(1), ann=None, samples=None, report={}, overwrite=True)
    else:
        open_bundle(path).with_export("nir", "network.nir", lambda file: _write(file, "new"))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def traced(kind: str, path: Path, log: Path, *options: str) -> int:
    """Run in a fresh process under strace; returns how it ended."""
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={CALLS}", *options]
    command += [sys.executable, "-m", "tests.attack.system_calls", "--work", kind, str(path)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode in (0, -signal.SIGKILL), found.stderr
    return found.returncode


def attack(kind: str) -> Counter[str]:
    """Kill at each call in turn; returns how often the old and the new bundle was found."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        here, log = Path(folder, "here"), Path(folder, "log")
        old = make(here / "b").manifest
        assert traced(kind, here / "b", log) == 0
        counts = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
        places = [(call, n) for call, most in counts.items() for n in range(1, most + 1)]
        for call, number in places:
            shutil.rmtree(here)
            make(here / "b")
            ended = traced(kind, here / "b", log, "-e", f"inject={call}:signal=KILL:when={number}")
            assert ended == -signal.SIGKILL, f"{call} {number}"
            opened = whole(here / "b")
            found["old" if opened.manifest == old else "new"] += 1
            work(kind, here / "b")
            assert whole(here / "b").manifest != old
            assert [path.name for path in here.iterdir()] == ["b"], f"{call} {number}"
            assert not list((here / "b").glob(".*")), f"{call} {number}"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=2, metavar=("KIND", "PATH"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], Path(given.work[1]))
        return 0
    for kind in KINDS:
        print(f"{kind}: kills {sum((found := attack(kind)).values())}, {dict(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
