"""Commands show how far they are on standard error, whatever it is."""

from __future__ import annotations

import json

import pytest
import typer

from icsnn_deploy import progress_display
from icsnn_deploy.cli import printing
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors
from icsnn_deploy.errors import DataError
from icsnn_deploy.progress import announce, silent
from icsnn_deploy.progress_display import BarDisplay, LineDisplay, shown


@pytest.fixture(autouse=True)
def _on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress_display.VARIABLE, raising=False)


def test_a_command_in_a_pipe_writes_lines_and_its_result_is_clean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with report_errors(as_json=True):
        with progress_bars() as progress:
            assert isinstance(progress, LineDisplay)
            announce(progress, "about 2 min")
        with progress_bars() as again:
            assert again is progress
        print_json({"result": 1})
    found = capsys.readouterr()
    assert json.loads(found.out) == {"result": 1}
    assert found.err == "about 2 min\n"


def test_a_command_on_a_terminal_shows_bars_only_in_its_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (printing, progress_display):
        monkeypatch.setattr(module, "takes_bars", lambda: True)
    with report_errors(as_json=False), progress_bars() as progress:
        assert isinstance(progress, BarDisplay)


def test_the_package_shows_nothing_of_its_own_in_a_command() -> None:
    with report_errors(as_json=False), shown(True, "converting") as progress:
        assert progress is silent


def test_outside_of_a_command_and_after_a_failed_one_nothing_is_shown() -> None:
    with pytest.raises(typer.Exit), report_errors(as_json=False):
        raise DataError("no")
    with progress_bars() as progress:
        assert progress is silent
    with shown(True, "converting") as own:  # standard error is free again
        assert own is not silent


def test_processes_other_than_the_first_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "is_first", lambda: False)
    with report_errors(as_json=False), progress_bars() as progress:
        assert progress is silent
