"""What stands once and what iterates: a network over T steps in three parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icsnn_deploy.exporters.onnx.contract import LOGITS, tensor_name
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched, emit
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Input, Node


@dataclass(frozen=True, kw_only=True)
class TimeSplit:
    """The nodes without the input, in topological order."""

    constant: tuple[Node, ...]  # the same at every step: written once
    per_step: tuple[Node, ...]  # what spikes depend on
    readout: tuple[Node, ...]  # leads to no population: linear, so once behind a sum over time
    readout_inputs: tuple[
        str, ...
    ]  # where the tail begins: the results whose sum over time it takes

    @classmethod
    def of(cls, graph: Graph) -> TimeSplit:
        """The parts of a network."""
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


def write_tail(
    writer: OnnxWriter,
    graph: Graph,
    parts: TimeSplit,
    sources: Mapping[str, str],
    step: int | None = None,
    repeat_count: int = 1,
) -> str:
    """Write the tail over its sources; returns the name of the readout's result."""
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
    """Logits = tail(sum over time of what enters it) / n.

    Args:
        once: tensors of the steady nodes, and of the input if that is steady.
        sums: over the n steps that are read out, of each entry.
    """
    count = graph.steps - graph.readout_start
    sources = dict(sums)
    taken = {name for node in parts.readout for name in node.inputs} | {graph.output.name}
    for name in [name for name in constants if name in taken]:
        operands = [constants[name], writer.scalar(count)]
        sources[name] = writer.op("Mul", operands, tensor_name(name, "sum"))
    total = write_tail(writer, graph, parts, sources, repeat_count=count)
    writer.op("Div", [total, writer.scalar(count)], LOGITS)
    writer.add_output(LOGITS, batched(graph.shape(graph.output.name)))
