"""Check that an ONNX file packs the model's inputs, and takes its outputs, as its metadata says.

The operators and constants that the exporter writes for them are made again from the metadata and
the index in the file, and the file must hold exactly these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.errors import ExportError, GraphError
from icsnn_deploy.exporters.onnx.contract import output_tensors
from icsnn_deploy.exporters.onnx.operators import OnnxWriter
from icsnn_deploy.exporters.onnx.parts import (
    INPUT_INDEX,
    INPUT_VALUES,
    InputParts,
    OutputPart,
    first_of,
    index_name,
    input_names,
    positions_of,
    step_name,
    write_input,
    write_outputs,
)
from icsnn_deploy.graph.arrangement import is_plain
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input, Output, Shape

if TYPE_CHECKING:
    import onnx


def gathered(inputs: InputParts | None, outputs: Sequence[OutputPart]) -> frozenset[str]:
    """Names of the tensors that may be results of Gather, which read_input and check_outputs check.

    A runtime takes positions from such a node's index: no other index is to reach it.
    """
    names = [
        name
        for number, row in enumerate(outputs)
        for name in (row.tensor, step_name(number, "Gather"))
    ]
    return frozenset([*names, *([] if inputs is None else [INPUT_VALUES])])


def read_input(
    model: onnx.ModelProto, inputs: InputParts | None, node: Input, steps: int | None
) -> Input:
    """The input node of a file, with its index, after checking how the file packs the parts.

    Args:
        model: parsed; its operators are those of the exporter.
        inputs: as the metadata describes them.
        node: the input without parts.
        steps: as for write_input.

    Raises:
        ExportError: the parts are not packed as the exporter does it.
    """
    if inputs is None:
        return node
    index, total = _constant(model, INPUT_INDEX), sum(part.size for part in inputs.parts)
    try:
        held = None
        if index is not None:
            held = np.where(index == total, -1, index).reshape(inputs.shape)
        found = Input(
            name=node.name,
            shape=inputs.shape,
            dtype=node.dtype,
            encoding=node.encoding,
            parts=inputs.parts,
            index=held,
        )
    except (GraphError, ValueError) as error:
        raise ExportError(f"metadata inputs: {error!s:.300}") from error
    if inputs.tensors != input_names(found):
        raise ExportError("metadata inputs: tensors other than an export has")
    writer = OnnxWriter()
    write_input(writer, found, steps)
    if is_plain(found.parts, found.index, found.shape):
        writer.nodes.clear()  # a cast is named after the graph's node
    _require(model, writer, "inputs")
    return found


def check_outputs(
    model: onnx.ModelProto,
    outputs: Sequence[OutputPart],
    shape: Shape,
    readout: str,
    inputs: Sequence[str],
) -> None:
    """Check that a file takes the model's outputs from the readout as the exporter does.

    Args:
        model: parsed; its operators are those of the exporter.
        outputs: as the metadata describes them.
        shape: of the readout, without the batch.
        readout: name of its tensor.
        inputs: names of the ONNX inputs that are the network's input.

    Raises:
        ExportError: an output that is missing, or computed in another way.
    """
    if not outputs:
        return
    positions = [_read_positions(model, number, row) for number, row in enumerate(outputs)]
    held = [each for each in positions if each is not None]
    index = np.concatenate(held) if len(held) == len(outputs) else None
    try:
        node = Output(
            name=readout, inputs=("x",), parts=tuple(row.part for row in outputs), index=index
        )
        node.output_shape(shape)
    except GraphError as error:
        raise ExportError(f"metadata outputs: {error!s:.300}") from error
    plain = is_plain(node.parts, node.index, shape)
    names = [row.part.name for row in outputs]
    wanted = [readout] if plain else list(output_tensors(names, inputs))
    starts = [first_of(places) for places in positions_of(node)]
    if [row.tensor for row in outputs] != wanted or [row.start for row in outputs] != starts:
        raise ExportError("metadata outputs: tensors or starts other than an export has")
    writer = OnnxWriter()
    write_outputs(writer, node, shape, outputs, readout)
    _require(model, writer, "outputs")


def _read_positions(model: onnx.ModelProto, number: int, row: OutputPart) -> Array | None:
    if row.start is not None:
        return np.arange(row.start, row.start + row.part.size)
    return _constant(model, index_name(number))


def _constant(model: onnx.ModelProto, name: str) -> Array | None:
    """The constant of this name that is stored in the model; None where there is none."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name and tensor.raw_data:
            value: Array = numpy_helper.to_array(tensor)
            return value
    return None


def _require(model: onnx.ModelProto, writer: OnnxWriter, what: str) -> None:
    """Raise ExportError unless the model holds everything that the exporter would write."""
    held = {
        kind: {_identity(kind, one): one.SerializeToString(deterministic=True) for one in found}
        for kind, found in _contents(
            model.graph.node, model.graph.initializer, model.graph.input, model.graph.output
        )
    }
    expected = _contents(writer.nodes, writer.initializers, writer.inputs, writer.outputs)
    for kind, wanted in expected:
        for one in wanted:
            name = _identity(kind, one)
            if held[kind].get(name) != one.SerializeToString(deterministic=True):
                raise ExportError(f"its {what} are not as the metadata says: {kind} {name[:80]!r}")


def _contents(
    nodes: Sequence[Any], constants: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Iterator[tuple[str, Sequence[Any]]]:
    yield "operator", nodes
    yield "constant", constants
    yield "input", inputs
    yield "output", outputs


def _identity(kind: str, one: Any) -> str:
    name: str = (one.output[0] if one.output else "") if kind == "operator" else one.name
    return name
