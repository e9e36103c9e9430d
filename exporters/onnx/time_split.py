"""Split a network over T steps into constant nodes, nodes per step, and the readout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icsnn_deploy.exporters.onnx.contract import LOGITS, tensor_name
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched, emit
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Input, Node


@dataclass(frozen=True, kw_only=True)
class TimeSplit:
    """The nodes of a network without its input, in topological order.

    Args:
        constant: nodes whose result is the same at every step; written once.
        per_step: nodes that spikes depend on; written or run at every step.
        readout: nodes that lead to no population. They are linear, so that they are written once,
            after a sum over time.
        readout_inputs: names of the results that enter the readout, without constant ones.
    """

    constant: tuple[Node, ...]
    per_step: tuple[Node, ...]
    readout: tuple[Node, ...]
    readout_inputs: tuple[str, ...]

    @classmethod
    def of(cls, graph: Graph) -> TimeSplit:
        """Split a network."""
        constant, readout = graph.constant_nodes(), graph.readout_nodes()
        nodes = [node for node in graph.nodes if not isinstance(node, Input)]
        late = [node for node in nodes if node.name in readout]
        readout_inputs = (source for node in late for source in node.inputs)
        return cls(
            constant=tuple(node for node in nodes if node.name in constant),
            per_step=tuple(node for node in nodes if node.name not in constant | readout),
            readout=tuple(late),
            readout_inputs=tuple(
                dict.fromkeys(n for n in readout_inputs if n not in constant | readout)
            ),
        )


def write_readout(
    writer: OnnxWriter,
    graph: Graph,
    parts: TimeSplit,
    sources: Mapping[str, str],
    step: int | None = None,
    repeat_count: int = 1,
) -> str:
    """Write the readout nodes on these sources; returns the name of the output's tensor."""
    values = dict(sources)
    for node in parts.readout:
        wired = [values[name] for name in node.inputs]
        values[node.name] = emit(writer, graph, node, wired, step, repeat_count)
    return values[graph.output.name]


def write_mean(
    writer: OnnxWriter,
    graph: Graph,
    parts: TimeSplit,
    constants: Mapping[str, str],
    sums: Mapping[str, str],
) -> None:
    """Write logits = readout(sum over the n steps read out of its inputs) / n.

    Args:
        writer: the ONNX graph to add to.
        graph: the network.
        parts: of the network.
        constants: tensors of the constant nodes, and of the input if it is constant.
        sums: for each of readout_inputs, the tensor of its sum over the steps read out.
    """
    count = graph.steps - graph.readout_start
    sources = dict(sums)
    taken = {name for node in parts.readout for name in node.inputs} | {graph.output.name}
    for name in [name for name in constants if name in taken]:
        operands = [constants[name], writer.scalar(count)]
        sources[name] = writer.op("Mul", operands, tensor_name(name, "sum"))
    total = write_readout(writer, graph, parts, sources, repeat_count=count)
    writer.op("Div", [total, writer.scalar(count)], LOGITS)
    writer.add_output(LOGITS, batched(graph.shape(graph.output.name)))
