"""Progress on standard error: bars on a terminal, lines elsewhere, nothing for short work."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from icsnn_deploy import progress, progress_display
from icsnn_deploy.progress import (
    announce,
    announces,
    inner_progress,
    inner_tracked,
    report_inner,
    silent,
)
from icsnn_deploy.progress_display import BarDisplay, LineDisplay, duration, open_display, shown


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress_display.VARIABLE, raising=False)


def lines(clock: Clock) -> tuple[LineDisplay, io.StringIO]:
    file = io.StringIO()
    return LineDisplay("converting", file, clock, is_timed=False), file


def test_a_line_after_three_seconds_and_one_a_minute() -> None:
    clock = Clock()
    display, file = lines(clock)
    for clock.now in (100.0, 102.9, 103.0, 103.1, 162.9, 163.0, 200.0):
        display.tick()
    assert file.getvalue() == "converting; 3 s so far\nconverting; 1 min so far\n"


def test_a_line_names_the_open_stages_and_what_is_left() -> None:
    clock = Clock()
    display, file = lines(clock)
    display("reading", 500, None)
    display("search", 0, 20)
    clock.now += 60
    display("search", 5, 20)
    display("batches", 3, 3)
    display("batches", 1, 4)
    display.tick()
    assert file.getvalue() == "search 5 of 20 (3 min left); batches 1 of 4; 1 min so far\n"


def test_a_thread_writes_lines_while_nothing_is_reported() -> None:
    written = threading.Event()

    class File(io.StringIO):
        def flush(self) -> None:
            written.set()

    with LineDisplay("waiting", File(), delay_s=0.0):
        assert written.wait(60)


def test_a_function_is_called_and_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, int, int | None]] = []

    def note(stage: str, done: int, total: int | None) -> None:
        told.append((stage, done, total))

    with shown(note, "work") as progress:
        progress("stage", 1, 2)
    assert told == [("stage", 1, 2)]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("off", [None, False])
def test_none_and_false_show_nothing(off: bool | None) -> None:
    with shown(off, "work") as progress:
        assert progress is silent


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no"])
def test_the_environment_turns_everything_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress_display.VARIABLE, value)
    with shown(True, "work") as progress:
        assert progress is silent


def test_work_inside_other_work_shows_nothing_of_its_own() -> None:
    with shown(True, "outer") as outer:
        assert announces(outer)
        with shown(True, "inner") as inner:
            assert inner is silent
    with shown(True, "next") as after:
        assert announces(after)


def test_other_processes_of_a_run_show_nothing() -> None:
    with shown(True, "work", first=False) as progress:
        assert progress is silent


def test_short_work_shows_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, "work") as progress:
        progress("stage", 0, 1)
        progress("stage", 1, 1)
    assert capsys.readouterr() == ("", "")


def test_standard_output_is_left_to_results(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, "work") as progress:
        announce(progress, "about 2 min")
    assert capsys.readouterr() == ("", "about 2 min\n")


def test_bars_name_the_stages_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with BarDisplay("converting", console, delay_s=0.0) as bars:
        announce(bars, "recipe auto; about 2 min")
        bars("search", 5, 20)
        bars._bars.refresh()  # type: ignore[attr-defined]
    shown_text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "recipe auto; about 2 min" in shown_text
    assert "search" in shown_text
    assert "5/20" in shown_text


def test_finished_bars_make_room_for_those_that_run() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with BarDisplay("converting", console, delay_s=0.0) as bars:
        bars("outer", 1, 20)
        for number in range(20):
            bars(f"stage {number}", 0, 1)
            bars(f"stage {number}", 1, 1)
        bars("last", 0, 3)
        tasks = bars._bars.tasks  # type: ignore[attr-defined]
        visible = [task.description for task in tasks if task.visible]
        assert (visible[0], visible[-1], len(visible)) == ("outer", "last", 8)
        bars("stage 0", 0, 1)
        assert tasks[2].visible


def test_short_steps_are_reported_where_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), []
    monkeypatch.setattr(progress, "_clock", clock)
    monkeypatch.setattr(progress, "REPORT_EVERY_S", 0.25)
    with inner_progress(lambda *given: told.append(given)):
        for duration_s in (0.01, 0.2):
            for _ in inner_tracked(range(5), "layers"):
                clock.now += duration_s
    assert told == [("layers", 2, 5), ("layers", 4, 5), ("layers", 5, 5)]


def test_bars_of_short_work_never_appear() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with BarDisplay("converting", console, delay_s=3600.0) as bars:
        bars("search", 5, 20)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_pipe_gets_lines_and_a_terminal_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_display("work"), LineDisplay)
    monkeypatch.setattr(progress_display, "takes_bars", lambda: True)
    assert isinstance(open_display("work"), BarDisplay)


def test_what_gets_no_progress_reports_to_the_innermost() -> None:
    told: list[str] = []
    report_inner("nobody listens", 0, 1)
    with inner_progress(lambda stage, done, total: told.append(f"outer {stage}")):
        report_inner("one", 0, 1)
        with inner_progress(lambda stage, done, total: told.append(f"inner {stage}")):
            report_inner("two", 0, 1)
        report_inner("three", 0, 1)
    assert told == ["outer one", "inner two", "outer three"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (9, "9 s"), (42, "40 s"), (58, "1 min"), (170, "3 min"), (9000, "2.5 h")],
)
def test_durations_are_rounded_as_estimates_are(seconds: float, words: str) -> None:
    assert duration(seconds) == words
