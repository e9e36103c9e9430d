"""PyTorch backend: layer by layer, all time steps of a layer at once.

A network without recurrence can be run one layer after the other: the T steps are folded into the
batch for every memoryless node, and only the populations iterate over time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.encoding import check_inputs
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF, Add, Node
from icsnn_deploy.simulate.recording import (
    Record,
    Recording,
    count_spikes,
    first_spike_times,
)
from icsnn_deploy.simulate.torch_ops import TorchOps, integrate_and_fire, open_device

Observer = Callable[[IF, Tensor, Tensor, "Tensor | None"], None]
"""Called per population with spikes [T, B, *shape], v(T) [B, *shape] and u [T, B, *shape]."""

DEFAULT_MEMORY = 1 << 30  # bytes of activations alive at once


class TorchSimulator:
    """Runs a graph in PyTorch on one device.

    Args:
        graph: an IF network.
        device: "cpu", "cuda", "cuda:1"...
        dtype: floating type of potentials and weights.
        memory: bytes that activations may take; the batch is cut into chunks that fit.
        tf32: let CUDA round what convolutions multiply to TF32; exact only where the certificate
            of an integer network says so.

    Raises:
        BackendUnavailableError: the device is not there.
    """

    name = "torch"

    def __init__(
        self,
        graph: Graph,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        memory: int = DEFAULT_MEMORY,
        tf32: bool = False,
    ) -> None:
        self.graph = graph
        self.time_steps = graph.steps
        self.ops = TorchOps(graph, open_device(device), dtype, tf32=tf32)
        self.memory = memory
        self._steady = graph.steady()

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        x = check_inputs(self.graph, inputs)
        parts: dict[str, dict[str, list[Array]]] = {
            key: {} for key in ("spikes", "counts", "first_spikes", "potentials")
        }

        def observe(node: IF, spikes: Tensor, v: Tensor, u: Tensor | None) -> None:
            found: dict[str, Array] = {}
            if record.spikes or record.first_spikes or record.counts:
                s = spikes.to(torch.uint8).cpu().numpy()
                if record.spikes:
                    found["spikes"] = s
                if record.counts:
                    found["counts"] = count_spikes(s)
                if record.first_spikes:
                    found["first_spikes"] = first_spike_times(s)
            if u is not None:
                found["potentials"] = u.cpu().numpy()
            for key, value in found.items():
                parts[key].setdefault(node.name, []).append(value)

        currents = [
            self.observe(chunk, observe, record.potentials).cpu().numpy()
            for chunk in self._chunks(x)
        ]
        logits_t = np.concatenate(currents, axis=1)  # [T, B, *shape]
        timed_axis = {"spikes": 1, "potentials": 1, "counts": 0, "first_spikes": 0}

        def whole(key: str) -> Mapping[str, Array]:
            return {n: np.concatenate(p, axis=timed_axis[key]) for n, p in parts[key].items()}

        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes=whole("spikes"),
            counts=whole("counts"),
            first_spikes=whole("first_spikes"),
            logits_t=logits_t if record.logits_t else None,
            potentials=whole("potentials"),
        )

    def classify(self, inputs: Array) -> Array:
        """Logits alone, [B, *output shape], at the least memory."""
        return self.run(inputs, Record(spikes=False)).logits

    def _chunks(self, x: Array) -> Iterator[Array]:
        timed = self.graph.input.encoding != "direct"
        batch = x.shape[1] if timed else x.shape[0]
        size = max(1, self.memory // self.bytes_per_sample())
        for start in range(0, max(batch, 1), size):
            part = slice(start, start + size)
            yield x[:, part] if timed else x[part]

    def bytes_per_sample(self) -> int:
        """Bytes of activations alive at the widest point, for one sample."""
        element = torch.finfo(self.ops.dtype).bits // 8
        size = {
            node.name: element
            * int(np.prod(self.graph.shape(node.name)))
            * (1 if node.name in self._steady else self.time_steps)
            for node in self.graph.nodes
        }
        alive = peak = 0
        for node, dead in zip(self.graph.nodes, self._last_uses(), strict=True):
            alive += size[node.name]
            peak = max(peak, alive)
            alive -= sum(size[name] for name in dead)
        return max(peak, 1)

    def _last_uses(self) -> list[list[str]]:
        """For each node, the values that nothing after it takes."""
        last = {name: i for i, node in enumerate(self.graph.nodes) for name in node.inputs}
        dead: list[list[str]] = [[] for _ in self.graph.nodes]
        for name, index in last.items():
            dead[index].append(name)
        return dead

    @torch.no_grad()
    def observe(
        self,
        inputs: Array,
        observer: Observer | None = None,
        potentials: frozenset[str] = frozenset(),
        sources: Callable[[Node, list[Tensor]], None] | None = None,
    ) -> Tensor:
        """Run one batch and show each population to the observer as it is done.

        Args:
            inputs: one batch.
            observer: called for each population.
            potentials: populations whose u the observer gets.
            sources: called for each memoryless node with what comes in, [T B, ...] or [B, ...].

        Returns:
            running mean of the readout, [T, B, *output shape], 0 up to readout_start.
        """
        x = self.ops.tensor(inputs)
        timed = self.graph.input.encoding != "direct"
        batch = x.shape[1] if timed else x.shape[0]
        values = {self.graph.input.name: x.flatten(0, 1) if timed else x}  # [T B, ...] or [B, ...]
        dead = self._last_uses()
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            incoming = [values[name] for name in node.inputs]
            if isinstance(node, IF):
                spikes, v, u = integrate_and_fire(
                    self.over_time(node.inputs[0], incoming[0], batch),
                    self.ops.parameter(node, "v_init"),
                    self.ops.parameter(node, "v_threshold"),
                    None if node.v_reset is None else self.ops.parameter(node, "v_reset"),
                    keep_potentials=node.name in potentials,
                )
                if observer is not None:
                    observer(node, spikes, v, u)
                values[node.name] = spikes.flatten(0, 1)  # [T B, *shape]
            else:
                if sources is not None:
                    sources(node, incoming)
                values[node.name] = self.evaluate(node, incoming)
            for name in dead[index]:
                values.pop(name, None)
        name = self.graph.output.name
        return self._running_mean(self.over_time(name, values[name], batch))

    def over_time(self, name: str, value: Tensor, batch: int) -> Tensor:
        """A node's folded or steady value with its time axis, a view [T, B, *shape]."""
        if name in self._steady:
            return value.unsqueeze(0).expand(self.time_steps, *value.shape)
        return value.reshape(self.time_steps, batch, *value.shape[1:])

    def evaluate(self, node: Node, sources: list[Tensor]) -> Tensor:
        """A memoryless node on values folded over time; steady sources of a sum are repeated."""
        if isinstance(node, Add) and node.name not in self._steady:
            sources = [
                source.repeat(self.time_steps, *(1,) * (source.ndim - 1))
                if name in self._steady
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


class TorchANN:
    """Runs an ANN graph in PyTorch on one device."""

    def __init__(
        self, graph: Graph, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.graph = graph
        self.ops = TorchOps(graph, open_device(device), dtype)

    @torch.no_grad()
    def run(self, inputs: Array, observer: Callable[[Node, Tensor], None] | None = None) -> Array:
        """Logits [B, *output shape]; each node's result [B, *shape] is shown to the observer."""
        values = {self.graph.input.name: self.ops.tensor(check_inputs(self.graph, inputs))}
        last = {name: node for node in self.graph.nodes for name in node.inputs}
        for node in self.graph.nodes[1:]:
            values[node.name] = self.ops.evaluate(node, *(values[name] for name in node.inputs))
            if observer is not None:
                observer(node, values[node.name])
            for name in set(node.inputs):
                if last[name] is node:
                    del values[name]
        return values[self.graph.output.name].cpu().numpy()
