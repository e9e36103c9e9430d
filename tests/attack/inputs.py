"""What a command does with one hostile input: run in this process, and held against the contract.

The contract: exit code 0, 1 or 2; with 2 one line on standard error and nothing else, except the
table of what a model or a target rejects; no control characters, no traceback, no warning; at most
some seconds and megabytes; no file written outside of the folder, no program started.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attack.blame import misattributed

SECONDS = 5.0
MEGABYTES = 300
CPU_LIMIT_S = 12
"""After these the process ends: the input is reported as one that hangs."""
LONGEST_LINE = 3000

_COMPILERS = {"cc", "gcc", "clang", "c++", "g++", "ldconfig", "uname"}
_OF_LIBRARIES = ("/.cache/", "/intel/")  # caches, and what OpenVINO counts about itself
_FOREIGN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
_TABLE = re.compile(r"error: .*\n(  .*\n)+([^ ].*\n)?\Z")
"""A line, lines that are indented, and perhaps one more."""


@dataclass(frozen=True)
class Outcome:
    """The end of a command; faults is empty where it kept the contract."""

    code: int
    faults: tuple[str, ...]
    out: str
    err: str
    seconds: float
    megabytes: float


class Runner:
    """Runs commands in this process, which it changes: streams, audit hook, current folder.

    Args:
        folder: where all files of the inputs are; nothing may be written elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outside: list[str] = []
        self._places: list[str] = []  # of unexpected errors
        self._blamed: list[str] = []  # faults of ours that an error describes as the user's
        self._streams = [os.memfd_create(name) for name in ("out", "err")]
        self._allowed = (str(folder), "/dev/", "/proc/self/", "/memfd:")
        self._watching = False
        os.chdir(folder)
        sys.addaudithook(self._audit)

    def run(self, arguments: Sequence[str], *, runs_code: bool = False) -> Outcome:
        """Run icsnn with these arguments.

        Args:
            arguments: after the name of the program.
            runs_code: whether the input is a model, which may do what it likes.
        """
        import typer.main

        from icsnn_deploy import cli
        from icsnn_deploy.cli import printing

        if not hasattr(cli, "_built"):
            cli.show_traceback = lambda error: self._places.append(_place(error))  # type: ignore[attr-defined]
            printing.show_traceback = self._look_at  # type: ignore[attr-defined]
            cli._built = typer.main.get_command(cli.app)  # type: ignore[attr-defined]
            cli.app = cli._built  # type: ignore[attr-defined]
        for stream in self._streams:
            os.ftruncate(stream, 0)
            os.lseek(stream, 0, os.SEEK_SET)
        kept = [os.dup(1), os.dup(2)]
        streams = sys.stdout, sys.stderr
        os.dup2(self._streams[0], 1)
        os.dup2(self._streams[1], 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.argv = ["icsnn", *arguments]
        self._outside.clear()
        self._places.clear()
        self._blamed.clear()
        _reset_peak()
        before, started = _memory("VmRSS"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        self._watching = not runs_code
        escaped = ""
        code: Any = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            escaped = f"{type(error).__name__}: {str(error)[:300]!r} {_place(error)}"
            code = 1
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            for each in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    each.flush()
            seconds, megabytes = time.process_time() - started, _memory("VmHWM") - before
            sys.stdout, sys.stderr = streams
            for number, old in enumerate(kept, 1):
                os.dup2(old, number)
                os.close(old)
        out, err = (_content(stream) for stream in self._streams)
        faults = [f"traceback: {escaped}"] if escaped else []
        if "error: unexpected" in err:
            faults.append(f"traceback: {self._places} {err[:300]!r}")
        faults += _faults(code, out, err, arguments[0], "--json" in arguments, runs_code)
        if runs_code and code in (0, None) and not (self.folder / "o/manifest.json").is_file():
            faults.append("success without a bundle")
        os.chdir(self.folder)
        faults += [f"outside: {each}" for each in self._outside[:3]]
        faults += [f"not the user's fault: {each}" for each in self._blamed]
        if seconds > SECONDS:
            faults.append(f"{seconds:.1f} s")
        if megabytes > MEGABYTES:
            faults.append(f"{megabytes:.0f} MB")
        number = code if isinstance(code, int) else int(code is not None)
        return Outcome(number, tuple(faults), out, err, seconds, megabytes)

    def _look_at(self, error: BaseException) -> None:
        """Called with the error that a command ends with."""
        place = misattributed(error, runs_code=not self._watching)
        if place:
            self._blamed.append(place)

    def _audit(self, event: str, details: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event in _FOREIGN:
            program = str(details[0]).rpartition("/")[2]
            if program not in _COMPILERS:
                self._outside.append(f"{event} {details[:2]!r:.200}")
        elif event == "open" and isinstance(details[0], str | bytes) and _writes(details):
            path = os.path.abspath(os.fsdecode(details[0]))
            if not path.startswith(self._allowed) and not any(
                place in path for place in _OF_LIBRARIES
            ):
                self._outside.append(f"open {path!r:.200}")


def _writes(details: tuple[Any, ...]) -> bool:
    mode, flags = details[1:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


_PROGRESS = re.compile(r"^.* s so far.*\n", re.MULTILINE)


def _faults(
    code: Any, out: str, err: str, command: str, as_json: bool, runs_code: bool
) -> list[str]:
    """What is wrong with how a command ended."""
    found = []
    if code not in (0, 1, 2, None):
        found.append(f"exit code {code!r}")
    if "Traceback (most recent call last)" in out + err:
        found.append(f"traceback: {err[-300:]!r}")
    err = _PROGRESS.sub("", err)
    if runs_code and code == 2:  # the model may print what it likes before
        err = err[max(0, err.rfind("error: ")) :]
    odd = sorted({repr(c) for c in out + err if _is_control(c)})
    if odd:
        found.append(f"control characters {', '.join(odd[:5])}")
    lines = err.splitlines()
    if code == 2:
        several = command == "verify" and all(line.startswith("error: ") for line in lines)
        if out and not as_json and not several:
            found.append(f"output beside an error: {out[:200]!r}")
        if not lines or not lines[0].startswith(("error: ", "Usage: ")):
            found.append(f"no error first: {err[:300]!r}")
        elif (
            len(lines) > 1
            and not several
            and not lines[0].startswith("Usage: ")
            and not _TABLE.match(err)
        ):
            found.append(f"{len(lines)} lines: {err[:400]!r}")
    elif lines and not runs_code:
        found.append(f"standard error of a result: {err[:300]!r}")
    if any(len(line) > LONGEST_LINE for line in lines) and not runs_code:
        found.append(f"a line of {max(map(len, lines))} characters")
    return found


def _is_control(character: str) -> bool:
    number = ord(character)
    return (
        (number < 32 and character != "\n")
        or 127 <= number < 160
        or number in (0x2028, 0x2029)
        or 0x202A <= number <= 0x202E
        or 0x2066 <= number <= 0x2069
    )


def _content(stream: int) -> str:
    return os.pread(stream, 1 << 24, 0).decode(errors="replace")


def _place(error: BaseException) -> str:
    """The last line of our own code, and the last of all, that an exception passed."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "icsnn_deploy" in f.filename or "exporters" in f.filename]
    return " < ".join(
        f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in [*frames[-1:], *ours[-1:]]
    )


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _memory(name: str) -> float:
    """A line of this process's status, in megabytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) / 1024
