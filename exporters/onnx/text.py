"""Names and texts in an ONNX message that are not UTF-8."""

from __future__ import annotations

from typing import Any


def is_utf8(message: Any) -> bool:
    """Whether every string of a protobuf message, and of the messages in it, is text.

    A string that is not UTF-8 is returned as bytes by protobuf, or raises where it is read, and
    most functions of onnx raise UnicodeDecodeError on it.
    """
    try:
        return all(
            is_utf8(entry) if field.type == field.TYPE_MESSAGE else isinstance(entry, str)
            for field, value in message.ListFields()
            if field.type in (field.TYPE_MESSAGE, field.TYPE_STRING)
            for entry in _entries(value)
        )
    except UnicodeDecodeError:
        return False


def _entries(value: Any) -> Any:
    """The values of a field, which may be repeated."""
    return [value] if isinstance(value, (str, bytes)) or hasattr(value, "ListFields") else value
