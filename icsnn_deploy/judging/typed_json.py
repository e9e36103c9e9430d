"""Dataclasses from JSON values, each checked against the type that its field declares."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union

from icsnn_deploy.errors import DataError

Kind = TypeVar("Kind")

_LARGEST = 1 << 63


def from_typed_json(kind: type[Kind], value: Any) -> Kind:
    """An instance of a dataclass, as dataclasses.asdict and JSON give its fields.

    Args:
        kind: a dataclass of numbers, texts, tuples, dicts by name, literals and other dataclasses.
        value: the JSON value; a field that is left out has its default.

    Raises:
        DataError: a field that is unknown, missing, or of another type; names its place.
    """
    return typing.cast(Kind, _read(kind, value, kind.__name__))


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in inside:
            return None
        return _read(next(one for one in inside if one is not types.NoneType), value, place)
    if origin is Literal:
        return value if isinstance(value, str) and value in inside else _refuse(place, value)
    if origin is tuple:
        return _tuple(inside, value, place)
    if origin is dict:
        if not isinstance(value, dict):
            _refuse(place, value)
        return {name: _read(inside[1], each, f"{place}.{name}") for name, each in value.items()}
    if is_dataclass(kind):
        return _fields(kind, value, place)
    if kind is float and type(value) in (int, float):
        return (
            float(value) if abs(value) < _LARGEST or type(value) is float else _refuse(place, value)
        )
    if type(value) is not kind or (kind is int and not -_LARGEST < value < _LARGEST):
        _refuse(place, value)
    return value


def _tuple(inside: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _refuse(place, value)
    kinds = inside[:1] * len(value) if inside[-1] is Ellipsis else inside
    if len(kinds) != len(value):
        _refuse(place, value)
    return tuple(_read(one, each, place) for one, each in zip(kinds, value, strict=True))


def _fields(kind: Any, value: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        _refuse(place, value)
    hints = _hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown:
        raise DataError(f"{place}: unknown field {unknown[0]!r:.80}")
    found = {name: _read(hints[name], each, f"{place}.{name}") for name, each in value.items()}
    try:
        return kind(**found)
    except TypeError as error:
        raise DataError(f"{place}: {error}") from error


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _refuse(place: str, value: Any) -> typing.NoReturn:
    raise DataError(f"{place}: {value!r:.80} is not of the type that the field has")
