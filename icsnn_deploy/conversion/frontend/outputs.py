"""The outputs of a model by name, whatever it returns: a tensor, or tensors in containers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from icsnn_deploy.passes.edit import unique_name

SINGLE_OUTPUT = "output"
"""Name of the output of a model that returns one tensor and no container."""


def named_leaves(
    result: Any, leaf_types: type | tuple[type, ...] = (torch.Tensor,)
) -> dict[str, Any]:
    """The values in the result of a model, named by where they are.

        y                                       {"output": y}
        {"out": a, "aux": b}                    {"out": a, "aux": b}
        (a, [b, c])                             {"0": a, "1.0": b, "1.1": c}
        Detections(boxes=(a, b), scores=c)      {"boxes.0": a, "boxes.1": b, "scores": c}

    Args:
        result: a value, or tuples, lists, mappings, named tuples and dataclasses of values.
        leaf_types: classes that are never taken apart, dataclasses among them.

    Returns:
        Every value except None, in order; the names are unique.
    """
    found: dict[str, Any] = {}
    for path, value in _walk((), result, leaf_types):
        name = unique_name(".".join(path) or SINGLE_OUTPUT, found)
        found[name] = value
    return found


def _walk(
    path: tuple[str, ...], value: Any, leaf_types: type | tuple[type, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    entries = None if isinstance(value, leaf_types) else _entries(value)
    if entries is None:
        if value is not None:
            yield path, value
        return
    for key, entry in entries:
        yield from _walk((*path, key), entry, leaf_types)


def _entries(value: Any) -> list[tuple[str, Any]] | None:
    """The entries of a container with their names; None if the value is not a container."""
    if isinstance(value, Mapping):
        return [(str(key), entry) for key, entry in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        return [(str(position), entry) for position, entry in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(one.name, getattr(value, one.name)) for one in dataclasses.fields(value)]
    return None
