"""Find what an ONNX file holds that the exporter never writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import GraphError
from icsnn_deploy.exporters.onnx.contract import (
    IR_VERSION,
    OPERATORS,
    OPSET,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.layouts.scan import scan_body
from icsnn_deploy.exporters.onnx.metadata import OnnxMetadata
from icsnn_deploy.exporters.onnx.parts_read import gathered
from icsnn_deploy.graph.nodes import IF

if TYPE_CHECKING:
    import onnx


def foreign(model: onnx.ModelProto, metadata: OnnxMetadata) -> Iterator[str]:
    """Find everything in a model that the exporter does not write, one sentence each."""
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if model.ir_version != IR_VERSION or opsets != [("", OPSET)]:
        yield f"IR version {model.ir_version} and opsets {opsets}: {IR_VERSION} and {OPSET} needed"
    if model.functions or model.training_info:
        yield "functions or training graphs, which an export never holds"
    yield from _foreign_parameters(model.graph)
    for node in model.graph.node:
        yield from _foreign_node(node, metadata)


def _foreign_node(node: onnx.NodeProto, metadata: OnnxMetadata) -> Iterator[str]:
    """An operator or attribute that the exporter does not write; only a Scan contains a graph."""
    from onnx import AttributeProto

    if node.domain or node.op_type not in OPERATORS:
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        yield f"operator {operator[:60]!r}, which an export never holds"
    elif node.op_type == "Scan":
        yield from _foreign_scan(node, metadata)
    elif node.op_type == "Gather" and node.output[0] not in gathered(
        metadata.inputs, metadata.outputs
    ):
        yield f"Gather {node.name[:60]!r}, which is no input or output of the metadata"
    else:
        for attribute in node.attribute:
            if attribute.type not in (AttributeProto.INT, AttributeProto.INTS):
                yield f"{node.op_type}: attribute {attribute.name[:60]!r} is not an integer"


def _foreign_scan(node: onnx.NodeProto, metadata: OnnxMetadata) -> Iterator[str]:
    """A Scan that is no population of the metadata, or whose body is not exactly the IF step."""
    from onnx import AttributeProto

    spikes = list(node.output)[1:]
    names = [n for n in metadata.populations if spikes == [tensor_name(n, "s")]]
    kinds = [(attribute.name, attribute.type) for attribute in node.attribute]
    wanted = [("body", AttributeProto.GRAPH), ("num_scan_inputs", AttributeProto.INT)]
    if metadata.layout != "scan" or not names or kinds != wanted or node.attribute[1].i != 1:
        yield f"Scan {node.name[:60]!r}, which is no population of a file of layout scan"
        return
    body = node.attribute[0].g
    problem = next(_foreign_parameters(body, inside=True), None)
    if problem is None and not _is_if_step(body, names[0], metadata):
        problem = f"population {names[0][:80]!r}: the body of its Scan is not the IF step"
    if problem is not None:
        yield problem


def _is_if_step(body: onnx.GraphProto, population: str, metadata: OnnxMetadata) -> bool:
    """Whether the exporter would write exactly this body for the parameters in it."""
    from onnx import numpy_helper

    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
    shape = metadata.populations[population]
    threshold = held.get(tensor_name(population, "v_threshold"))
    reset = held.get(tensor_name(population, "v_reset"))
    if threshold is None or (reset is None) != (metadata.reset == "subtract"):
        return False
    try:
        node = IF(
            name=population,
            inputs=("current",),
            v_threshold=threshold,
            v_init=np.zeros((1,) * len(shape), np.float32),
            v_reset=reset,
        )
        node.output_shape(shape)
    except GraphError:
        return False
    expected: bytes = scan_body(node, shape).SerializeToString(deterministic=True)
    found: bytes = body.SerializeToString(deterministic=True)
    return found == expected


def _foreign_parameters(graph: onnx.GraphProto, *, inside: bool = False) -> Iterator[str]:
    """Wrong parameters of a graph; those in the second file are checked by read_parameters."""
    from onnx import TensorProto

    if graph.sparse_initializer or graph.quantization_annotation:
        yield "sparse or quantized parameters, which an export never holds"
    sizes: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.INT64: 8}
    for tensor in graph.initializer:
        name = tensor.name[:80]
        if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
            if inside:
                yield f"parameter {name!r} of a Scan lies in another file"
        elif tensor.data_type not in sizes:
            yield f"parameter {name!r} is neither float32 nor int64"
        elif any(size < 1 for size in tensor.dims) or len(tensor.raw_data) != (
            sizes[tensor.data_type] * math.prod(tensor.dims)
        ):
            yield (
                f"parameter {name!r} declares the shape {list(tensor.dims)[:8]} but holds "
                f"{len(tensor.raw_data)} bytes"
            )
