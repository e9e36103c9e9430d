"""The folded layouts: nodes without memory run once on all steps, only populations iterate.

A tensor is folded, [T*N, *shape], where layers work on it, and stacked, [T, N, *shape], where time
matters. The two forms are the same bytes: a Reshape between them costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.onnx.contract import (
    LOGITS,
    LOGITS_T,
    OnnxOptions,
    constant_name,
    raw_spikes_name,
    spike_count_name,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched, emit, emit_population, folded
from icsnn_deploy.exporters.onnx.parts import write_input
from icsnn_deploy.exporters.onnx.time_split import TimeSplit, write_mean
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, AnyPopulation, Node, Population, Shape


@dataclass(frozen=True, kw_only=True)
class Currents:
    """Input current of a population."""

    tensor: str  # [N, *shape] if constant, else [T, N, *shape]
    constant: bool  # whether it is the same at every step
    shape: Shape
    steps: int


Recurrence = Callable[[OnnxWriter, AnyPopulation, Currents], None]
"""Writes a population over all steps: its spikes <population>/s, [T, N, *shape]."""


def write_folded(
    writer: OnnxWriter,
    graph: Graph,
    options: OnnxOptions,
    recurrence: Recurrence | None = None,
) -> None:
    """Write all T steps, the readout and the outputs that the options ask for.

    Args:
        writer: the ONNX graph to add to.
        graph: the network.
        options: the outputs to add.
        recurrence: writes a population over all steps; None: `write_steps`.
    """
    _Folded(writer, graph, options, recurrence or write_steps).write()


def write_steps(writer: OnnxWriter, node: AnyPopulation, currents: Currents) -> None:
    """Write the IF step T times, on slices of the current."""
    name, shape, steps = node.name, currents.shape, range(1, currents.steps + 1)
    row: list[int | str] = batched(shape, 1)
    if currents.constant:
        to = writer.integers([1, -1, *shape])
        slices = [writer.op("Reshape", [currents.tensor, to], tensor_name(name, "current"))]
        slices *= currents.steps
    else:
        slices = [tensor_name(name, "current", step) for step in steps]
        sizes = writer.integers([1] * currents.steps)
        writer.op("Split", [currents.tensor, sizes], slices, {"axis": 0})
    for tensor in dict.fromkeys(slices):
        writer.describe(tensor, row)
    v, rows = writer.parameter(node, "v_init"), []
    for step, current in zip(steps, slices, strict=True):
        after = None if step == currents.steps else tensor_name(name, "v", step)
        rows.append(emit_population(writer, node, current, v, step, after))
        writer.describe(rows[-1], row)
        v = after or v
    writer.op("Concat", rows, tensor_name(name, "s"), {"axis": 0})


class _Folded:
    """Writes constant nodes once, others on all steps at once, the readout on a sum over time."""

    def __init__(
        self, writer: OnnxWriter, graph: Graph, options: OnnxOptions, recurrence: Recurrence
    ) -> None:
        self.writer, self.graph, self.options = writer, graph, options
        self.recurrence = recurrence
        self.parts = TimeSplit.of(graph)
        self.constants: dict[str, str] = {}  # tensors of constant nodes, [N, *shape]
        self.folded: dict[str, str] = {}  # of the others, [T*N, *shape]
        self.stacked: dict[str, str] = {}  # the same, [T, N, *shape]

    def write(self) -> None:
        source = self.graph.input
        x = write_input(self.writer, source, self.graph.steps)
        if not source.is_timed:
            self.constants[source.name] = x
        else:
            self.stacked[source.name] = x
            self._fold(source.name)
        for node in self.parts.constant:
            sources = [self.constants[name] for name in node.inputs]
            self.constants[node.name] = emit(self.writer, self.graph, node, sources, None)
        for node in self.parts.per_step:
            self._per_step(node)
        if self.options.logits_t:
            self._running_mean()
        else:
            sums = {name: self._sum(name) for name in self.parts.readout_inputs}
            write_mean(self.writer, self.graph, self.parts, self.constants, sums)
        self._spike_outputs()

    # Between the two forms of a tensor

    def _fold(self, name: str) -> None:
        """[T, N, *shape] -> [T*N, *shape]."""
        shape = self.graph.shape(name)
        to = self.writer.integers([-1, *shape])
        self.folded[name] = tensor_name(name, "folded")
        self.writer.op("Reshape", [self.stacked[name], to], self.folded[name])
        self.writer.describe(self.folded[name], folded(shape))

    def _stack(self, name: str) -> str:
        """[T*N, *shape] -> [T, N, *shape]."""
        if name not in self.stacked:
            shape, steps = self.graph.shape(name), self.graph.steps
            to = self.writer.integers([steps, -1, *shape])
            self.stacked[name] = tensor_name(name, "stacked")
            self.writer.op("Reshape", [self.folded[name], to], self.stacked[name])
            # With an unnamed batch axis per tensor, loading would take T^2 time.
            self.writer.describe(self.stacked[name], batched(shape, steps))
        return self.stacked[name]

    # The nodes

    def _per_step(self, node: Node) -> None:
        if isinstance(node, Population):
            source = node.inputs[0]
            constant = source in self.constants
            currents = Currents(
                tensor=self.constants[source] if constant else self._stack(source),
                constant=constant,
                shape=self.graph.shape(node.name),
                steps=self.graph.steps,
            )
            self.recurrence(self.writer, node, currents)
            self.stacked[node.name] = tensor_name(node.name, "s")
            self._fold(node.name)
        elif isinstance(node, Add) and any(name in self.constants for name in node.inputs):
            # a constant term has no time axis: it is added to every step
            sources = [self.constants.get(name) or self._stack(name) for name in node.inputs]
            self.stacked[node.name] = emit(self.writer, self.graph, node, sources, None)
            self._fold(node.name)
        else:
            sources = [self.folded[name] for name in node.inputs]
            self.folded[node.name] = emit(self.writer, self.graph, node, sources, None)
            self.writer.describe(self.folded[node.name], folded(self.graph.shape(node.name)))

    # The outputs

    def _sum(self, name: str) -> str:
        """Sum over the steps that are read out, [T, N, *shape] -> [N, *shape]."""
        x, start = self._stack(name), self.graph.readout_start
        if start:
            x = self._rows(x, start, self.graph.steps, tensor_name(name, "read"))
        return self._sum_over_time(x, tensor_name(name, "sum"))

    def _rows(self, x: str, start: int, stop: int, result: str) -> str:
        """The steps in (start, stop] of a stacked tensor."""
        ends = [self.writer.integers([end]) for end in (start, stop, 0)]
        return self.writer.op("Slice", [x, *ends], result)

    def _sum_over_time(self, x: str, result: str) -> str:
        return self.writer.op("ReduceSum", [x, self.writer.integers([0])], result, {"keepdims": 0})

    def _running_mean(self) -> None:
        """logits_t[t] = mean over (readout_start, t]; the last one is the logits."""
        writer, start, steps = self.writer, self.graph.readout_start, self.graph.steps
        output, shape = self.graph.output.name, self.graph.shape(self.graph.output.name)
        for node in self.parts.readout:
            self._per_step(node)
        x = self.constants[output] if output in self.constants else self._stack(output)
        column = (steps, *(1,) * (1 + len(shape)))
        since = np.arange(1, steps + 1, dtype=np.float32).reshape(column) - np.float32(start)
        if start or output in self.constants:  # also gives a constant result its time axis
            kept = writer.constant(constant_name("kept"), (since > 0).astype(np.float32))
            x = writer.op("Mul", [x, kept], tensor_name(output, "kept"))
        axis = writer.constant(constant_name("time_axis"), np.array(0, np.int64))
        total = writer.op("CumSum", [x, axis], tensor_name(output, "sums"))
        counts = writer.constant(constant_name("counts"), np.maximum(since, np.float32(1)))
        writer.op("Div", [total, counts], LOGITS_T)
        last = self._rows(LOGITS_T, steps - 1, steps, tensor_name(output, "last"))
        writer.op("Reshape", [last, writer.integers([-1, *shape])], LOGITS)
        writer.add_output(LOGITS, batched(shape))
        writer.add_output(LOGITS_T, batched(shape, steps))

    def _spike_outputs(self) -> None:
        writer, steps = self.writer, self.graph.steps
        for node in self.graph.nodes_of(Population):
            name, shape = node.name, self.graph.shape(node.name)
            if self.options.spike_counts:
                counts = self._sum_over_time(self.stacked[name], tensor_name(name, "count"))
                writer.cast(counts, spike_count_name(name), "int32")
                writer.add_output(spike_count_name(name), batched(shape), "int32")
            if self.options.raw_spikes:
                writer.cast(self.stacked[name], raw_spikes_name(name), "uint8")
                writer.add_output(raw_spikes_name(name), batched(shape, steps), "uint8")
