"""Metadata of an exported ONNX file (metadata_props): written, parsed and checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard, cast, get_args

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import (
    CURRENT,
    FORMAT,
    LAYOUTS,
    LOGITS,
    PRODUCER,
    Layout,
)
from icsnn_deploy.exporters.onnx.external_data import ExternalData
from icsnn_deploy.exporters.onnx.parts import (
    InputParts,
    OutputPart,
    describe_inputs,
    describe_outputs,
)
from icsnn_deploy.exporters.onnx.parts_metadata import (
    input_entries,
    output_entries,
    parse_inputs,
    parse_outputs,
)
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.inputs import logit_unit
from icsnn_deploy.graph.limits import MAX_AXES, MAX_TIME_STEPS
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding, Population, Shape, broadcast_shapes, is_timed
from icsnn_deploy.version import __version__

CONTENT_KEY = "content_sha256"
BLANK = "0" * 64  # in place of the content hash while it is computed

_DATA_HASH, _DATA_BYTES = "data_sha256", "data_bytes"
MAX_DATA_BYTES = 2**38

_V_INIT = "v_init/"  # step layout: key prefix of each population's initial potential


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxMetadata:
    """Description of an exported network, sufficient to run the file without the graph."""

    layout: Layout
    time_steps: int
    readout_start: int
    encoding: Encoding
    graph_hash: str
    reset: str  # "subtract", or "v_reset" with values in the model
    populations: Mapping[str, Shape]  # IF populations, in topological order
    v_init: Mapping[str, Array] = field(default_factory=dict)  # step layout, float32
    version: str
    certificate: str  # of an integer network, its summary as JSON; "none" of a float network
    input_unit: float  # input value of one unit of an integer input
    logit_unit: float | None  # logit of one unit of the output; None where unknown
    data: ExternalData | None = None  # the second file with parameters, if any
    inputs: InputParts | None = None  # the model's inputs, where recorded
    outputs: tuple[OutputPart, ...] = ()  # the model's outputs, where recorded

    @property
    def readout(self) -> str:
        """Name of the tensor that holds the raw readout."""
        return CURRENT if self.layout == "step" else LOGITS

    @property
    def is_timed(self) -> bool:
        """Whether the network's input has a time axis, as Input.is_timed."""
        return is_timed(self.encoding)

    @property
    def batch_axis(self) -> int:
        """The axis of the network's input that counts the samples, as Input.batch_axis."""
        return int(self.is_timed)

    @classmethod
    def of(cls, graph: Graph, layout: Layout) -> OnnxMetadata:
        """Describe a graph in a layout."""
        populations = graph.nodes_of(Population)
        initial = populations if layout == "step" else ()
        unit = logit_unit(graph)
        return cls(
            layout=layout,
            time_steps=graph.steps,
            readout_start=graph.readout_start,
            encoding=graph.input.encoding,
            graph_hash=graph.hash(),
            reset="v_reset" if hard_resets(graph) else "subtract",
            populations={node.name: graph.shape(node.name) for node in populations},
            v_init={node.name: node.v_init.astype(np.float32) for node in initial},
            version=__version__,
            certificate=json.dumps(certify(graph).summary()) if graph.is_integer else "none",
            input_unit=graph.input.unit,
            logit_unit=unit if isinstance(unit, float) else None,  # else each output has its own
            inputs=describe_inputs(graph),
            outputs=describe_outputs(graph, CURRENT if layout == "step" else LOGITS),
        )

    def entries(self) -> dict[str, str]:
        """The entries of metadata_props, without the content hash."""
        # v_init is metadata, not an initializer: a step loop on a device can read metadata only.
        initial = {
            _V_INIT + name: base64.b64encode(value.astype("<f4").tobytes()).decode("ascii")
            for name, value in self.v_init.items()
        }
        external = (
            {}
            if self.data is None
            else {_DATA_HASH: self.data.sha256, _DATA_BYTES: str(self.data.size)}
        )
        return {
            "producer": PRODUCER,
            "version": self.version,
            "format": FORMAT,
            "graph_hash": self.graph_hash,
            "time_steps": str(self.time_steps),
            "readout_start": str(self.readout_start),
            "encoding": self.encoding,
            "reset": self.reset,
            "layout": self.layout,
            "certificate": self.certificate,
            "input_unit": repr(self.input_unit),
            **({} if self.logit_unit is None else {"logit_unit": repr(self.logit_unit)}),
            "populations": json.dumps([[n, list(s)] for n, s in self.populations.items()]),
            **input_entries(self.inputs),
            **output_entries(self.outputs),
            **initial,
            **external,
        }

    @classmethod
    def parse(cls, entries: Mapping[str, str]) -> OnnxMetadata:
        """Parse the description in a file, and check every value.

        Raises:
            ExportError: names the entry that is missing or wrong, but not the file.
        """
        for key, wanted in (("producer", PRODUCER), ("format", FORMAT)):
            if (got := _entry(entries, key)) != wanted:
                raise ExportError(f"metadata {key} is {got[:40]!r}, {wanted!r} is needed")
        time_steps = _integer(entries, "time_steps", 1, MAX_TIME_STEPS)
        populations = _populations(_entry(entries, "populations"))
        layout = cast(Layout, _choice(entries, "layout", LAYOUTS))
        initial = populations if layout == "step" else {}
        return cls(
            layout=layout,
            time_steps=time_steps,
            readout_start=_integer(entries, "readout_start", 0, time_steps - 1),
            encoding=cast(Encoding, _choice(entries, "encoding", get_args(Encoding))),
            graph_hash=_sha256(entries, "graph_hash"),
            reset=_choice(entries, "reset", ("subtract", "v_reset")),
            populations=populations,
            v_init={name: _v_init(entries, name, shape) for name, shape in initial.items()},
            version=_entry(entries, "version"),
            certificate=_entry(entries, "certificate"),
            input_unit=_positive(entries, "input_unit"),
            logit_unit=_positive(entries, "logit_unit") if "logit_unit" in entries else None,
            data=_data(entries),
            inputs=parse_inputs(entries),
            outputs=parse_outputs(entries),
        )


def content_hash(data: bytes, stamp: str) -> str | None:
    """The sha256 of a serialized model whose content hash `stamp` is replaced by BLANK.

    The bytes themselves are hashed, so that any changed bit is found, also one that a parser
    ignores. None if the stamp does not occur in the bytes exactly once.
    """
    place = _stamp_place(data, stamp)
    return None if place is None else _hash_around(data, place)


def stamp_content(data: bytes) -> bytes | None:
    """A serialized model with its content hash in place of BLANK; None as in content_hash."""
    place = _stamp_place(data, BLANK)
    if place is None:
        return None
    view, stamp = memoryview(data), _hash_around(data, place)
    return b"".join([view[: place.start], stamp.encode(), view[place.stop :]])


def _hash_around(data: bytes, place: slice) -> str:
    view = memoryview(data)
    digest = hashlib.sha256(view[: place.start])
    digest.update(BLANK.encode())
    digest.update(view[place.stop :])
    return digest.hexdigest()


def _stamp_place(data: bytes, stamp: str) -> slice | None:
    """The position of a stamp in a serialized model, if it occurs exactly once."""
    # A protobuf entry: the key, then field 2 of 64 bytes.
    mark = CONTENT_KEY.encode() + b"\x12\x40" + stamp.encode()
    if data.count(mark) != 1:
        return None
    end = data.index(mark) + len(mark)
    return slice(end - len(BLANK), end)


def _entry(entries: Mapping[str, str], key: str) -> str:
    if key not in entries:
        raise ExportError(f"no metadata {key!r}: not a file that icsnn-deploy wrote")
    return entries[key]


def _integer(entries: Mapping[str, str], key: str, least: int, most: int) -> int:
    text = _entry(entries, key)
    if not re.fullmatch("[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise ExportError(f"metadata {key} is {text[:40]!r}, an integer {least} to {most} needed")
    return int(text)


def _positive(entries: Mapping[str, str], key: str) -> float:
    text = _entry(entries, key)
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ExportError(f"metadata {key} is {text[:40]!r}, a positive number needed")
    return found


def _sha256(entries: Mapping[str, str], key: str) -> str:
    text = _entry(entries, key)
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ExportError(f"metadata {key} is {text[:80]!r}, not a sha256")
    return text


def _data(entries: Mapping[str, str]) -> ExternalData | None:
    if _DATA_HASH not in entries and _DATA_BYTES not in entries:
        return None
    size = _integer(entries, _DATA_BYTES, 1, MAX_DATA_BYTES)
    return ExternalData(sha256=_sha256(entries, _DATA_HASH), size=size)


def _choice(entries: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    text = _entry(entries, key)
    if text not in allowed:
        raise ExportError(f"metadata {key} is {text[:40]!r}, allowed {', '.join(allowed)}")
    return text


def _populations(text: str) -> dict[str, Shape]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):  # a hostile file may nest brackets arbitrarily deep
        raise ExportError("metadata populations is not JSON") from None
    result: dict[str, Shape] = {}
    for row in rows if isinstance(rows, list) else [None]:
        name, shape = row if isinstance(row, list) and len(row) == 2 else (None, None)
        if not isinstance(name, str) or not _is_shape(shape) or name in result:
            raise ExportError("metadata populations is not a list of names with shapes")
        result[name] = tuple(shape)
    return result


def _is_shape(value: object) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MAX_AXES
        and all(type(n) is int and 1 <= n < 2**31 for n in value)
    )


def _v_init(entries: Mapping[str, str], population: str, shape: Shape) -> Array:
    text = _entry(entries, _V_INIT + population)
    try:
        value = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (ValueError, binascii.Error):
        raise ExportError(f"metadata {_V_INIT}{population} is not base64 of float32") from None
    for fitting in broadcast_shapes(shape):
        if math.prod(fitting) == value.size and np.isfinite(value).all():
            return value.reshape(fitting).astype(np.float32)
    raise ExportError(f"metadata {_V_INIT}{population}: {value.size} values for shape {shape}")
