"""The model's inputs and outputs in the metadata of an ONNX file: written, parsed and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.onnx.parts import InputParts, OutputPart
from icsnn_deploy.graph.limits import MAX_AXES, MAX_VALUES
from icsnn_deploy.graph.node import is_integer, is_positive
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.parts import checked_parts


def input_entries(inputs: InputParts | None) -> dict[str, str]:
    """The metadata entries of the model's inputs."""
    if inputs is None:
        return {}
    rows = [
        {"name": part.name, "shape": list(part.shape), "host_op": part.host_op, "tensor": tensor}
        for part, tensor in zip(inputs.parts, inputs.tensors, strict=True)
    ]
    return {"inputs": json.dumps(rows), "input_shape": json.dumps(list(inputs.shape))}


def output_entries(outputs: Sequence[OutputPart]) -> dict[str, str]:
    """The metadata entry of the model's outputs."""
    rows = [
        {
            "name": row.part.name,
            "shape": list(row.part.shape),
            "host_op": row.part.host_op,
            "tensor": row.tensor,
            **({} if row.start is None else {"start": row.start}),
            **({} if row.unit is None else {"unit": row.unit}),
        }
        for row in outputs
    ]
    return {"outputs": json.dumps(rows)} if rows else {}


def parse_inputs(entries: Mapping[str, str]) -> InputParts | None:
    """The model's inputs that the metadata describes; raises ExportError."""
    if "inputs" not in entries:
        return None
    rows = _rows("inputs", entries["inputs"], frozenset())
    shape = _json("input_shape", entries.get("input_shape", ""))
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MAX_AXES
        or not all(is_integer(n, 1) for n in shape)
        or math.prod(shape) > MAX_VALUES
    ):
        raise ExportError("metadata input_shape is not a shape")
    return InputParts(
        parts=_parts("inputs", rows),
        tensors=tuple(row["tensor"] for row in rows),
        shape=tuple(shape),
    )


def parse_outputs(entries: Mapping[str, str]) -> tuple[OutputPart, ...]:
    """The model's outputs that the metadata describes; raises ExportError."""
    if "outputs" not in entries:
        return ()
    rows = _rows("outputs", entries["outputs"], frozenset({"start", "unit"}))
    for row in rows:
        start, unit = row.get("start", 0), row.get("unit", 1.0)
        if not is_integer(start, 0) or start > MAX_VALUES or not is_positive(unit):
            raise ExportError(f"metadata outputs: {row!r:.100}, with a start or unit that is none")
    return tuple(
        OutputPart(part=part, tensor=row["tensor"], start=row.get("start"), unit=row.get("unit"))
        for part, row in zip(_parts("outputs", rows), rows, strict=True)
    )


def _rows(key: str, text: str, optional: frozenset[str]) -> list[dict[str, Any]]:
    rows, needed = _json(key, text), {"name", "shape", "host_op", "tensor"}
    if not isinstance(rows, list) or not rows:
        raise ExportError(f"metadata {key} is not a list of tensors")
    for row in rows:
        good = isinstance(row, dict) and needed <= set(row) <= needed | optional
        if not good or not isinstance(row["tensor"], str):
            raise ExportError(f"metadata {key}: {row!r:.100}, {', '.join(sorted(needed))} needed")
    return rows


def _parts(key: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    try:
        return checked_parts(key, [[row["name"], row["shape"], row["host_op"]] for row in rows])
    except GraphError as error:
        raise ExportError(f"metadata {error!s:.300}") from error


def _json(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ExportError(f"metadata {key} is not JSON") from None
