"""JSON of files: reading those from elsewhere, and writing what every reader takes."""

from __future__ import annotations

import json
from typing import Any

_ESCAPE = "\\u"


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    r"""The value of a JSON text, as json.loads gives it.

    Raises:
        ValueError: not JSON, or a half of a surrogate pair ("\ud800"), which no file can hold
            as text.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")  # UnicodeDecodeError is a ValueError
    value = json.loads(text, **hooks)
    if not text.isascii() or _ESCAPE in text:
        json.dumps(value, ensure_ascii=False).encode()  # so is UnicodeEncodeError
    return value


def json_text(value: Any, **options: Any) -> str:
    r"""JSON that parse_json reads again; options as those of json.dumps.

    A half of a surrogate pair, as in the name of a file that is not UTF-8, becomes "?".
    """
    text = json.dumps(value, **options)
    if _ESCAPE not in text:
        return text
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
    return json.dumps(json.loads(plain), **options)


def is_text(value: str) -> bool:
    """Whether UTF-8 can hold a string: it has no half of a surrogate pair."""
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)
