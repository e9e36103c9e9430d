"""Calibrate population by population, each on the spikes that the ones before it really emit.

The sweep visits the populations in topological order. For each it can replay, batch by batch, the
currents that arrive there; the visitor settles the population's parameters; then the sweep runs it
and keeps its spikes, one bit each, in a temporary file until nobody needs them. So every layer is
simulated a fixed number of times, whatever the depth, and memory does not grow with the samples.
Several processes share the batches: each keeps the spikes of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ops import integrate_and_fire
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.spiking import set_threshold
from icsnn_deploy.distributed import Result
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, LINEAR_NODES, Conv, Input, Linear, Output
from icsnn_deploy.passes.scale_current import scale_current
from icsnn_deploy.passes.shift_current import private_affine, shift_current
from icsnn_deploy.progress import Progress, silent

Reset = Literal["soft", "hard"]
"""hard (v = 0), which no converted network has, is there to measure others' rules."""


class Replay(Protocol):
    """Calls work(index of the first sample, currents [T, B, *shape]) for successive batches."""

    def __call__(self, work: Callable[[int, Tensor], Result]) -> Iterator[Result]: ...


class ReplayAffine(Protocol):
    """Calls work(index of the first sample, input, currents) for successive batches.

    Both are means over time: of what the affine node takes [B, *its shape], and of the currents
    [B, *shape].
    """

    def __call__(self, work: Callable[[int, Tensor, Tensor], Result]) -> Iterator[Result]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationInput:
    """What arrives at one population, or at the output, over all calibration samples."""

    node: IF | Output
    replay: Replay
    integrate: Callable[[IF, Tensor], Tensor]  # spikes [T, B, *shape] for currents
    affine: Conv | Linear | None  # whose result arrives here alone
    replay_affine: ReplayAffine


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationUpdate:
    """What a visitor wants of a population, or of the output (only a shift).

    gain and shift are one value a channel, [C]: the current becomes gain * current + shift.
    v_threshold and v_init are ready to broadcast. weight is for the arrival's affine node and comes
    first. Where `rescale` is off, the weights behind the population keep the amplitude they have
    (those of an integer network can't follow).
    """

    v_threshold: Array | None = None
    v_init: Array | None = None
    gain: Array | None = None
    shift: Array | None = None
    weight: Array | None = None
    rescale: bool = True

    def apply(self, network: Graph, name: str) -> Graph:
        """The network with the change."""
        affine = private_affine(network, name)
        if self.weight is not None and affine is not None:
            network = network.replace(replace(affine, weight=self.weight))
        if self.gain is not None:
            network = scale_current(network, name, self.gain)
        if self.shift is not None:
            network = shift_current(network, name, self.shift)
        if self.v_threshold is not None and self.rescale:
            network = set_threshold(network, name, self.v_threshold)
        elif self.v_threshold is not None:
            network = network.replace(
                replace(network.node(name), v_threshold=self.v_threshold)  # type: ignore[call-arg]
            )
        if self.v_init is not None:
            network = network.replace(
                replace(network.node(name), v_init=self.v_init)  # type: ignore[call-arg]
            )
        return network


class Visitor(Protocol):
    """Calibrates one population from what arrives there."""

    def __call__(self, population_input: PopulationInput) -> CalibrationUpdate: ...


def sweep(
    network: Graph,
    calibration: CalibrationSet,
    *visitors: Visitor,
    batch_size: int,
    reset: Reset = "soft",
    device: str = "cpu",
    stage: str = "sweep",
    progress: Progress = silent,
) -> Graph:
    """Visit every population and the output once, in order, and apply what the visitors want.

    Args:
        network: the IF network.
        calibration: samples that the network is run on.
        visitors: called with each arrival, in turn; each sees what the one before changed.
        batch_size: samples simulated at once.
        reset: of the populations while they are measured.
        device: torch device.
        stage: what to call this in the progress.
        progress: told after each population.
    """
    runner = _Runner(network, calibration, batch_size, reset, device)
    targets = [*network.nodes_of(IF), network.output]
    for done, target in enumerate(targets):
        progress(stage, done, len(targets))
        for visit in visitors:
            change = visit(runner.population_input(network.node(target.name)))  # type: ignore[arg-type]
            network = change.apply(network, target.name)
            runner.network = network
        if isinstance(target, IF):
            runner.settle(target.name)
    progress(stage, len(targets), len(targets))
    return network


class _Runner:
    """Replays currents out of stored spikes."""

    def __init__(
        self,
        network: Graph,
        calibration: CalibrationSet,
        batch_size: int,
        reset: Reset,
        device: str,
    ) -> None:
        self.network = network
        self.calibration = calibration
        self.batch_size = batch_size
        self.reset = reset
        self.device = device
        self.stored: dict[str, Array] = {}  # packed spikes [N, bytes], mapped files
        self.settled: set[str] = set()

    def population_input(self, node: IF | Output) -> PopulationInput:
        simulator = TorchSimulator(self.network, device=self.device)
        order, frontier = self._path(node.name)
        (source,) = node.inputs
        affine = private_affine(self.network, node.name)

        def replay(work: Callable[[int, Tensor], Result]) -> Iterator[Result]:
            def one(start: int, samples: Array) -> Result:
                (currents,) = self._values(simulator, (source,), order, frontier, start, samples)
                return work(start, currents)

            return self.calibration.map(self.batch_size, one)

        def replay_affine(work: Callable[[int, Tensor, Tensor], Result]) -> Iterator[Result]:
            if affine is None:
                return iter(())
            names = (affine.inputs[0], source)

            def one(start: int, samples: Array) -> Result:
                taken, currents = self._values(simulator, names, order, frontier, start, samples)
                return work(start, taken.mean(dim=0), currents.mean(dim=0))

            return self.calibration.map(self.batch_size, one)

        def integrate(population: IF, currents: Tensor) -> Tensor:
            v_init = simulator.ops.tensor(population.v_init)
            v_threshold = simulator.ops.tensor(population.v_threshold)
            v_reset = None if self.reset == "soft" else torch.zeros_like(v_threshold)
            return integrate_and_fire(currents, v_init, v_threshold, v_reset)[0]

        return PopulationInput(
            node=node,
            replay=replay,
            integrate=integrate,
            affine=affine,
            replay_affine=replay_affine,
        )

    def settle(self, name: str) -> None:
        """Run a population with its settled parameters and keep its spikes."""
        population_input = self.population_input(self.network.node(name))  # type: ignore[arg-type]
        bits = self.network.steps * int(np.prod(self.network.shape(name)))
        row = -(-bits // 8)  # bytes of a sample
        with tempfile.TemporaryFile() as file:

            def keep(start: int, currents: Tensor) -> None:
                spikes = population_input.integrate(population_input.node, currents)  # type: ignore[arg-type]
                rows = spikes.transpose(0, 1).flatten(1).to(torch.uint8)  # [B, T neurons]
                file.seek(start * row)  # another process's batches stay holes
                file.write(np.packbits(rows.cpu().numpy(), axis=1).tobytes())

            for _ in population_input.replay(keep):
                pass
            file.truncate(len(self.calibration) * row)
            # The mapping keeps the file when it is closed.
            shape = (len(self.calibration), row)
            self.stored[name] = np.memmap(file, np.uint8, "r", shape=shape)
        self.settled.add(name)
        waiting = [n.name for n in self.network.nodes_of(IF) if n.name not in self.settled]
        needed = set().union(*(self._path(n)[1] for n in [*waiting, self.network.output.name]))
        self.stored = {n: spikes for n, spikes in self.stored.items() if n in needed}

    def _path(self, name: str) -> tuple[list[str], set[str]]:
        """The memoryless nodes that lead to `name`, in order, and the sources they start from."""
        found = self.network.ancestors(name, lambda node: isinstance(node, LINEAR_NODES))
        frontier = {node.name for node in found if isinstance(node, (IF, Input))}
        return [node.name for node in found if node.name not in frontier], frontier

    @torch.no_grad()
    def _values(
        self,
        simulator: TorchSimulator,
        names: Sequence[str],
        order: list[str],
        frontier: set[str],
        start: int,
        samples: Array,
    ) -> list[Tensor]:
        """Results of some nodes for the batch that begins at `start`, [T, B, *shape]."""
        values = {source: self._source(simulator, source, samples, start) for source in frontier}
        for inner in order:
            node = self.network.node(inner)
            values[inner] = simulator.evaluate(node, [values[s] for s in node.inputs])
        return [simulator.over_time(name, values[name], len(samples)) for name in names]

    def _source(self, simulator: TorchSimulator, name: str, samples: Array, start: int) -> Tensor:
        """Samples, or stored spikes folded over time, [T B, *shape]."""
        if isinstance(self.network.node(name), Input):
            return simulator.ops.tensor(samples)
        shape = self.network.shape(name)
        packed = np.asarray(self.stored[name][start : start + len(samples)])
        count = self.network.steps * int(np.prod(shape))
        bits = np.unpackbits(packed, axis=1, count=count)
        folded = bits.reshape(len(samples), self.network.steps, *shape).swapaxes(0, 1)  # [T, B]
        return simulator.ops.tensor(folded.reshape(-1, *shape))
