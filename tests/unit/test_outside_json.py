"""JSON of files from elsewhere is text that every file can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icsnn_deploy.bundle.manifest import read_json
from icsnn_deploy.errors import BundleError
from icsnn_deploy.outside_json import json_text, parse_json
from icsnn_deploy.sweeping.folder import key_of

HALVES = [
    r'{"a": "\ud800"}',
    rb'["\uDC80 x"]',
    r'{"\udfff": 1}',
    '"\ud800"',
    b'"\xed\xa0\x80"',
    r'"\ud800"'.encode("utf-16"),
]


@pytest.mark.parametrize("text", HALVES)
def test_half_of_a_surrogate_pair_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"surrogates not allowed|can't decode byte"):
        parse_json(text)


def test_other_escapes_are_read() -> None:
    assert parse_json(r'{"a": "\u00e9\ud83d\ude00\\ud800"}') == {"a": "é\U0001f600\\ud800"}
    assert parse_json(b"[1.5]", parse_float=str) == ["1.5"]


def test_a_file_of_a_bundle_with_one_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(r'{"recipe": "\ud800"}')
    with pytest.raises(BundleError, match=r"report\.json: not readable as JSON .*surrogates"):
        read_json(path)


def test_what_is_written_can_be_read() -> None:
    text = json_text({"a \udcff": ["\ud800", "é \U0001f600"]}, sort_keys=True)
    assert parse_json(text) == {"a ?": ["?", "é \U0001f600"]}
    assert parse_json(text.encode()) == parse_json(text)
    assert text.isascii()


def test_other_text_is_written_as_ever() -> None:
    """Hashes and bundles of earlier versions stay what they are."""
    value = {"größe": ["é \U0001f600", r"\ud800", 1.5]}
    assert json_text(value, indent=2) == json.dumps(value, indent=2)


def test_sweeps_tell_names_of_files_apart() -> None:
    assert key_of({"a": "\udcfe"}) != key_of({"a": "\udcff"})
