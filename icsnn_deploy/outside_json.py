"""JSON of files from elsewhere."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    r"""The value of a JSON text, as json.loads gives it.

    Raises:
        ValueError: not JSON, or a half of a surrogate pair ("\ud800"), which no file can hold
            as text.
    """
    value = json.loads(text, **hooks)
    mark = b"\\u" if isinstance(text, bytes) else "\\u"
    if mark in text:  # type: ignore[operator]
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError
    return value
