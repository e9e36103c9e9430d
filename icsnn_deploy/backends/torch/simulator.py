"""PyTorch backend: layer by layer, all time steps of a layer at once.

A network without recurrence can be run one layer after the other: the T steps are folded into the
batch for every memoryless node, and only the populations iterate over time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.torch.cuda_graphs import CapturedRuns
from icsnn_deploy.backends.torch.event_convolution import event_convolutions
from icsnn_deploy.backends.torch.float32 import float32_convolutions
from icsnn_deploy.backends.torch.fusion import FusedCurrent, Schedule, schedule
from icsnn_deploy.backends.torch.int8 import int8_convolutions, misfits
from icsnn_deploy.backends.torch.kernels import LayerKernel, kernel_of
from icsnn_deploy.backends.torch.memory import chunks_of, default_memory, sample_bytes
from icsnn_deploy.backends.torch.ops import TorchOps, open_device
from icsnn_deploy.backends.torch.population import Term
from icsnn_deploy.backends.torch.recorder import Recorder
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Add, AnyPopulation, Node, Population
from icsnn_deploy.progress import inner_tracked, report_inner

Observer = Callable[[Population, Tensor, Tensor, "Tensor | None"], None]
"""Called per population with spikes [T, B, *shape], v(T) [B, *shape] and u [T, B, *shape]."""


@dataclass(eq=False)
class Flow:
    """The state of a batch between two steps."""

    inputs: Tensor | None  # [T, B, *shape] of rate and event input
    batch: int
    constants: dict[str, Tensor]  # results that are the same at every step, if others need them
    v: dict[str, Tensor] = field(default_factory=dict)  # after the last step, [B, *shape]
    step: int = 0

    def keep(self, samples: Tensor) -> None:
        """Keep only some samples of the batch, given by a mask [B]."""
        if self.inputs is not None:
            self.inputs = self.inputs[:, samples]
        self.constants = {name: value[samples] for name, value in self.constants.items()}
        self.v = {name: value[samples] for name, value in self.v.items()}
        self.batch = int(samples.sum())


def open_torch(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network, on the device that the option names; see backends.Opener."""
    dtype = torch.float64 if backend.variant == "float64" else torch.float32
    return TorchSimulator(bundle.network(), device=option or "cpu", dtype=dtype)


class TorchSimulator:
    """Runs a graph in PyTorch on one device.

    Args:
        graph: an IF network.
        device: "cpu", "cuda", "cuda:1"...
        dtype: floating type of potentials and weights; float32 or float64.
        memory: bytes for activations; the batch, and if one sample needs more than that also the
            steps, are split into parts that fit. None: 256 MiB, on a GPU a quarter of the free
            memory.
        tf32: let CUDA convolutions round their inputs and weights to TF32; exact only if the
            certificate of an integer network says so.
        int8: run the convolutions of an integer network in 8-bit integers if possible.
        fused: run all steps of a population in one kernel if possible: in C on the CPU, in Triton
            on CUDA. The result is the same.
        cuda_graphs: classify by a CUDA graph, from the second batch of a shape on, if the memory
            holds all steps of a sample.
        only: names of the nodes that `evaluate` is called for, where the network is not run as a
            whole; None: all.

    Raises:
        BackendUnavailableError: the device is not available, or cuda_graphs without CUDA.
        SimulationError: another dtype, or memory below one byte.
    """

    name = "torch"
    gives_logits_t = True
    cuts_batches = True

    def __init__(
        self,
        graph: Graph,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        memory: int | None = None,
        tf32: bool = False,
        int8: bool = True,
        fused: bool = True,
        cuda_graphs: bool = False,
        only: Collection[str] | None = None,
    ) -> None:
        self.graph = graph
        self.time_steps = graph.steps
        if dtype not in (torch.float32, torch.float64):
            raise SimulationError(f"dtype {dtype}: torch.float32 or torch.float64 is needed")
        if memory is not None and not memory >= 1:
            raise SimulationError(
                f"memory of {memory} bytes: at least 1 is needed, or None for the default"
            )
        opened = open_device(device)
        if cuda_graphs and opened.type != "cuda":
            raise BackendUnavailableError(
                f"CUDA graphs on torch device {device!r}: a CUDA device is needed"
            )
        use_int8 = int8 and dtype == torch.float32
        self._int8 = int8_convolutions(graph, opened, only) if use_int8 else {}
        self._float32 = float32_convolutions(graph, opened, dtype, only)
        events = event_convolutions(graph, opened, dtype) if fused else frozenset()
        self.ops = TorchOps(
            graph,
            opened,
            dtype,
            tf32=tf32,
            fused=fused,
            int8=self._int8,
            float32=self._float32,
            events=events,
        )
        self._as_bytes = {graph.node(name).inputs[0] for name in self._int8}
        self._as_events = {graph.node(name).inputs[0] for name in events}
        self.memory = default_memory(opened) if memory is None else memory
        self._constant = graph.constant_nodes()
        changing = (node for node in graph.nodes if node.name not in self._constant)
        self._kept = {graph.output.name, *(name for node in changing for name in node.inputs)}
        self._fuses = fused and opened.type == "cpu" and dtype == torch.float32
        self._classify = CapturedRuns(self.observe) if cuda_graphs else self.observe

    @cached_property
    def _plain(self) -> Schedule:
        return schedule(self.graph, fuse=False)

    @cached_property
    def _fused(self) -> Schedule:
        return schedule(self.graph, fuse=self._fuses)

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        x = check_inputs(self.graph, inputs)
        recorder = Recorder(record)
        chunk, block = self.chunks()
        timed = self.graph.input.is_timed
        batch = x.shape[1] if timed else x.shape[0]
        means = []
        for start in range(0, max(batch, 1), chunk):
            report_inner("samples on torch", start, batch)
            part = slice(start, start + chunk)
            samples = self.ops.tensor(x[:, part] if timed else x[part])
            if record.logits_only and block >= self.time_steps:
                mean = self._classify(samples)
            else:
                mean = self._recorded(samples, block, recorder)
            means.append(mean.cpu().numpy())
        report_inner("samples on torch", batch, batch)
        logits_t = np.concatenate(means, axis=1)  # [T, B, *shape]
        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes=recorder.over_time(recorder.spikes),
            counts=recorder.of_batch(recorder.counts),
            first_spikes=recorder.of_batch(recorder.first_spikes),
            logits_t=logits_t if record.logits_t else None,
            potentials=recorder.over_time(recorder.potentials),
        )

    def _recorded(self, samples: Tensor, block: int, recorder: Recorder) -> Tensor:
        """Run samples in blocks of steps; returns the readout's running mean, [T, B, *shape]."""
        flow = self.begin(samples)
        currents = []
        while flow.step < self.time_steps:
            step = flow.step

            def observe(
                node: Population, spikes: Tensor, v: Tensor, u: Tensor | None, step: int = step
            ) -> None:
                recorder.add(node.name, spikes, u, step)

            currents.append(self.advance(flow, block, observe, recorder.record.potentials))
        return self._running_mean(torch.cat(currents))

    def classify(self, inputs: Array) -> Array:
        """Compute the logits alone, [B, *output shape]; needs the least memory."""
        return self.run(inputs, Record(spikes=False)).logits

    def chunks(self, steps: int | None = None) -> tuple[int, int]:
        """The numbers of samples and time steps to run at once, so that activations fit the memory.

        Args:
            steps: number of steps that should be run at once; None: all T.
        """
        return chunks_of(self.memory, self._sample_bytes, steps or self.time_steps)

    @cached_property
    def _sample_bytes(self) -> tuple[int, int]:
        return sample_bytes(self.graph, torch.finfo(self.ops.dtype).bits // 8)

    def observe(
        self,
        inputs: Array | Tensor,
        observer: Observer | None = None,
        potentials: frozenset[str] = frozenset(),
        sources: Callable[[Node, list[Tensor]], None] | None = None,
    ) -> Tensor:
        """Run one batch and call the observer for each population when it is done.

        Args:
            inputs: one batch, [B, *shape] or [T, B, *shape]; a tensor is one of self.ops.
            observer: called for each population.
            potentials: populations whose u the observer gets.
            sources: called for each memoryless node with its inputs, [T B, ...] or [B, ...].

        Returns:
            running mean of the readout, [T, B, *output shape], 0 up to readout_start.
        """
        flow = self.begin(inputs, sources)
        currents = self.advance(flow, self.time_steps, observer, potentials, sources)
        return self._running_mean(currents)

    def kernels(self) -> dict[str, LayerKernel]:
        """The kernel of each convolution in the last run, by name.

        Empty unless an integer network runs on the CPU in float32: nothing is proven otherwise.
        """
        reasons = misfits(self.graph) if self._float32 else {}
        return {
            name: kernel_of(self._int8.get(name), convolution, reasons.get(name))
            for name, convolution in self._float32.items()
        }

    @torch.no_grad()
    def begin(
        self, inputs: Array | Tensor, sources: Callable[[Node, list[Tensor]], None] | None = None
    ) -> Flow:
        """Prepare a batch for its first step; computes what is the same at every step."""
        x = inputs if isinstance(inputs, Tensor) else self.ops.tensor(inputs)
        timed = self.graph.input.is_timed
        values = {} if timed else {self.graph.input.name: x}
        constant = [node for node in self.graph.nodes[1:] if node.name in self._constant]
        for node in inner_tracked(constant, "layers computed once"):
            incoming = [values[name] for name in node.inputs]
            if sources is not None:
                sources(node, incoming)
            values[node.name] = self.ops.evaluate(node, *incoming)
        return Flow(
            inputs=x if timed else None,
            batch=x.shape[1] if timed else x.shape[0],
            constants={name: value for name, value in values.items() if name in self._kept},
        )

    @torch.no_grad()
    def advance(
        self,
        flow: Flow,
        steps: int,
        observer: Observer | None = None,
        potentials: frozenset[str] = frozenset(),
        sources: Callable[[Node, list[Tensor]], None] | None = None,
    ) -> Tensor:
        """Run a batch for the next steps.

        Args:
            flow: the batch; its potentials and its step are updated.
            steps: number of steps; fewer are run if T is reached.
            observer: called for each population.
            potentials: populations whose u the observer gets.
            sources: called for each memoryless node that changes over time, with its inputs.

        Returns:
            the readout's current at each of these steps, [K, B, *output shape].
        """
        steps = min(steps, self.time_steps - flow.step)
        values = dict(flow.constants)
        if flow.inputs is not None:
            values[self.graph.input.name] = flow.inputs[flow.step : flow.step + steps].flatten(0, 1)
        plan = self._fused if sources is None else self._plain
        as_bytes = self._as_bytes | self._as_events if sources is None else self._as_bytes
        for node in inner_tracked(plan.nodes, "layers on torch"):
            if isinstance(node, Population):
                spikes, v, u = self._fire(
                    *(node, values, flow, steps, plan.fused.get(node.name)),
                    keep_potentials=node.name in potentials,
                    as_bytes=node.name in as_bytes,
                )
                if observer is not None:
                    observer(node, spikes, v, u)
                values[node.name] = spikes.flatten(0, 1)  # [K B, *shape]
                flow.v[node.name] = v
            else:
                incoming = [values[name] for name in node.inputs]
                if sources is not None:
                    sources(node, incoming)
                values[node.name] = self.evaluate(node, incoming, steps)
            for name in plan.unused_after[node.name]:
                values.pop(name, None)
        flow.step += steps
        name = self.graph.output.name
        return self.over_time(name, values[name], flow.batch, steps)

    def _fire(
        self,
        node: AnyPopulation,
        values: dict[str, Tensor],
        flow: Flow,
        steps: int,
        fused: FusedCurrent | None,
        *,
        keep_potentials: bool,
        as_bytes: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Run a population for some steps; see TorchOps.fire."""
        v = flow.v.get(node.name, self.ops.parameter(node, "v_init"))
        if fused is not None:
            terms = [
                Term(
                    values=self.over_time(name, values[name], flow.batch, steps),
                    scale=None if scale is None else self.ops.parameter(scale, "scale"),
                    shift=None if scale is None else self.ops.parameter(scale, "shift"),
                )
                for name, scale in fused.terms
            ]
            result = self.ops.fire_terms(
                node, terms, v, keep_potentials=keep_potentials, as_bytes=as_bytes
            )
            if result is not None:
                return result
            values = dict(values)
            for inner in fused.nodes:
                sources = [values[name] for name in inner.inputs]
                values[inner.name] = self.evaluate(inner, sources, steps)
        name = node.inputs[0]
        current = self.over_time(name, values[name], flow.batch, steps)
        return self.ops.fire(node, current, v, keep_potentials=keep_potentials, as_bytes=as_bytes)

    def over_time(self, name: str, value: Tensor, batch: int, steps: int | None = None) -> Tensor:
        """A node's folded or constant value with a time axis, as a view [T or steps, B, *shape]."""
        steps = steps or self.time_steps
        if name in self._constant:
            return value.unsqueeze(0).expand(steps, *value.shape)
        return value.reshape(steps, batch, *value.shape[1:])

    def evaluate(self, node: Node, sources: list[Tensor], steps: int | None = None) -> Tensor:
        """Evaluate a memoryless node on values folded over time; repeats a sum's constant terms."""
        if isinstance(node, Add) and node.name not in self._constant:
            sources = [
                source.repeat(steps or self.time_steps, *(1,) * (source.ndim - 1))
                if name in self._constant
                else source
                for name, source in zip(node.inputs, sources, strict=True)
            ]
        return self.ops.evaluate(node, *sources)

    def _running_mean(self, currents: Tensor) -> Tensor:
        start = self.graph.readout_start
        summed = torch.zeros_like(currents)
        summed[start:] = currents[start:].cumsum(dim=0)
        count = (torch.arange(1, self.time_steps + 1, device=currents.device) - start).clamp(min=1)
        return summed / count.reshape(-1, *(1,) * (currents.ndim - 1))
