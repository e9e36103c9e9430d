"""Messages are plain: one line, nothing that a terminal acts on, cut where they are long."""

from __future__ import annotations

import pickle

import pytest

from icsnn_deploy.errors import (
    LONGEST_TEXT,
    BackendUnavailableError,
    DataError,
    IcsnnError,
    Rejection,
    UnsupportedOperatorError,
    lines,
    plain,
    text_of,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\nverdict: pass", "x | verdict: pass"),
        ("x\r\n\n  y", "x | y"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb\udc80c\x85d", "a\\u202eb\\udc80c | d"),
        ("训练", "训练"),
        ("a | b\\n", "a | b\\n"),
    ],
)
def test_text_from_outside_is_one_printable_line(text: str, shown: str) -> None:
    assert plain(text) == str(DataError(text)) == str(BackendUnavailableError(text)) == shown


def test_long_text_is_cut_in_the_middle() -> None:
    shown = plain("a" * 10**6 + "end")
    assert len(shown) < LONGEST_TEXT + 50
    assert shown.startswith("aaa")
    assert shown.endswith("aend")
    assert "998,003 characters" in shown


def test_tables_keep_their_lines_and_no_others() -> None:
    bad = Rejection(node="a\nb", got="\x1b[31m", allowed="x" * 9999, remedy="r")
    shown = str(UnsupportedOperatorError([bad])).splitlines()
    assert shown[1] == "  a | b: \\x1b[31m"
    assert all(line.startswith("  ") for line in shown[1:])
    assert max(map(len, shown)) < 400


def test_lists_keep_their_lines() -> None:
    error = DataError(lines("first:", ["one\ntwo", "three"], "last"))
    assert str(error) == "first:\n  one | two\n  three\nlast"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_exception_that_can_not_say_anything() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert text_of(UnprintableError()) == ""
    assert isinstance(DataError(), IcsnnError)
