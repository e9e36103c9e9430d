"""Whatever code of the user's raises is one error; what never ends is ended."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

from icsnn_deploy.errors import ConversionError
from icsnn_deploy.user_code import running, time_limit


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class LyingError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no class")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            lambda: SystemExit(0),
            r"x ended the program \(SystemExit: 0\) \(test_user_code",
        ),
        (lambda: BaseException("base"), "x raised BaseException: base"),
        (GeneratorExit, "x raised GeneratorExit"),
        (asyncio.CancelledError, "x raised CancelledError"),
        (UnprintableError, r"x raised UnprintableError \(test_user_code.py"),
        (LyingError, "x raised LyingError"),
        (lambda: ValueError("a\nverdict: pass"), r"x raised ValueError: a \| verdict: pass"),
    ],
)
def test_everything_that_is_raised_becomes_one_error(
    raised: Callable[[], BaseException], message: str
) -> None:
    with pytest.raises(ConversionError, match=message), running("x", ConversionError):
        raise raised()


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), running("x", ConversionError):
        raise KeyboardInterrupt


def test_what_does_not_end_is_ended_even_if_it_catches_everything() -> None:
    started = time.monotonic()
    with pytest.raises(ConversionError, match="too long"), running("x", ConversionError):
        _hang()
    assert time.monotonic() - started < 9


def _hang() -> None:
    caught = 0
    with time_limit(0.05, "too long", ConversionError):
        while True:
            try:
                time.sleep(10)
            except BaseException:
                caught += 1
                if caught == 2:
                    raise


def test_a_limit_that_is_over_before_the_code_starts_leaves_no_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer = signal.setitimer

    def late(which: int, seconds: float, interval: float = 0.0) -> None:
        timer(which, seconds, interval)
        while seconds and signal.getitimer(which)[0] <= seconds:  # until it has fired once
            time.sleep(0.01)

    monkeypatch.setattr(signal, "setitimer", late)
    with (
        pytest.raises(ConversionError, match="too long"),
        time_limit(0.05, "too long", ConversionError),
    ):
        pytest.fail("this is not reached")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_time_that_is_up_on_the_way_out_is_an_error_and_leaves_no_alarm() -> None:
    a = np.ones((500, 500), np.int64)
    with (
        pytest.raises(ConversionError, match="too long"),
        time_limit(0.02, "too long", ConversionError),
    ):
        a @ a  # one call: signals wait until it ends
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def _hang_after_another_limit() -> None:
    with time_limit(0.2, "outer", ConversionError):
        with time_limit(60, "inner", ConversionError):
            pass
        time.sleep(10)


def test_a_limit_around_another_one_goes_on() -> None:
    with pytest.raises(ConversionError, match="outer"):
        _hang_after_another_limit()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_ends_is_left_alone() -> None:
    with time_limit(60, "too long", ConversionError), time_limit(None, "", ConversionError):
        pass
