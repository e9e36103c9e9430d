"""The unrolled layout: the layer graph T times over, the constants shared."""

from __future__ import annotations

from collections.abc import Mapping

from icsnn_deploy.exporters.onnx_format import (
    INPUT,
    LOGITS,
    LOGITS_T,
    OnnxOptions,
    constant_name,
    raw_spikes_name,
    spike_count_name,
    tensor_name,
)
from icsnn_deploy.exporters.onnx_ops import OnnxWriter, batched, emit, emit_if
from icsnn_deploy.graph import Graph
from icsnn_deploy.nodes import IF, Input


def write_unrolled(writer: OnnxWriter, graph: Graph, options: OnnxOptions) -> None:
    """Write all T steps, the readout and the outputs that the options ask for."""
    _Unrolled(writer, graph, options).write()


class _Unrolled:
    """The nodes in three parts: the steady ones stand once, those that spikes depend on at every
    step, and the tail, which is linear, once behind a sum over time.
    """

    def __init__(self, writer: OnnxWriter, graph: Graph, options: OnnxOptions) -> None:
        self.writer, self.graph, self.options = writer, graph, options
        steady, tail = graph.steady(), _tail(graph)
        nodes = [node for node in graph.nodes if not isinstance(node, Input)]
        self.steady = [node for node in nodes if node.name in steady]
        self.tail = [node for node in nodes if node.name in tail]
        self.stepped = [node for node in nodes if node.name not in steady | tail]
        self.populations = graph.nodes_of(IF)
        # Where the tail begins: the results whose sum over time it takes.
        entries = (source for node in self.tail for source in node.inputs)
        self.entries = dict.fromkeys(name for name in entries if name not in steady | tail)
        self.once: dict[str, str] = {}  # tensors of steady nodes
        self.v = {node.name: writer.parameter(node, "v_init") for node in self.populations}
        self.sums: dict[str, str] = {}  # over the steps read out so far
        self.counts: dict[str, str] = {}
        self.currents: dict[int, str] = {}  # the readout's, by step; only for logits_t
        self.spikes: dict[str, list[str]] = {node.name: [] for node in self.populations}

    def write(self) -> None:
        samples = self._input()
        for node in self.steady:
            sources = [self.once[name] for name in node.inputs]
            self.once[node.name] = emit(self.writer, self.graph, node, sources, None)
        for step in range(1, self.graph.steps + 1):
            values = dict(self.once)
            if samples:
                values[self.graph.input.name] = samples[step - 1]
            self._step(step, values)
            self._gather(step, values)
        if self.options.logits_t:
            self._running_mean()
        else:
            self._mean_of_sums()
        self._spike_outputs()

    def _input(self) -> list[str]:
        """The input as float32: once for direct encoding, else a tensor for each step."""
        node, writer = self.graph.input, self.writer
        timed = node.encoding != "direct"
        steps = self.graph.steps
        writer.add_input(INPUT, batched(node.shape, steps if timed else None), node.dtype)
        x = INPUT
        if node.dtype != "float32":
            x = writer.cast(INPUT, tensor_name(node.name, "float"), "float32")
        if not timed:
            self.once[node.name] = x
            return []
        slices = [tensor_name(node.name, "slice", step) for step in range(1, steps + 1)]
        writer.op("Split", [x, writer.integers([1] * steps)], slices, {"axis": 0})
        shape = writer.integers([-1, *node.shape])
        names = [tensor_name(node.name, "y", step) for step in range(1, steps + 1)]
        for name, one in zip(names, slices, strict=True):
            writer.op("Reshape", [one, shape], name)  # [1, N, *shape] -> [N, *shape]
        return names

    def _step(self, step: int, values: dict[str, str]) -> None:
        """Write the nodes between the steady ones and the tail; adds their results to values."""
        last = step == self.graph.steps
        for node in self.stepped:
            sources = [values[name] for name in node.inputs]
            if isinstance(node, IF):
                v = None if last else tensor_name(node.name, "v", step)
                result = emit_if(self.writer, node, sources[0], self.v[node.name], step, v)
                if v is not None:
                    self.v[node.name] = v
            else:
                result = emit(self.writer, self.graph, node, sources, step)
            values[node.name] = result

    def _gather(self, step: int, values: Mapping[str, str]) -> None:
        """Add this step's results to what is kept over time."""
        for node in self.populations:
            spikes = values[node.name]
            self.spikes[node.name].append(spikes)
            if self.options.spike_counts:
                self._accumulate(self.counts, node.name, "count", step, spikes)
        if step <= self.graph.readout_start:
            return
        if self.options.logits_t:
            self.currents[step] = self._readout(values, step, 1)
            return
        for name in self.entries:
            self._accumulate(self.sums, name, "sum", step, values[name])

    def _accumulate(self, sums: dict[str, str], name: str, role: str, step: int, x: str) -> None:
        if name in sums:
            x = self.writer.op("Add", [sums[name], x], tensor_name(name, role, step))
        sums[name] = x

    def _readout(self, sources: Mapping[str, str], step: int | None, times: int) -> str:
        """Write the tail over its sources; returns the name of the readout's result."""
        values = dict(sources)
        for node in self.tail:
            wired = [values[name] for name in node.inputs]
            values[node.name] = emit(self.writer, self.graph, node, wired, step, times)
        return values[self.graph.output.name]

    def _mean_of_sums(self) -> None:
        """Logits = tail(sum over time of what enters it) / n."""
        writer = self.writer
        count = self.graph.steps - self.graph.readout_start
        sources = dict(self.sums)
        taken = {name for node in self.tail for name in node.inputs} | {self.graph.output.name}
        for name in [name for name in self.once if name in taken]:
            operands = [self.once[name], writer.scalar(count)]
            sources[name] = writer.op("Mul", operands, tensor_name(name, "sum"))
        total = self._readout(sources, None, count)
        writer.op("Div", [total, writer.scalar(count)], LOGITS)
        writer.add_output(LOGITS, batched(self._output_shape))

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
        self._stack(means, self._output_shape, LOGITS_T)
        writer.add_output(LOGITS, batched(self._output_shape))
        writer.add_output(LOGITS_T, batched(self._output_shape, last))

    @property
    def _output_shape(self) -> tuple[int, ...]:
        return self.graph.shape(self.graph.output.name)

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


def _tail(graph: Graph) -> frozenset[str]:
    """Nodes that change over time and lead to no population: linear in what enters them."""
    steady = graph.steady()
    tail: set[str] = set()
    for node in reversed(graph.nodes):
        memoryless = not isinstance(node, IF | Input) and node.name not in steady
        if memoryless and all(consumer.name in tail for consumer in graph.consumers(node.name)):
            tail.add(node.name)
    return frozenset(tail)
