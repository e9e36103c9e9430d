"""How an ONNX file was written, and in what it differs from another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.difference import of_files
from icsnn_deploy.exporters.onnx.contract import (
    LOGITS_T,
    OnnxOptions,
    raw_spikes_name,
    spike_count_name,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.external_data import data_file
from icsnn_deploy.exporters.onnx.metadata import CONTENT_KEY
from icsnn_deploy.exporters.onnx.read import parse, read
from icsnn_deploy.exporters.options import WrittenAs

if TYPE_CHECKING:
    import onnx

_SHOWN = 60  # characters of a value


def written_as(path: Path) -> WrittenAs:
    """The version that wrote a file, its layout and its outputs.

    Raises:
        ExportError: the file is damaged, hostile, or was not written by this package.
    """
    file = read(path)
    populations = tuple(file.metadata.populations)
    step = file.metadata.layout == "step"
    spikes = [tensor_name(p, "spikes") if step else raw_spikes_name(p) for p in populations]
    counts = [spike_count_name(population) for population in populations]
    options = OnnxOptions(
        layout=file.metadata.layout,
        logits_t=not step and LOGITS_T in file.outputs,
        spike_counts=not step and not file.outputs.isdisjoint(counts),
        raw_spikes=not file.outputs.isdisjoint(spikes),
        inline_bytes=OnnxOptions().inline_bytes if file.metadata.data is None else 0,
    )
    return WrittenAs(version=file.metadata.version, options=options)


def difference(written: Path, path: Path) -> str | None:
    """The first entry, operator or parameter of a file that is not as in `written`.

    Args:
        written: what the exporter writes now.
        path: an earlier export.

    Raises:
        ExportError: the file is damaged.
        OSError: a file can't be read.
    """
    data = written.with_name(data_file(written))
    if data.exists():
        found = of_files(data, path.with_name(data_file(path)))
        if found is not None:
            return f"{data_file(path)}, {found}"
    expected, got = (parse(file.read_bytes()) for file in (written, path))
    parts = zip(_parts(expected), _parts(got), strict=True)
    for (kind, one), (_, other) in parts:
        for name in dict.fromkeys((*one, *other)):
            if one.get(name) != other.get(name):
                return f"{kind} {name!r:.80}: {_of_messages(one.get(name), other.get(name))}"
    return None


def _parts(model: onnx.ModelProto) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a model consists of, by kind and name; operators by number, as their order counts."""
    graph = model.graph
    yield "parameter", {tensor.name: tensor for tensor in graph.initializer}
    yield "operator", {f"{n} {node.name}": node for n, node in enumerate(graph.node)}
    for kind in ("input", "output", "value_info"):
        yield kind, {info.name: info for info in getattr(graph, kind)}
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries.pop(CONTENT_KEY, None)  # differs where anything else does
    yield "metadata", entries
    rest = type(model)()
    rest.CopyFrom(model)
    for field in ("initializer", "node", "input", "output", "value_info"):
        rest.graph.ClearField(field)
    rest.ClearField("metadata_props")
    names = [[each.name for each in getattr(graph, f)] for f in ("initializer", "input", "output")]
    yield "header", {"of the file": rest, "names": names}


def _of_messages(expected: Any, got: Any) -> str:
    if expected is None or got is None:
        return "missing" if got is None else "not written by the exporter"
    if hasattr(got, "raw_data") and got.dims == expected.dims and got.raw_data:
        one, other = (np.frombuffer(m.raw_data, np.uint8) for m in (expected, got))
        if len(one) == len(other) and (one != other).any():
            return _of_numbers(expected, got, int((one != other).argmax()))
    texts = [" ".join(str(message).split()) for message in (got, expected)]
    pairs = enumerate(zip(*texts, strict=False))
    first = next((n for n, (a, b) in pairs if a != b), min(map(len, texts)))
    start = max(0, first - _SHOWN // 2)
    shown = [ascii(text[start : start + _SHOWN]) for text in texts]
    return f"{shown[0]}, expected {shown[1]}"


def _of_numbers(expected: Any, got: Any, byte: int) -> str:
    """The first number of a tensor that differs, given its first different byte."""
    from onnx import numpy_helper

    try:
        one, other = (numpy_helper.to_array(m).reshape(-1) for m in (expected, got))
    except (ValueError, TypeError) as error:
        raise ExportError(f"parameter {got.name!r:.80}: {error}") from error
    place = byte // max(1, one.itemsize)
    if one.dtype != other.dtype or place >= min(one.size, other.size):
        return f"{other.dtype}, expected {one.dtype}"
    where = [int(n) for n in np.unravel_index(place, tuple(expected.dims) or (1,))]
    return f"{other[place]!r} at {where}, expected {one[place]!r}"
