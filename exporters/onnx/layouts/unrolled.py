"""The unrolled layout: the network written T times, with shared parameters."""

from __future__ import annotations

from collections.abc import Mapping

from icsnn_deploy.exporters.onnx.contract import (
    LOGITS,
    LOGITS_T,
    OnnxOptions,
    constant_name,
    raw_spikes_name,
    spike_count_name,
    tensor_name,
)
from icsnn_deploy.exporters.onnx.operators import OnnxWriter, batched, emit, emit_population
from icsnn_deploy.exporters.onnx.parts import write_input
from icsnn_deploy.exporters.onnx.time_split import TimeSplit, write_mean, write_readout
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population


def write_unrolled(writer: OnnxWriter, graph: Graph, options: OnnxOptions) -> None:
    """Write all T steps, the readout and the outputs that the options ask for."""
    _Unrolled(writer, graph, options).write()


class _Unrolled:
    """Writes constant nodes once, nodes per step T times, and the readout after a sum over time."""

    def __init__(self, writer: OnnxWriter, graph: Graph, options: OnnxOptions) -> None:
        self.writer, self.graph, self.options = writer, graph, options
        self.parts = TimeSplit.of(graph)
        self.populations = graph.nodes_of(Population)
        self.constants: dict[str, str] = {}  # tensors of constant nodes
        self.v = {node.name: writer.parameter(node, "v_init") for node in self.populations}
        self.sums: dict[str, str] = {}  # over the steps read out so far
        self.counts: dict[str, str] = {}
        self.currents: dict[int, str] = {}  # the readout's, by step; only for logits_t
        self.spikes: dict[str, list[str]] = {node.name: [] for node in self.populations}

    def write(self) -> None:
        samples = self._input()
        for node in self.parts.constant:
            sources = [self.constants[name] for name in node.inputs]
            self.constants[node.name] = emit(self.writer, self.graph, node, sources, None)
        for step in range(1, self.graph.steps + 1):
            values = dict(self.constants)
            if samples:
                values[self.graph.input.name] = samples[step - 1]
            self._step(step, values)
            self._gather(step, values)
        if self.options.logits_t:
            self._running_mean()
        else:
            write_mean(self.writer, self.graph, self.parts, self.constants, self.sums)
        self._spike_outputs()

    def _input(self) -> list[str]:
        """Declare the input as float32; returns one tensor per step, none for direct encoding."""
        node, writer = self.graph.input, self.writer
        timed = node.is_timed
        steps = self.graph.steps
        x = write_input(writer, node, steps)
        if not timed:
            self.constants[node.name] = x
            return []
        slices = [tensor_name(node.name, "slice", step) for step in range(1, steps + 1)]
        writer.op("Split", [x, writer.integers([1] * steps)], slices, {"axis": 0})
        shape = writer.integers([-1, *node.shape])
        names = [tensor_name(node.name, "y", step) for step in range(1, steps + 1)]
        for name, one in zip(names, slices, strict=True):
            writer.op("Reshape", [one, shape], name)  # [1, N, *shape] -> [N, *shape]
        return names

    def _step(self, step: int, values: dict[str, str]) -> None:
        """Write the nodes of one step, and add their results to `values`."""
        last = step == self.graph.steps
        for node in self.parts.per_step:
            sources = [values[name] for name in node.inputs]
            if isinstance(node, Population):
                v = None if last else tensor_name(node.name, "v", step)
                result = emit_population(self.writer, node, sources[0], self.v[node.name], step, v)
                if v is not None:
                    self.v[node.name] = v
            else:
                result = emit(self.writer, self.graph, node, sources, step)
            values[node.name] = result

    def _gather(self, step: int, values: Mapping[str, str]) -> None:
        """Add this step's results to the sums, counts and spikes over time."""
        for node in self.populations:
            spikes = values[node.name]
            self.spikes[node.name].append(spikes)
            if self.options.spike_counts:
                self._accumulate(self.counts, node.name, "count", step, spikes)
        if step <= self.graph.readout_start:
            return
        if self.options.logits_t:
            self.currents[step] = write_readout(self.writer, self.graph, self.parts, values, step)
            return
        for name in self.parts.readout_inputs:
            self._accumulate(self.sums, name, "sum", step, values[name])

    def _accumulate(self, sums: dict[str, str], name: str, role: str, step: int, x: str) -> None:
        if name in sums:
            x = self.writer.op("Add", [sums[name], x], tensor_name(name, role, step))
        sums[name] = x

    def _running_mean(self) -> None:
        """logits_t[t] = mean over (readout_start, t]; the last one is the logits."""
        writer, start, last = self.writer, self.graph.readout_start, self.graph.steps
        means: list[str] = []
        total = ""
        for step, current in self.currents.items():
            name = tensor_name(self.graph.output.name, "sum", step)
            total = writer.op("Add", [total, current], name) if total else current
            mean = LOGITS if step == last else tensor_name(self.graph.output.name, "mean", step)
            means.append(writer.op("Div", [total, writer.scalar(step - start)], mean))
        if start:
            zero = writer.op("Sub", [means[0], means[0]], constant_name("zero_logits"))
            means = [zero] * start + means
        shape = self.graph.shape(self.graph.output.name)
        self._stack(means, shape, LOGITS_T)
        writer.add_output(LOGITS, batched(shape))
        writer.add_output(LOGITS_T, batched(shape, last))

    def _stack(self, rows: list[str], shape: tuple[int, ...], result: str) -> None:
        """T tensors [N, *shape] -> one [T, N, *shape]."""
        joined = self.writer.op("Concat", rows, constant_name(f"{result}_joined"), {"axis": 0})
        # -1 is the batch: [T * N, *shape] -> [T, N, *shape]
        to = self.writer.integers([len(rows), -1, *shape])
        self.writer.op("Reshape", [joined, to], result)

    def _spike_outputs(self) -> None:
        writer = self.writer
        for node in self.populations:
            name, shape = node.name, self.graph.shape(node.name)
            if self.options.spike_counts:
                writer.cast(self.counts[name], spike_count_name(name), "int32")
                writer.add_output(spike_count_name(name), batched(shape), "int32")
            if self.options.raw_spikes:
                stacked = tensor_name(name, "spikes")
                self._stack(self.spikes[name], shape, stacked)
                writer.cast(stacked, raw_spikes_name(name), "uint8")
                writer.add_output(raw_spikes_name(name), batched(shape, self.graph.steps), "uint8")
