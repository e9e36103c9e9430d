"""Write an IF network as an ONNX file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx_format import (
    IR_VERSION,
    LAYOUTS,
    OPSET,
    PRODUCER,
    Layout,
    OnnxOptions,
)
from icsnn_deploy.exporters.onnx_metadata import BLANK, CONTENT_KEY, OnnxMetadata, content_hash
from icsnn_deploy.exporters.onnx_ops import OnnxWriter
from icsnn_deploy.exporters.onnx_step import write_step
from icsnn_deploy.exporters.onnx_unrolled import write_unrolled
from icsnn_deploy.graph import Graph

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxOptions", "build", "write"]

MAX_BYTES = 2**31 - 1
"""A protobuf message can't be longer."""


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    layout: Layout = "unrolled",
    options: OnnxOptions = OnnxOptions(),
) -> None:
    """Write an IF network as one ONNX file, checked, or leave what was there untouched.

    Raises:
        ExportError: the network has no ONNX form, or the file can't be written.
    """
    import onnx

    data = build(graph, layout, options).SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path}: onnx rejects the network as written: {error}") from error
    _replace(Path(path), data)


def build(
    graph: Graph, layout: Layout = "unrolled", options: OnnxOptions = OnnxOptions()
) -> onnx.ModelProto:
    """The ONNX model of an IF network, stamped with the hash of its content.

    Args:
        graph: the network; integers must be exact in float32.
        layout: "unrolled", all T steps, x [N, *shape] (or [T, N, *shape] for rate and event
            input) -> logits [N, *output shape]; or "step", (x[t], v[t-1]) -> (y[t], v[t]).
        options: what to hand out besides.

    Raises:
        ExportError: an ANN, an unknown layout, an option that the layout has not, a parameter
            that float32 can't hold, a network beyond 2 GB.
    """
    _check(graph, layout, options)
    writer = OnnxWriter()
    if layout == "unrolled":
        write_unrolled(writer, graph, options)
    else:
        write_step(writer, graph, options)
    return _stamp(_model(writer, OnnxMetadata.of(graph, layout)))


def _check(graph: Graph, layout: str, options: OnnxOptions) -> None:
    if graph.time_steps is None:
        raise ExportError("this graph is an ANN (no time_steps); export the converted IF network")
    if layout not in LAYOUTS:
        raise ExportError(f"layout {layout!r}: allowed {', '.join(LAYOUTS)}")
    if layout == "step" and (options.logits_t or options.spike_counts):
        raise ExportError(
            "logits_t and spike_counts sum over time, which a file of one step can't; export the "
            "unrolled layout, or add up y and raw_spikes outside"
        )
    for node in graph.nodes:
        # Runtimes pass names on as C strings in UTF-8.
        if "\0" in node.name or any("\ud800" <= letter <= "\udfff" for letter in node.name):
            raise ExportError(f"{node.name!r}: NUL or a lone surrogate in a name; rename the node")
    size = sum(4 * array.size for node in graph.nodes for array in node.arrays().values())
    if size > MAX_BYTES - 2**24:
        raise ExportError(
            f"{size / 2**30:.1f} GB of parameters: one ONNX file holds less than 2 GB, and writing "
            "them as external data is not supported yet"
        )


def _model(writer: OnnxWriter, metadata: OnnxMetadata) -> onnx.ModelProto:
    import onnx

    model = onnx.ModelProto(
        ir_version=IR_VERSION, producer_name=PRODUCER, producer_version=metadata.version
    )
    model.opset_import.add(domain="", version=OPSET)
    model.graph.name = PRODUCER
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(writer.initializers)
    model.graph.input.extend(writer.inputs)
    model.graph.output.extend(writer.outputs)
    for key, value in metadata.entries().items():
        model.metadata_props.add(key=key, value=value)
    return model


def _stamp(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the hash of the model's bytes, taken with zeros in the place of the hash."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    entry = model.metadata_props.add(key=CONTENT_KEY, value=BLANK)
    try:
        data = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ExportError(f"the network can't be serialized as ONNX: {error}") from error
    stamp = content_hash(data, BLANK)
    if stamp is None or len(data) > MAX_BYTES:
        raise ExportError("the network is beyond the 2 GB that one ONNX file holds")
    entry.value = stamp
    return model


def _replace(path: Path, data: bytes) -> None:
    """Write under a temporary name and rename, so that a half-written file is never seen."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"{path}: can't be written: {error.strerror or error}") from error
