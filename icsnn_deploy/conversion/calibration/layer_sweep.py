"""Calibrate population by population, each on the spikes that the preceding ones emit.

The sweep visits the populations in topological order. For each it can replay, batch by batch, the
currents that arrive there; a visitor chooses the population's parameters; then the sweep runs the
population and stores its spikes, one bit each, in a temporary file until no later layer needs them.
So every layer is simulated a fixed number of times, whatever the depth of the network, and memory
does not grow with the samples. Several processes share the batches: each stores the spikes of its
own batches.
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
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.spiking import set_threshold
from icsnn_deploy.distributed import WorkResult
from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, LINEAR_NODES, Conv, Input, Linear, Output
from icsnn_deploy.passes.scale_current import scale_current
from icsnn_deploy.passes.shift_current import private_affine, shift_current

_BATCHES = "batches of a layer"

Reset = Literal["soft", "hard"]
"""Reset of the populations during a sweep; "hard" (v = 0) is for the rules of other papers."""


class Replay(Protocol):
    """Calls work(index of the first sample, currents [T, B, *shape]) for successive batches."""

    def __call__(self, work: Callable[[int, Tensor], WorkResult]) -> Iterator[WorkResult]: ...


class ReplayAffine(Protocol):
    """Calls work(index of the first sample, inputs, currents) for successive batches.

    Both are means over time: inputs of the affine node [B, *its input shape], and currents
    [B, *shape].
    """

    def __call__(
        self, work: Callable[[int, Tensor, Tensor], WorkResult]
    ) -> Iterator[WorkResult]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class PopulationInput:
    """Currents of one population, or of the output, over all calibration samples.

    Args:
        node: the population or the output.
        replay: runs through the currents, batch by batch.
        integrate: spikes of a population for currents, both [T, B, *shape].
        affine: the affine node that feeds only this node, directly or through sums; if any.
        replay_affine: runs through the inputs of `affine` and the currents.
    """

    node: IF | Output
    replay: Replay
    integrate: Callable[[IF, Tensor], Tensor]
    affine: Conv | Linear | None
    replay_affine: ReplayAffine


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationUpdate:
    """New parameters of a population, or a shift of the output; None keeps a parameter.

    Args:
        v_threshold: ready to broadcast.
        v_init: ready to broadcast.
        gain: one value per channel, [C]: the current becomes gain * current + shift.
        shift: one value per channel, [C].
        weight: of the affine node that feeds only this population; it is applied first.
        rescale: scale the outgoing weights to the new v_threshold. False for integer networks,
            whose weights stay as they are.
    """

    v_threshold: Array | None = None
    v_init: Array | None = None
    gain: Array | None = None
    shift: Array | None = None
    weight: Array | None = None
    rescale: bool = True

    def apply(self, network: Graph, name: str) -> Graph:
        """The network with the new parameters."""
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
                replace(network.population(name), v_threshold=self.v_threshold)
            )
        if self.v_init is not None:
            network = network.replace(replace(network.population(name), v_init=self.v_init))
        return network


def _population(network: Graph, name: str) -> IF:
    node = network.node(name)
    if not isinstance(node, IF):
        raise GraphError(f"{name}: a {node.kind}; only a population has v_threshold and v_init")
    return node


class Visitor(Protocol):
    """Looks at the currents of one population, or of the output, and returns the update for it."""

    def __call__(self, population_input: PopulationInput) -> CalibrationUpdate: ...


def sweep(
    network: Graph,
    context: CalibrationContext,
    *visitors: Visitor,
    reset: Reset = "soft",
    stage: str = "sweep",
) -> Graph:
    """Visit every population and the output once, in order, and apply the visitors' updates.

    Args:
        network: the IF network.
        context: samples that the network is run on.
        visitors: called in turn for each population and the output; each sees the network as the
            one before left it.
        reset: of the populations during the sweep.
        stage: name under which progress is reported.
    """
    runner = _Runner(network, context, reset)
    names = [node.name for node in (*network.nodes_of(IF), network.output)]
    for done, name in enumerate(names):
        context.progress(stage, done, len(names))
        for visit in visitors:
            update = visit(runner.population_input(name))
            network = update.apply(network, name)
            runner.network = network
        if name != network.output.name:
            runner.store_spikes(name)
    context.progress(stage, len(names), len(names))
    return network


class _Runner:
    """Computes the currents of a population from the stored spikes of the preceding ones."""

    def __init__(self, network: Graph, context: CalibrationContext, reset: Reset) -> None:
        self.network = network
        self.context = context
        self.reset = reset
        self.stored: dict[str, Array] = {}  # packed spikes [N, bytes], mapped files
        self.finished: set[str] = set()  # populations that were simulated

    def population_input(self, name: str) -> PopulationInput:
        node = self.network.node(name)
        if not isinstance(node, (IF, Output)):
            raise GraphError(f"{name}: a {node.kind}; a population or the output is needed")
        simulator = TorchSimulator(self.network, device=self.context.device)
        order, frontier = self._path(name)
        (source,) = node.inputs
        affine = private_affine(self.network, name)

        def replay(work: Callable[[int, Tensor], WorkResult]) -> Iterator[WorkResult]:
            def one(start: int, samples: Array) -> WorkResult:
                (currents,) = self._values(simulator, (source,), order, frontier, start, samples)
                return work(start, currents)

            return self.context.map_inputs(one, stage=_BATCHES)

        def replay_affine(
            work: Callable[[int, Tensor, Tensor], WorkResult],
        ) -> Iterator[WorkResult]:
            if affine is None:
                return iter(())
            names = (affine.inputs[0], source)

            def one(start: int, samples: Array) -> WorkResult:
                inputs, currents = self._values(simulator, names, order, frontier, start, samples)
                return work(start, inputs.mean(dim=0), currents.mean(dim=0))

            return self.context.map_inputs(one, stage=_BATCHES)

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

    def store_spikes(self, name: str) -> None:
        """Run a population with its final parameters and store its spikes."""
        population = _population(self.network, name)
        population_input = self.population_input(name)
        bits = self.network.steps * int(np.prod(self.network.shape(name)))
        row = -(-bits // 8)  # bytes of a sample
        with tempfile.TemporaryFile() as file:

            def keep(start: int, currents: Tensor) -> None:
                spikes = population_input.integrate(population, currents)
                rows = spikes.transpose(0, 1).flatten(1).to(torch.uint8)  # [B, T neurons]
                file.seek(start * row)  # batches of other processes stay empty
                file.write(np.packbits(rows.cpu().numpy(), axis=1).tobytes())

            for _ in population_input.replay(keep):
                pass
            file.truncate(len(self.context) * row)
            # The mapping keeps the file alive after it is closed.
            shape = (len(self.context), row)
            self.stored[name] = np.memmap(file, np.uint8, "r", shape=shape)
        self.finished.add(name)
        waiting = [n.name for n in self.network.nodes_of(IF) if n.name not in self.finished]
        needed = set().union(*(self._path(n)[1] for n in [*waiting, self.network.output.name]))
        self.stored = {n: spikes for n, spikes in self.stored.items() if n in needed}

    def _path(self, name: str) -> tuple[list[str], set[str]]:
        """The memoryless nodes that lead to `name`, in order, and the nodes that feed them."""
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
        node = self.network.input
        batch = samples.shape[node.batch_axis]
        if node.is_timed:
            samples = samples.reshape(-1, *node.shape)  # [T B, *shape]
        values = {
            source: self._source(simulator, source, samples, start, batch) for source in frontier
        }
        for inner in order:
            found = self.network.node(inner)
            values[inner] = simulator.evaluate(found, [values[s] for s in found.inputs])
        return [simulator.over_time(name, values[name], batch) for name in names]

    def _source(
        self, simulator: TorchSimulator, name: str, samples: Array, start: int, batch: int
    ) -> Tensor:
        """Samples, or stored spikes with time folded into the batch, [T B, *shape]."""
        if isinstance(self.network.node(name), Input):
            return simulator.ops.tensor(samples)
        shape = self.network.shape(name)
        packed = np.asarray(self.stored[name][start : start + batch])
        count = self.network.steps * int(np.prod(shape))
        bits = np.unpackbits(packed, axis=1, count=count)
        folded = bits.reshape(batch, self.network.steps, *shape).swapaxes(0, 1)  # [T, B]
        return simulator.ops.tensor(folded.reshape(-1, *shape))
