"""C functions in threads: nothing is freed while one of them runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from icsnn_deploy.native import build
from icsnn_deploy.native.threads import in_threads


class Running:
    """Parts of work that take a moment; counts those that have ended."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ended = 0
        self.lock = threading.Lock()

    def __call__(self, begin: int, end: int) -> None:
        time.sleep(self.seconds)
        with self.lock:
            self.ended += 1


def test_an_interrupt_is_raised_when_every_part_has_ended() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    running = Running(0.3)
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            in_threads(running, 3, 3, keep=None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert running.ended == 3


def test_the_first_part_that_fails_is_raised_when_the_others_have_ended() -> None:
    running = Running(0.2)

    def part(begin: int, end: int) -> None:
        if begin == 1:
            raise MemoryError("part 1")
        running(begin, end)

    with pytest.raises(MemoryError, match="part 1"):
        in_threads(part, 3, 3, keep=None)
    assert running.ended == 2


def test_a_child_of_a_process_that_had_threads_has_its_own() -> None:
    in_threads(Running(0), 2, 2, keep=None)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that waits for threads that it does not have
        running = Running(0)
        in_threads(running, 2, 2, keep=None)
        os._exit(0 if running.ended == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_library_is_compiled_once_whatever_the_umask(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = build.find_compiler()
    assert compiler is not None
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path)
    source = {"one.c": b"int one(void) { return 1; }\n"}
    previous = os.umask(0o002)
    try:
        build.compile_library("one", source, compiler)
    finally:
        os.umask(previous)
    monkeypatch.setattr(subprocess, "run", None)  # it would be compiled by it
    assert build.compile_library("one", source, compiler).one() == 1
