"""Commands on a machine where every layer takes a second, and how long they show nothing new.

No test waits: a clock of its own advances where work is done. A layer, a batch in ONNX Runtime, a
sample in the C program, a fit of a search and a picture take one second each, and what loads
PyTorch, ONNX or matplotlib for the first time takes 2.5 s.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import icsnn_deploy
from icsnn_deploy import progress, progress_display
from icsnn_deploy.backends import reference
from icsnn_deploy.backends.onnx.onnxruntime_session import RuntimeSession
from icsnn_deploy.backends.torch.ops import TorchOps
from icsnn_deploy.cli import printing
from icsnn_deploy.conversion.calibration.search import _Channels
from icsnn_deploy.conversion.calibration.work import MachineSpeed
from icsnn_deploy.native import threads
from icsnn_deploy.progress_display import Display
from icsnn_deploy.report.page import (
    charts,
    drawing,
    section_accuracy,
    section_layers,
    section_samples,
    section_targets,
)

PACKAGE = Path(icsnn_deploy.__file__).parent
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "matplotlib", "sklearn"}
LOADING_S = 2.5
MEASURED_S = 1.0
SECTIONS = (charts, section_accuracy, section_layers, section_samples, section_targets)


@dataclass
class SlowClock:
    """Seconds, and every moment at which the display changed."""

    now: float = 0.0
    events: list[tuple[float, str]] = field(default_factory=lambda: [(0.0, "the start")])
    is_loaded: bool = False

    def __call__(self) -> float:
        return self.now

    def show(self, what: str) -> None:
        """The display changes."""
        self.events.append((self.now, what))

    def silences(self, longest_s: float) -> list[str]:
        """The times in which nothing changed for longer."""
        moments = [*self.events, (self.now, "the end")]
        return [
            f"{after - before:g} s from {first!r} to {then!r}"
            for (before, first), (after, then) in pairwise(moments)
            if after - before > longest_s
        ]


class RecordingDisplay(Display):
    """Bars that note when they change."""

    def __init__(self, clock: SlowClock) -> None:
        self.clock = clock

    def __enter__(self) -> Display:
        self.clock.show("bars appear")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clock.show("bars disappear")

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.clock.show(f"{stage} {done} of {total}")

    def announce(self, line: str) -> None:
        self.clock.show(line)


def slow_clock(patch: pytest.MonkeyPatch) -> SlowClock:
    """Let work take time on a clock, until the patches are undone."""
    clock = SlowClock()
    patch.delenv(progress_display.VARIABLE, raising=False)
    patch.setattr(printing, "takes_bars", lambda: True)
    patch.setattr(printing, "open_display", lambda *_: RecordingDisplay(clock))
    patch.setattr(progress, "REPORT_EVERY_S", 0.25)
    for module in (progress, threads):
        patch.setattr(module, "_clock", clock)

    def slow(owner: Any, name: str, seconds: Callable[..., float] = lambda *_, **__: 1.0) -> None:
        work = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            clock.now += seconds(*given, **named)
            return work(*given, **named)

        patch.setattr(owner, name, timed)

    for name in ("evaluate", "fire", "fire_terms"):
        slow(TorchOps, name)
    for name in ("evaluate", "fire"):
        slow(reference, name)
    slow(_Channels, "fit")
    slow(drawing, "drawn")
    for section in SECTIONS:
        patch.setattr(section, "drawn", drawing.drawn)
    slow(RuntimeSession, "run")
    slow(threads, "in_threads", lambda run, rows, *_, **__: float(rows))
    patch.setattr(MachineSpeed, "measure", _measured_in(clock, MachineSpeed.measure))
    patch.setattr(builtins, "__import__", _slow_import(clock))
    return clock


def _measured_in(clock: SlowClock, measure: Callable[..., Any]) -> Callable[..., Any]:
    """The measurement of the machine's speed, which stops by a clock of its own."""

    def measured(*given: Any, **named: Any) -> Any:
        begun = clock.now
        result = measure(*given, **named)
        clock.now = begun + MEASURED_S
        return result

    return measured


def _slow_import(clock: SlowClock) -> Callable[..., Any]:
    real = builtins.__import__

    def load(name: str, scope: Any = None, *more: Any) -> Any:
        caller = (scope or {}).get("__name__", "")
        if not clock.is_loaded and caller.startswith("icsnn_deploy") and _is_heavy(name):
            clock.is_loaded = True
            clock.now += LOADING_S
        return real(name, scope, *more)

    return load


@cache
def _is_heavy(name: str) -> bool:
    """Whether loading a module loads a heavy package, itself or by what it imports."""
    if name.partition(".")[0] in HEAVY:
        return True
    return any(each.partition(".")[0] in HEAVY for each in _loaded(name))


@cache
def _loaded(name: str) -> frozenset[str]:
    """What a module of the package loads with itself."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        path = _file(open_names.pop())
        if path is None:
            continue
        for each in _at_module_level(ast.parse(path.read_text())):
            if each not in found:
                found.add(each)
                open_names.append(each)
    return frozenset(found)


def _file(name: str) -> Path | None:
    first, *rest = name.split(".")
    if first != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*rest)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _at_module_level(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
