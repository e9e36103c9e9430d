"""Show progress on standard error: a bar on a terminal and in a notebook, else one line a minute.

Nothing is shown for work that ends within three seconds, and nothing of work inside other work that
is shown already. The environment variable ICSNN_PROGRESS=off turns everything off.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeAlias

from icsnn_deploy.progress import Progress, inner_progress, silent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

ProgressOption: TypeAlias = "Progress | bool | None"
"""A callback; True: shown on standard error; None or False: not shown."""

VARIABLE = "ICSNN_PROGRESS"
DELAY_S = 3.0
"""Work that ends earlier shows nothing."""
LINE_EVERY_S = 60.0
_MOST_BARS = 8
_SHOWN = threading.Lock()  # standard error holds one display at a time


@contextmanager
def shown(progress: ProgressOption, title: str, *, first: bool = True) -> Iterator[Progress]:
    """The progress that work reports to; inside, it is also the inner_progress.

    Args:
        progress: as the caller of a public function gives it.
        title: what is done, shown before the first stage is reported.
        first: whether this is the first process of a run; the others show nothing.
    """
    if callable(progress):
        with inner_progress(progress):
            yield progress
        return
    if not progress:
        yield silent
        return
    with claimed(first=first) as free:
        if not free:
            yield silent
            return
        with open_display(title) as display, inner_progress(display):
            yield display


@contextmanager
def claimed(*, first: bool = True) -> Iterator[bool]:
    """Claim standard error for one display; yields whether it was free and is to be used."""
    off = os.environ.get(VARIABLE, "").lower() in ("off", "0", "no")
    if off or not first or not _SHOWN.acquire(blocking=False):
        yield False
        return
    try:
        yield True
    finally:
        _SHOWN.release()


def takes_bars() -> bool:
    """Whether standard error is a terminal, or the output of a notebook that can show bars."""
    from rich.console import Console

    console = Console(stderr=True)
    in_notebook = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal or in_notebook


def open_display(title: str, delay_s: float = DELAY_S) -> Display:
    """The display that suits where standard error goes."""
    from rich.console import Console

    if takes_bars():
        return BarDisplay(title, Console(stderr=True), delay_s)
    return LineDisplay(title, delay_s=delay_s)


class Stages:
    """The stages of some work, as they are reported.

    Args:
        title: shown before the first stage.
        clock: seconds; only differences count.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock = title, clock
        self.started = clock()
        self._open: dict[str, tuple[int, int | None, float]] = {}  # done, total, when it began

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Note how far a stage is; a stage that is done is forgotten."""
        if total is not None and done >= total:
            self._open.pop(stage, None)
            return
        # a stage of unknown length is over when another one is reported
        for other in [n for n, (_, end, _) in self._open.items() if end is None and n != stage]:
            del self._open[other]
        begun = self._open[stage][2] if done and stage in self._open else self._clock()
        self._open[stage] = (done, total, begun)

    def clear(self) -> None:
        """Forget all stages, which are over."""
        self._open.clear()

    def line(self) -> str:
        """How far the work is: its open stages, the outer one first, and the time so far."""
        now = self._clock()
        parts = []
        for stage, (done, total, begun) in list(self._open.items())[-2:]:
            part = f"{stage} {done:,}" if total is None else f"{stage} {done:,} of {total:,}"
            if total is not None and done and now - begun > 1:
                part += f" ({duration((now - begun) * (total - done) / done)} left)"
            parts.append(part)
        return f"{'; '.join(parts) or self._title}; {duration(now - self.started)} so far"


class Display:
    """A context manager that shows progress, called as progress.Progress is."""

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show how far a stage is."""

    def announce(self, line: str) -> None:
        """Show one line of text."""


class LineDisplay(Display):
    """One line after three seconds, and one a minute from then on, for logs and pipes.

    Args:
        title: what is done.
        file: where lines go; None: standard error.
        clock: seconds; only differences count.
        delay_s: when the first line is due.
        is_timed: a thread writes lines, also while nothing is reported; else tick does.
    """

    def __init__(
        self,
        title: str,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        delay_s: float = DELAY_S,
        is_timed: bool = True,
    ) -> None:
        self._stages, self._file, self._clock = Stages(title, clock), file, clock
        self._due = self._stages.started + delay_s
        self._is_timed, self._ended = is_timed, threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Display:
        if self._is_timed:
            threading.Thread(target=self._run, name="icsnn-progress", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        with self._lock:
            self._stages.report(stage, done, total)

    def clear(self) -> None:
        """Forget all stages, which are over."""
        with self._lock:
            self._stages.clear()

    def announce(self, line: str) -> None:
        """Write one line at once."""
        print(line, file=self._file or sys.stderr, flush=True)

    def tick(self) -> None:
        """Write a line, if one is due."""
        with self._lock:
            if self._clock() < self._due:
                return
            self._due = self._clock() + LINE_EVERY_S
            line = self._stages.line()
        self.announce(line)

    def _run(self) -> None:
        while not self._ended.wait(max(0.05, self._due - self._clock())):
            self.tick()


class BarDisplay(Display):
    """Bars of rich, one per stage; they disappear at the end.

    Args:
        title: what is done; shown with its time until the first stage is reported.
        console: where they are shown.
        delay_s: bars appear after so many seconds.
    """

    def __init__(self, title: str, console: Console, delay_s: float = DELAY_S) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars: Bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,  # what is printed there is a result
        )
        self._console = console
        self._title = self._bars.add_task(title, total=None)
        self._tasks: dict[str, int] = {}
        self._timer = threading.Timer(delay_s, self._start)
        self._timer.daemon = True
        self._delay_s, self._ended = delay_s, False
        self._lock = threading.Lock()

    def __enter__(self) -> Display:
        if self._delay_s > 0:
            self._timer.start()
        else:
            self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._ended = True
            self._bars.stop()

    def _start(self) -> None:
        with self._lock:
            if not self._ended:
                self._bars.start()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        from rich.progress import TaskID

        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._title, visible=False)
        task = TaskID(self._tasks[stage])
        if done == 0:
            self._bars.reset(task, total=total)
        self._bars.update(task, completed=done, total=total, visible=True)
        self._hide_finished()

    def _hide_finished(self) -> None:
        """Hide the first finished bars where there are many: a terminal cuts off the last ones."""
        visible = [task for task in self._bars.tasks if task.visible]
        finished = [task for task in visible if task.finished]
        for task in finished[: max(0, len(visible) - _MOST_BARS)]:
            self._bars.update(task.id, visible=False)

    def announce(self, line: str) -> None:
        """Print one line above the bars."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def duration(seconds: float) -> str:
    """A duration in words, rounded as an estimate is: "40 s", "3 min", "2.5 h"."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 55:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"
