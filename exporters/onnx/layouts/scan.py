"""The scan layout: one Scan operator per population, whose body is the IF step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.exporters.onnx.contract import constant_name, tensor_name
from icsnn_deploy.exporters.onnx.layouts.folded import Currents
from icsnn_deploy.exporters.onnx.operators import Attributes, OnnxWriter, batched, emit_population
from icsnn_deploy.graph.nodes import AnyPopulation

if TYPE_CHECKING:
    import onnx


def write_scan(writer: OnnxWriter, node: AnyPopulation, currents: Currents) -> None:
    """Write a population over all steps as one operator: file and load time do not grow with T."""
    name, shape, steps = node.name, currents.shape, currents.steps
    first = current = currents.tensor
    if currents.constant:
        zeros = np.zeros((steps, *(1,) * (1 + len(shape))), np.float32)
        timed = [current, writer.constant(constant_name(f"zeros_{len(shape)}"), zeros)]
        current = writer.op("Add", timed, tensor_name(name, "current"))
    else:
        ends = [writer.integers([end]) for end in (0, 1, 0)]
        row = writer.op("Slice", [current, *ends], tensor_name(name, "row"))  # [1, N, *shape]
        first = writer.op("Reshape", [row, writer.integers([-1, *shape])], tensor_name(name, "i"))
    writer.describe(current, batched(shape, steps))
    # v_init in the shape of the current, by a comparison: infinity times 0 would be NaN.
    v_init = writer.parameter(node, "v_init")
    same = writer.op("GreaterOrEqual", [first, first], tensor_name(name, "any"))
    v = writer.op("Where", [same, v_init, v_init], tensor_name(name, "v@0"))
    spikes = tensor_name(name, "s")
    results = [tensor_name(name, "v_last"), spikes]
    attributes: Attributes = {"body": scan_body(node, shape), "num_scan_inputs": 1}
    writer.op("Scan", [v, current], results, attributes)
    writer.describe(spikes, batched(shape, steps))


def scan_body(node: AnyPopulation, shape: tuple[int, ...]) -> onnx.GraphProto:
    """(v[t-1], I[t]) -> (v[t], s[t]), each [N, *shape]; it uses no tensor of the outer graph."""
    from onnx import helper

    inner, name = OnnxWriter(), node.name
    v_in, current, v_out = (tensor_name(name, role) for role in ("v_in", "i@t", "v_out"))
    inner.add_input(v_in, batched(shape))
    inner.add_input(current, batched(shape))
    spikes = emit_population(inner, node, current, v_in, "t", v_out)
    inner.add_output(v_out, batched(shape))
    inner.add_output(spikes, batched(shape))
    return helper.make_graph(
        inner.nodes, name, inner.inputs, inner.outputs, initializer=inner.initializers
    )
