"""The step layout: one time step, with membrane potentials as inputs and outputs."""

from __future__ import annotations

from icsnn_deploy.exporters.onnx.contract import CURRENT, OnnxOptions, tensor_name
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched, emit, emit_population
from icsnn_deploy.exporters.onnx.parts import write_input
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population


def write_step(writer: OnnxWriter, graph: Graph, options: OnnxOptions) -> None:
    """Write (x[t], v[t-1]) -> (y[t], v[t]) and, with raw_spikes, the spikes s[t]."""
    source = graph.input
    values = {source.name: write_input(writer, source, None)}
    writer.add_output(CURRENT, batched(graph.shape(graph.output.name)))
    for node in graph.nodes[1:]:
        sources = [values[name] for name in node.inputs]
        if not isinstance(node, Population):
            values[node.name] = emit(writer, graph, node, sources, None)
            continue
        shape = batched(graph.shape(node.name))
        v_in, v_out = tensor_name(node.name, "v_in"), tensor_name(node.name, "v_out")
        writer.add_input(v_in, shape)
        values[node.name] = emit_population(writer, node, sources[0], v_in, None, v_out)
        writer.add_output(v_out, shape)
        if options.raw_spikes:
            spikes = tensor_name(node.name, "spikes")
            writer.cast(values[node.name], spikes, "uint8")
            writer.add_output(spikes, shape, "uint8")
    # gives the result its public name; runtimes remove the addition of 0
    writer.op("Add", [values[graph.output.name], writer.scalar(0)], CURRENT)
