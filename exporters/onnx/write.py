"""Write an IF network as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from icsnn_deploy.atomic import folder_beside
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import (
    IR_VERSION,
    LAYOUTS,
    MAX_BYTES,
    OPSET,
    PRODUCER,
    RUNTIMES,
    OnnxOptions,
)
from icsnn_deploy.exporters.onnx.external_data import consume, data_file, data_of, move_out
from icsnn_deploy.exporters.onnx.layouts.choose import layout_of
from icsnn_deploy.exporters.onnx.layouts.folded import write_folded
from icsnn_deploy.exporters.onnx.layouts.scan import write_scan
from icsnn_deploy.exporters.onnx.layouts.step import write_step
from icsnn_deploy.exporters.onnx.layouts.unrolled import write_unrolled
from icsnn_deploy.exporters.onnx.metadata import (
    BLANK,
    CONTENT_KEY,
    OnnxMetadata,
    stamp_content,
)
from icsnn_deploy.exporters.onnx.operators import OnnxWriter
from icsnn_deploy.exporters.onnx.parts import write_outputs
from icsnn_deploy.exporters.onnx.read import parse
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.outside_json import is_text

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxOptions", "build", "write"]


def write(graph: Graph, path: str | os.PathLike[str], options: OnnxOptions = OnnxOptions()) -> None:
    """Write an IF network as an ONNX file and check it; on failure, existing files are kept.

    Parameters beyond options.inline_bytes go into a second file, <name>.data. It is renamed first:
    if the process ends before the model follows, the old model is refused, as its data changed.

    Raises:
        ExportError: the network has no ONNX form, or the file can't be written.
    """
    _check(graph, options)
    target = Path(path)
    writer, metadata = _assemble(graph, options)
    outside: Sequence[bytes] = ()
    if _parameter_bytes(graph) > options.inline_bytes:
        outside = move_out(writer.initializers, data_file(target))
        metadata = replace(metadata, data=data_of(outside))
    _put(target, _stamped(writer, metadata), outside)


def build(graph: Graph, options: OnnxOptions = OnnxOptions()) -> onnx.ModelProto:
    """The ONNX model of an IF network, stamped with the hash of its content.

    Layouts that run all T steps: x [N, *shape] (or [T, N, *shape] for rate and event input) ->
    logits [N, *output shape]. step: (x[t], v[t-1]) -> (y[t], v[t]). Where the model's inputs or
    outputs are several, or arranged differently, each is an input or output of its own (parts.py).

    Args:
        graph: the network; integers must be exact in float32.
        options: the layout and the outputs.

    Raises:
        ExportError: an ANN, an unknown layout, an option that the layout does not have, a parameter
            that float32 can't hold, a network beyond 2 GB.
    """
    _check(graph, options)
    if _parameter_bytes(graph) > options.inline_bytes:
        raise ExportError("its parameters exceed inline_bytes and need a second file; use write")
    return parse(_stamped(*_assemble(graph, options)))


def _assemble(graph: Graph, options: OnnxOptions) -> tuple[OnnxWriter, OnnxMetadata]:
    """The parts of the model, and its metadata."""
    layout = layout_of(graph, options)
    writer = OnnxWriter()
    match layout:
        case "unrolled":
            write_unrolled(writer, graph, options)
        case "folded":
            write_folded(writer, graph, options)
        case "scan":
            write_folded(writer, graph, options, write_scan)
        case "step":
            write_step(writer, graph, options)
    metadata = OnnxMetadata.of(graph, layout)
    output = graph.output
    write_outputs(writer, output, graph.shape(output.name), metadata.outputs, metadata.readout)
    return writer, metadata


def _check(graph: Graph, options: OnnxOptions) -> None:
    if graph.time_steps is None:
        raise ExportError("this graph is an ANN (no time_steps); export the converted IF network")
    if options.layout not in ("auto", *LAYOUTS):
        raise ExportError(f"layout {options.layout!r}: allowed auto, {', '.join(LAYOUTS)}")
    if options.runtime not in RUNTIMES:
        raise ExportError(f"runtime {options.runtime!r}: allowed {', '.join(RUNTIMES)}")
    if options.layout == "step" and (options.logits_t or options.spike_counts):
        raise ExportError(
            "logits_t and spike_counts sum over time, which a file of one step can't; export "
            "another layout, or add up y and raw_spikes outside"
        )
    if not 0 <= options.inline_bytes <= MAX_BYTES:
        raise ExportError(f"inline_bytes {options.inline_bytes}: 0 to {MAX_BYTES} is allowed")
    parts = (*graph.input.parts, *graph.output.parts)
    for node in (*graph.nodes, *parts):
        if "\0" in node.name:  # runtimes pass names on as C strings
            raise ExportError(f"{node.name!r}: NUL in a name; rename it")


def _parameter_bytes(graph: Graph) -> int:
    return sum(4 * array.size for node in graph.nodes for array in node.parameters().values())


def _model(writer: OnnxWriter) -> onnx.ModelProto:
    import onnx

    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER)
    model.opset_import.add(domain="", version=OPSET)
    model.graph.name = PRODUCER
    model.graph.node.extend(writer.nodes)
    for tensor in consume(writer.initializers):
        model.graph.initializer.append(tensor)
    model.graph.input.extend(writer.inputs)
    model.graph.output.extend(writer.outputs)
    model.graph.value_info.extend(writer.described.values())
    return model


def _units(graph_input: str, metadata: OnnxMetadata) -> str:
    """What 1 stands for at the input and the output, as text; empty where it is 1 in both."""
    lines = []
    if metadata.input_unit != 1:
        lines.append(
            f"Input {graph_input}: integers, round(sample / {metadata.input_unit!r}) of a sample "
            "as the ANN takes it. Pixels cast to this type are other numbers."
        )
    if metadata.logit_unit not in (None, 1.0):
        lines.append(
            f"Output {metadata.readout}: times {metadata.logit_unit!r} it is in units of the ANN."
        )
    return "\n".join(lines)


def _stamped(writer: OnnxWriter, metadata: OnnxMetadata) -> bytes:
    """The serialized model with its metadata and content hash."""
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    model = _model(writer)
    units = _units(", ".join(entry.name for entry in writer.inputs[:1]), metadata)
    if units:
        model.doc_string = units
    model.producer_version = metadata.version
    for key, value in metadata.entries().items():
        model.metadata_props.add(key=key, value=value)
    model.metadata_props.add(key=CONTENT_KEY, value=BLANK)
    try:
        data = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ExportError(f"the network can't be serialized as ONNX: {error}") from error
    stamped = stamp_content(data) if len(data) <= MAX_BYTES else None
    if stamped is None:
        raise ExportError("the network is beyond the 2 GB that one ONNX file holds")
    return stamped


def _put(target: Path, data: bytes, outside: Sequence[bytes]) -> None:
    """Write and check in a temporary folder, then rename: no incomplete file is ever visible."""
    try:
        with folder_beside(target) as folder:
            drafts = [folder / target.name]
            drafts[0].write_bytes(data)
            if outside:
                # First: until the model follows, an old one is refused, as its data changed.
                drafts.insert(0, folder / data_file(target))
                with drafts[0].open("wb") as file:
                    file.writelines(outside)
            _check_file(folder / target.name, target)
            for draft in drafts:
                os.replace(draft, target.with_name(draft.name))
    except OSError as error:
        raise ExportError(f"{target}: can't be written: {error.strerror or error}") from error


def _check_file(draft: Path, target: Path) -> None:
    """Run onnx's checker on a complete file; raises ExportError."""
    import onnx

    if not is_text(str(draft)):
        raise ExportError(
            f"{target}: onnx checks no file whose path is not UTF-8; rename the folder, or choose "
            "another one"
        )
    try:
        onnx.checker.check_model(draft, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{target}: onnx rejects the network as written: {error}") from error
